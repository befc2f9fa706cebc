//! Kernel sources to machine code, by NVRTC.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cudarc::nvrtc::sys;

use crate::cuda::CudaError;
use crate::cuda::cache::Cache;
use crate::cuda::plan::catalogue;
use crate::cuda::source::Unit;

/// A compiler's log beyond this is cut off.
const LOG_BYTES_MAX: usize = 64 << 10;

/// What came of one kernel source for one architecture.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The source and its options.
    pub unit: String,
    /// What it was compiled for.
    pub arch: String,
    /// The machine code's size.
    pub bytes: usize,
    /// How long it took.
    pub took: Duration,
}

/// Compiles every kernel source for these architectures (such as `sm_90a`): in every form that operations ask for for the
/// first, in a form of each kind for the others. It needs NVRTC, and no device.
///
/// # Errors
/// [`CudaError::Absent`] without NVRTC, [`CudaError::Compiler`] with the compiler's words.
pub fn compile_everything(archs: &[&str]) -> Result<Vec<Compiled>, CudaError> {
    let nvrtc = Nvrtc::find()?;
    let (units, kinds) = (catalogue::units(), catalogue::kinds());
    let jobs: Vec<(&Unit, &str)> = archs
        .iter()
        .enumerate()
        .flat_map(|(i, &arch)| {
            let of_arch = if i == 0 { &units } else { &kinds };
            of_arch.iter().map(move |unit| (unit, arch))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(&(unit, arch)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            let bytes = nvrtc.compile(unit, arch)?.len();
            let (unit, arch) = (unit.name(), arch.to_owned());
            done.push(Compiled { unit, arch, bytes, took: begun.elapsed() });
        }
        Ok(done)
    };
    let ended = |_| CudaError::Compiler("a thread that compiled has ended".to_owned());
    let count = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(ended)??);
        }
        Ok(all)
    })
}

/// The compiler.
pub(crate) struct Nvrtc {
    version: String,
}

impl Nvrtc {
    /// Looks for the library.
    pub(crate) fn find() -> Result<Nvrtc, CudaError> {
        // SAFETY: Loading a library runs its initialisers; this one is NVIDIA's, from where the system finds libraries.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::Absent(
                "the library nvrtc is not there, which compiles kernels; install CUDA 13 or the PyPI package \
                 nvidia-cuda-nvrtc, and name its folder in LD_LIBRARY_PATH"
                    .to_owned(),
            ));
        }
        let (mut major, mut minor) = (0, 0);
        // SAFETY: Both pointers are to numbers that live until it returns.
        check("nvrtcVersion", unsafe { sys::nvrtcVersion(&mut major, &mut minor) })?;
        if major < 13 {
            return Err(CudaError::Absent(format!(
                "NVRTC is {major}.{minor}; 13.0 or later is needed"
            )));
        }
        Ok(Nvrtc { version: format!("nvrtc {major}.{minor}") })
    }

    /// Machine code from the cache, else compiled and kept there.
    pub(crate) fn cached(
        &self,
        unit: &Unit,
        arch: &str,
        cache: Option<&Cache>,
    ) -> Result<Vec<u8>, CudaError> {
        let Some(cache) = cache else { return self.compile(unit, arch) };
        let key = Cache::key(&unit.text(), &options(unit, arch), &self.version);
        if let Some(kept) = cache.get(&key) {
            return Ok(kept);
        }
        let made = self.compile(unit, arch)?;
        cache.put(&key, &made);
        Ok(made)
    }

    /// Machine code for `arch`.
    pub(crate) fn compile(&self, unit: &Unit, arch: &str) -> Result<Vec<u8>, CudaError> {
        let whole = |text: &str| {
            CString::new(text).map_err(|_| CudaError::Compiler(format!("{text:?} holds a NUL")))
        };
        let (source, name) = (whole(&unit.text())?, whole(unit.source.name())?);
        let options: Result<Vec<CString>, _> =
            options(unit, arch).iter().map(|option| whole(option)).collect();
        let options = options?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = ptr::null_mut();
        // SAFETY: The source and the name end with NUL and live until it returns; there are no headers.
        check("nvrtcCreateProgram", unsafe {
            sys::nvrtcCreateProgram(
                &mut program,
                source.as_ptr(),
                name.as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            )
        })?;
        let program = Program(program);
        let count = pointers.len() as i32;
        // SAFETY: `pointers` holds `count` strings that end with NUL; all live until it returns.
        let done = unsafe { sys::nvrtcCompileProgram(program.0, count, pointers.as_ptr()) };
        if done != sys::nvrtcResult::NVRTC_SUCCESS {
            let (unit, log) = (unit.name(), program.log());
            return Err(CudaError::Compiler(format!("{unit} for {arch}: {done:?}\n{log}")));
        }
        program.machine_code()
    }
}

/// What the compiler is told.
fn options(unit: &Unit, arch: &str) -> Vec<String> {
    let defines = unit.options.iter().map(|option| format!("--define-macro={option}"));
    [format!("--gpu-architecture={arch}"), "--std=c++17".to_owned()]
        .into_iter()
        .chain(defines)
        .collect()
}

fn check(what: &str, result: sys::nvrtcResult) -> Result<(), CudaError> {
    match result {
        sys::nvrtcResult::NVRTC_SUCCESS => Ok(()),
        error => Err(CudaError::Compiler(format!("{what} answered {error:?}"))),
    }
}

/// A program that is destroyed when it is dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    fn machine_code(&self) -> Result<Vec<u8>, CudaError> {
        let mut bytes = 0;
        // SAFETY: The program lives, and `bytes` until it returns.
        check("nvrtcGetCUBINSize", unsafe { sys::nvrtcGetCUBINSize(self.0, &mut bytes) })?;
        let mut code = vec![0u8; bytes];
        // SAFETY: The program lives, and `code` has as many bytes as it said that it writes.
        check("nvrtcGetCUBIN", unsafe { sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()) })?;
        Ok(code)
    }

    fn log(&self) -> String {
        let mut bytes = 0;
        // SAFETY: The program lives, and `bytes` until it returns.
        if check("", unsafe { sys::nvrtcGetProgramLogSize(self.0, &mut bytes) }).is_err() {
            return String::new();
        }
        let mut log = vec![0u8; bytes];
        // SAFETY: The program lives, and `log` has as many bytes as it said that it writes.
        let _ = unsafe { sys::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast()) };
        log.truncate(LOG_BYTES_MAX);
        String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: It was made by nvrtcCreateProgram, and nothing uses it after this.
        let _ = unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}
