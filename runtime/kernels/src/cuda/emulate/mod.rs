//! A device for tests: the kernel sources, compiled for the processor and run by a program of its own, whose memory is
//! guarded so that a kernel cannot read or write outside of its operands unseen.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use crate::cuda::CudaError;
use crate::cuda::machine::{Bound, BoundProduct, Done, Facts, Id, Machine};
use crate::cuda::source::Unit;

/// The device and what was recorded on it.
pub(crate) struct Emulated {
    facts: Facts,
    state: Mutex<State>,
}

struct State {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
    loaded: HashMap<Unit, ()>,
    next: Id,
    recording: Option<Vec<Vec<u8>>>,
    graphs: HashMap<Id, Vec<Vec<u8>>>,
    sizes: HashMap<u64, u64>,
    /// The bytes that are taken from each pool.
    pools: HashMap<Id, (u64, u64)>,
    owners: HashMap<u64, Id>,
    /// Kernels that were launched, by name.
    launched: Vec<String>,
}

impl Emulated {
    pub(crate) fn open() -> Emulated {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/emulate/device.cpp");
        let text = include_str!("device.cpp");
        let program = built("device", text, |to| {
            compiler().args(["-O1", "-rdynamic", "-o"]).arg(to).arg(source).arg("-ldl").output()
        });
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the emulated device starts");
        let input = child.stdin.take().unwrap();
        let output = child.stdout.take().unwrap();
        let facts = Facts {
            name: "emulated".to_owned(),
            arch: "sm_80".to_owned(),
            processors: 4,
            shared_bytes_max: 96 << 10,
            library: false,
        };
        let state = State {
            _child: child,
            input,
            output,
            loaded: HashMap::new(),
            next: 1,
            recording: None,
            graphs: HashMap::new(),
            sizes: HashMap::new(),
            pools: HashMap::new(),
            owners: HashMap::new(),
            launched: Vec::new(),
        };
        Emulated { facts, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Destructors run when a test has failed, and must not fail again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernels that were launched since the last call.
    pub(crate) fn launched(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().launched)
    }

    /// The pieces of memory that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.lock().sizes.len()
    }
}

impl State {
    fn name(&mut self) -> Id {
        self.next += 1;
        self.next
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), CudaError> {
        self.input.write_all(bytes).and_then(|()| self.input.flush()).map_err(gone)
    }

    fn receive(&mut self, bytes: usize) -> Result<Vec<u8>, CudaError> {
        let mut got = vec![0; bytes];
        self.output.read_exact(&mut got).map_err(gone)?;
        Ok(got)
    }

    /// Does a command, or records it.
    fn work(&mut self, command: Vec<u8>) -> Result<(), CudaError> {
        match &mut self.recording {
            Some(commands) => {
                commands.push(command);
                Ok(())
            }
            None => self.done(&command),
        }
    }

    fn done(&mut self, command: &[u8]) -> Result<(), CudaError> {
        self.send(command)?;
        if command.first() == Some(&b'L') {
            self.receive(1)?;
        }
        Ok(())
    }
}

fn gone(error: std::io::Error) -> CudaError {
    CudaError::Device(format!("the emulated device ended: {error}"))
}

/// A command of these parts.
fn command(name: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[name][..], &parts.concat()].concat()
}

impl Machine for Emulated {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn pool(&self, bytes_max: u64) -> Result<Id, CudaError> {
        let mut state = self.lock();
        let id = state.name();
        state.pools.insert(id, (0, bytes_max));
        Ok(id)
    }

    fn drop_pool(&self, pool: Id) {
        let (taken, _) = self.lock().pools.remove(&pool).expect("a pool is dropped once");
        assert_eq!(taken, 0, "a pool was dropped with memory taken");
    }

    fn stream(&self) -> Result<Id, CudaError> {
        Ok(self.lock().name())
    }

    fn drop_stream(&self, _stream: Id) {}

    fn allocate(&self, pool: Id, _stream: Id, bytes: u64) -> Result<u64, CudaError> {
        let mut state = self.lock();
        assert!(state.recording.is_none(), "memory was taken while recording");
        let (taken, max) = state.pools.get_mut(&pool).expect("the pool lives");
        *taken += bytes;
        assert!(*taken <= *max, "the pool counts wrongly");
        state.send(&command(b'A', &[&bytes.to_le_bytes()]))?;
        let address = u64::from_le_bytes(state.receive(8)?.try_into().unwrap());
        state.sizes.insert(address, bytes);
        state.owners.insert(address, pool);
        Ok(address)
    }

    fn free(&self, _stream: Id, address: u64) {
        let mut state = self.lock();
        let bytes = state.sizes.remove(&address).expect("what is freed was taken");
        let pool = state.owners.remove(&address).unwrap();
        state.pools.get_mut(&pool).expect("memory goes before its pool").0 -= bytes;
        // When the device has ended, the test has failed already.
        let _ = state.send(&command(b'F', &[&address.to_le_bytes()]));
    }

    fn upload(&self, _stream: Id, to: u64, bytes: &[u8]) -> Result<(), CudaError> {
        let mut state = self.lock();
        assert!(state.recording.is_none(), "an upload was recorded");
        let len = bytes.len() as u64;
        state.send(&command(b'W', &[&to.to_le_bytes(), &len.to_le_bytes(), bytes]))
    }

    fn download(&self, _stream: Id, from: u64, bytes: usize, done: Done) -> Result<(), CudaError> {
        let mut state = self.lock();
        assert!(state.recording.is_none(), "a download was recorded");
        let len = bytes as u64;
        state.send(&command(b'R', &[&from.to_le_bytes(), &len.to_le_bytes()]))?;
        let got = state.receive(bytes);
        drop(state);
        done(got);
        Ok(())
    }

    fn copy(&self, _stream: Id, from: u64, to: u64, bytes: u64) -> Result<(), CudaError> {
        let parts = [to.to_le_bytes(), from.to_le_bytes(), bytes.to_le_bytes()].concat();
        self.lock().work(command(b'C', &[&parts]))
    }

    fn fill(&self, _stream: Id, to: u64, byte: u8, bytes: u64) -> Result<(), CudaError> {
        let parts = [&to.to_le_bytes()[..], &[byte], &bytes.to_le_bytes()];
        self.lock().work(command(b'S', &parts))
    }

    fn launch(&self, _stream: Id, kernel: &Bound<'_>) -> Result<(), CudaError> {
        let mut state = self.lock();
        assert!(kernel.shared_bytes <= self.facts.shared_bytes_max);
        assert!(kernel.params.len() <= 4096, "a kernel's parameters are too many");
        if !state.loaded.contains_key(kernel.unit) {
            let library = library(kernel.unit);
            let path = library.to_str().unwrap().as_bytes();
            let len = path.len() as u64;
            state.send(&command(b'D', &[&len.to_le_bytes(), path]))?;
            state.loaded.insert(kernel.unit.clone(), ());
        }
        let name = format!("{}/{}", kernel.unit.name(), kernel.kernel);
        state.launched.push(name.clone());
        let dims = |dims: [u32; 3]| dims.map(u32::to_le_bytes).concat();
        let parts = [
            &(name.len() as u64).to_le_bytes()[..],
            name.as_bytes(),
            &dims(kernel.grid),
            &dims(kernel.block),
            &kernel.shared_bytes.to_le_bytes(),
            &(kernel.params.len() as u64).to_le_bytes(),
            kernel.params,
        ];
        state.work(command(b'L', &parts))
    }

    fn product(&self, _stream: Id, _product: &BoundProduct<'_>) -> Result<(), CudaError> {
        unreachable!("the emulated device has no library")
    }

    fn after(&self, _stream: Id, _other: Id) -> Result<(), CudaError> {
        Ok(())
    }

    fn record(&self, _stream: Id) -> Result<(), CudaError> {
        self.lock().recording = Some(Vec::new());
        Ok(())
    }

    fn recorded(&self, _stream: Id) -> Result<Id, CudaError> {
        let mut state = self.lock();
        let commands = state.recording.take().expect("recording began");
        let id = state.name();
        state.graphs.insert(id, commands);
        Ok(id)
    }

    fn replay(&self, _stream: Id, graph: Id) -> Result<(), CudaError> {
        let mut state = self.lock();
        let commands = state.graphs.get(&graph).expect("the graph lives").clone();
        commands.iter().try_for_each(|command| state.done(command))
    }

    fn drop_graph(&self, graph: Id) {
        self.lock().graphs.remove(&graph).expect("a graph is dropped once");
    }
}

fn compiler() -> Command {
    let mut command = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    command.args(["-std=c++17", "-fno-strict-aliasing", "-ffp-contract=off", "-w"]);
    command
}

/// A unit's kernels as a library for the processor.
fn library(unit: &Unit) -> PathBuf {
    let header = include_str!("emulate.h");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/emulate");
    let defines: String = unit
        .options
        .iter()
        .map(|option| format!("#define {}\n", option.replacen('=', " ", 1)))
        .collect();
    let begin = format!("#include \"emulate.h\"\n#define UNIT \"{}\"\n{defines}", unit.name());
    let text = format!("{begin}namespace {{\n{}\n}}\n", unit.text());
    built("unit", &[header, &text].concat(), |to| {
        let source = to.with_extension("cpp");
        std::fs::write(&source, &text)?;
        let mut command = compiler();
        command.args(["-O1", "-shared", "-fPIC", "-I", folder, "-o"]).arg(to).arg(source);
        command.output()
    })
}

/// A file that `build` makes from `text`, made once: it is found again by the digest of that.
fn built(
    kind: &str,
    text: &str,
    build: impl FnOnce(&Path) -> std::io::Result<std::process::Output>,
) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::current_exe().unwrap().with_file_name("innkeeper-emulated");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    });
    let name = format!("{kind}-{}", hex::encode(&Sha256::digest(text)[..12]));
    let path = folder.join(&name);
    if !path.exists() {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let beside = folder.join(format!("{name}.{}.{number}", std::process::id()));
        let output = build(&beside).expect(
            "a C++ compiler, which tests of kernels need: on Debian, apt-get install g++, or name one in CXX",
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        std::fs::rename(&beside, &path).unwrap();
    }
    path
}
