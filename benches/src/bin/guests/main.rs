//! Times MiniLM in a guest for `benches/guests.py`, which takes it in turn with ONNX Runtime.
//!
//! Usage: `guests COMPONENT ONNX WEIGHTS`: the component of `benches/guests/minilm`, and the files it has as assets. One
//! command a line on standard input, its words separated by tabs, one answer a line:
//!
//! * `time PATH INPUTS THREADS MS` calls it for about that long: the median time of a call in microseconds;
//! * `cpu PATH INPUTS THREADS MS`: the mean time that all threads together are on a processor;
//! * `check PATH INPUTS THREADS` calls it once: how far it is from the output in the file of inputs, as a share of the
//!   largest element.
//!
//! PATH is `nn`, `graph` or `tensors`, the ways of a guest, or `native`, the same kernels called from Rust. INPUTS is a
//! safetensors file with tensors `input.NAME` and `output.NAME`.

mod native;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use innkeeper_formats::safetensors;
use innkeeper_kernels::{Memory, Pool, Run};
use innkeeper_sandbox::{
    Asset, AssetMemory, Assets, ByteBudget, Call, Cancel, Compiler, Engine, EngineConfig, Instance,
    InstanceLimits, Level, LogSink, Network, Program, Seal, Setup,
};
use innkeeper_tensor::{Buffer, Named, Tensor};
use tokio::runtime::Runtime;

use native::Native;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OUTPUT: &str = "last_hidden_state";
/// What an instance keeps of dropped results, for the native side too.
const MEMORY_BYTES_MAX: usize = 32 << 20;
/// Calls before the clock begins.
const WARM_UP: usize = 3;
const TENSOR_BYTES_MAX: u64 = 512 << 20;
const DEADLINE_MS_MAX: u64 = 30_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, component, onnx, weights] = &arguments[..] else {
        return Err("usage: guests COMPONENT ONNX WEIGHTS".into());
    };
    let mut bench = Bench::new(component, onnx, weights)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split('\t').collect();
        let answer = match *words.as_slice() {
            ["time", path, inputs, threads, ms] => {
                bench.time(path, inputs, threads.parse()?, ms.parse()?)?
            }
            ["cpu", path, inputs, threads, ms] => {
                bench.cpu(path, inputs, threads.parse()?, ms.parse()?)?
            }
            ["check", path, inputs, threads] => bench.check(path, inputs, threads.parse()?)?,
            _ => return Err(format!("no such command: {line}").into()),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

struct Bench {
    component: Vec<u8>,
    assets: Arc<Assets>,
    native: Native,
    runtime: Runtime,
    /// Of one number of threads at a time, so that no other one's threads are awake.
    host: Option<Host>,
}

/// What runs on some number of threads.
struct Host {
    threads: usize,
    engine: Engine,
    instance: Option<Instance>,
    pool: Pool,
    memory: Memory,
}

/// The request, and what is wanted of it.
struct Request {
    inputs: Vec<Named>,
    wanted: Tensor,
}

impl Bench {
    fn new(component: &str, onnx: &str, weights: &str) -> Result<Bench> {
        let budget = ByteBudget::new(8 << 30);
        let onnx = Buffer::aligned_copy(&std::fs::read(onnx)?);
        let weights = Buffer::aligned_copy(&std::fs::read(weights)?);
        let tensors = safetensors::tensors(&weights)?;
        let network = Arc::new(Network::load(&onnx, 1 << 30)?);
        let assets = [
            asset("minilm.onnx", onnx, BTreeMap::new(), Some(network), &budget)?,
            asset("weights.safetensors", weights, tensors.clone(), None, &budget)?,
        ];
        Ok(Bench {
            component: std::fs::read(component)?,
            assets: Arc::new(Assets::new(assets)),
            native: Native(tensors),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?,
            host: None,
        })
    }

    /// Readies the host and says whether it may be used by `path`.
    fn host(&mut self, threads: usize) -> Result<()> {
        if self.host.as_ref().is_none_or(|host| host.threads != threads) {
            self.host = None;
            self.host = Some(self.make_host(threads)?);
        }
        Ok(())
    }

    fn make_host(&self, threads: usize) -> Result<Host> {
        let engine =
            Engine::new(&EngineConfig { kernel_threads: threads, ..EngineConfig::default() })?;
        let seal = Seal::new([1; 32]);
        let component = self.component.clone();
        let code = self.runtime.block_on(Compiler::in_process().compile(&engine, component))?;
        let sealed = seal.close(&engine.fingerprint(), &[0; 32], &code);
        let program = Program::open(&engine, &seal, &[0; 32], &sealed)?;
        let setup = setup(Arc::clone(&self.assets));
        let load = async move { program.instantiate(setup).await };
        let instance = self.runtime.block_on(engine.run(load, &engine.share(100), false));
        let instance = instance.ok_or("loading panicked")?.map_err(|error| error.to_string())?;
        let (pool, memory) = (Pool::new(threads)?, Memory::new(MEMORY_BYTES_MAX));
        Ok(Host { threads, engine, instance: Some(instance), pool, memory })
    }

    fn call(&mut self, path: &str, request: &Request) -> Result<Tensor> {
        let host = self.host.as_mut().ok_or("there is no host")?;
        if path == "native" {
            let run = Run::new().on(&host.pool, host.threads).recycling(&host.memory);
            let ids = request.inputs.iter().find(|input| input.name == "input_ids");
            let ids = &ids.ok_or("there are no input_ids")?.tensor;
            return Ok(self.native.encode(ids, &run)?);
        }
        let mut instance = host.instance.take().ok_or("the guest is gone")?;
        let call = guest_call(path, request.inputs.clone());
        let predict = async move {
            let answer = instance.predict(call).await;
            (instance, answer)
        };
        // As a model that takes long is served: on the guests' threads from the start.
        let share = host.engine.share(100);
        let run = host.engine.run(predict, &share, false);
        let (instance, answer) = self.runtime.block_on(run).ok_or("the host panicked")?;
        host.instance = Some(instance);
        let mut answer = answer.map_err(|error| error.to_string())?;
        Ok(answer.pop().ok_or("the guest answered nothing")?.tensor)
    }

    fn time(&mut self, path: &str, inputs: &str, threads: usize, ms: u64) -> Result<String> {
        let request = self.ready(path, inputs, threads)?;
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_millis(ms) || times.len() < WARM_UP {
            let call = Instant::now();
            drop(self.call(path, &request)?);
            times.push(call.elapsed());
        }
        times.sort();
        Ok(format!("{:.3}", times[times.len() / 2].as_secs_f64() * 1e6))
    }

    fn cpu(&mut self, path: &str, inputs: &str, threads: usize, ms: u64) -> Result<String> {
        let request = self.ready(path, inputs, threads)?;
        let (began, before, mut calls) = (Instant::now(), on_processors()?, 0u32);
        while began.elapsed() < Duration::from_millis(ms) || calls == 0 {
            drop(self.call(path, &request)?);
            calls += 1;
        }
        let took = on_processors()?.saturating_sub(before) / calls;
        Ok(format!("{:.3}", took.as_secs_f64() * 1e6))
    }

    fn check(&mut self, path: &str, inputs: &str, threads: usize) -> Result<String> {
        let request = self.ready(path, inputs, threads)?;
        let got = self.call(path, &request)?;
        if got.shape() != request.wanted.shape() {
            return Err(format!("{path} answered {}", got.shape()).into());
        }
        let (got, wanted) = (got.elements::<f32>()?, request.wanted.elements::<f32>()?);
        let largest = wanted.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
        let off = got.iter().zip(wanted.iter()).map(|(a, b)| f64::from((a - b).abs() / largest));
        let worst = off.fold(0.0, |max, x| if x.is_nan() { f64::INFINITY } else { x.max(max) });
        Ok(format!("{worst:e}"))
    }

    /// The request, for which everything is warm.
    fn ready(&mut self, path: &str, inputs: &str, threads: usize) -> Result<Request> {
        let (mut given, mut wanted) = (Vec::new(), None);
        for (name, tensor) in safetensors::tensors(&Buffer::aligned_copy(&std::fs::read(inputs)?))?
        {
            match name.split_once('.') {
                Some(("input", name)) => given.push(Named { name: name.into(), tensor }),
                Some(("output", OUTPUT)) => wanted = Some(tensor),
                _ => {}
            }
        }
        let wanted = wanted.ok_or("the file of inputs has no output to compare with")?;
        let request = Request { inputs: given, wanted };
        self.host(threads)?;
        for _ in 0..WARM_UP {
            drop(self.call(path, &request)?);
        }
        Ok(request)
    }
}

fn asset(
    name: &str,
    bytes: Buffer,
    tensors: BTreeMap<String, Tensor>,
    network: Option<Arc<Network>>,
    budget: &Arc<ByteBudget>,
) -> Result<Asset> {
    let memory = AssetMemory::new(budget, bytes.len() as u64, &tensors);
    let memory = Arc::new(memory.map_err(|over| format!("{over:?}"))?);
    let tensors = Arc::new(tensors);
    Ok(Asset { name: name.into(), digest: String::new(), bytes, tensors, network, memory })
}

fn setup(assets: Arc<Assets>) -> Setup {
    Setup {
        assets,
        limits: InstanceLimits {
            guest_memory_bytes_max: 256 << 20,
            table_elements_max: 20_000,
            handles_max: 10_000,
            hostcall_bytes_max: 64 << 20,
            output_bytes_max: 64 << 20,
            log_bytes_max: 16 << 10,
        },
        tensor_bytes: ByteBudget::new(TENSOR_BYTES_MAX),
        log: Arc::new(NoLog),
        deadline: Instant::now() + Duration::from_millis(DEADLINE_MS_MAX),
        load_ms_max: DEADLINE_MS_MAX,
        cancel: Cancel::default(),
    }
}

fn guest_call(path: &str, inputs: Vec<Named>) -> Call {
    Call {
        id: String::new(),
        parameters: Arc::new(vec![("path".into(), format!("\"{path}\""))]),
        inputs,
        outputs: Arc::default(),
        deadline: Instant::now() + Duration::from_millis(DEADLINE_MS_MAX),
        deadline_ms_max: DEADLINE_MS_MAX,
        cancel: Cancel::default(),
        work: None,
    }
}

struct NoLog;

impl LogSink for NoLog {
    fn write(&self, _: Level, _: &str, _: &str) {}
    fn dropped(&self, _: &str, _: u64) {}
}

/// How long the threads of this process have been on a processor.
fn on_processors() -> Result<Duration> {
    let mut nanos = 0u64;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split(' ').next().ok_or("the system does not count")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}
