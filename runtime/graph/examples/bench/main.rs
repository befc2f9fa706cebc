//! Times the executor for `benches/minilm.py` and `benches/models.py`, which take it in turn with other runtimes.
//!
//! One command a line on standard input, its words separated by tabs, one answer a line:
//!
//! * `time MODEL INPUTS THREADS MS` runs the model for about that long: the median time of a call in microseconds;
//! * `cpu MODEL INPUTS MS` does so on this thread alone: its mean time on a processor, for a machine that is busy with
//!   other things;
//! * `check MODEL INPUTS THREADS` runs it once: how far it is from the outputs that the file of inputs also has, as a
//!   share of the largest element;
//! * `profile MODEL INPUTS THREADS CALLS`: the operations, each with its operands, by the time they took; an empty line
//!   ends it.
//!
//! INPUTS is a safetensors file with tensors `input.NAME`, and for `check` also `output.NAME`. MODEL is an ONNX file, or
//! the weights of `plugins/minilm`: then the same network runs on the kernels directly.
//!
//! It computes on the device that its one argument names, `cpu` without one; `cuda:0` wants the feature `cuda`.

mod minilm;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use innkeeper_formats::safetensors;
use innkeeper_graph::{Graph, LoadLimits, Unlimited};
use innkeeper_kernels::{Backend, Cpu, Memory, Op, OpError, Pool, Run};
use innkeeper_tensor::{Buffer, Named, Tensor};

use minilm::MiniLm;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Enough for the results of any of the models.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// Calls before the clock begins.
const WARM_UP: usize = 3;

fn main() -> Result<()> {
    let device = std::env::args().nth(1).unwrap_or_else(|| "cpu".to_owned());
    let backend = backend(&device)?;
    let mut bench = Bench { backend, models: HashMap::new(), pools: HashMap::new() };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split('\t').collect();
        let answer = match *words.as_slice() {
            ["time", model, inputs, threads, ms] => {
                bench.time(model, inputs, threads.parse()?, ms.parse()?)?
            }
            ["cpu", model, inputs, ms] => bench.cpu(model, inputs, ms.parse()?)?,
            ["check", model, inputs, threads] => bench.check(model, inputs, threads.parse()?)?,
            ["profile", model, inputs, threads, calls] => {
                bench.profile(model, inputs, threads.parse()?, calls.parse()?)?
            }
            _ => return Err(format!("no such command: {line}").into()),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn backend(device: &str) -> Result<Arc<dyn Backend>> {
    match device {
        "cpu" => Ok(Arc::new(Cpu::new())),
        #[cfg(feature = "cuda")]
        "cuda:0" => Ok(Arc::new(innkeeper_kernels::Cuda::open(0)?)),
        _ => Err(format!("there is no device {device}; was the feature cuda left out?").into()),
    }
}

enum Model {
    Graph(Box<Graph>),
    MiniLm(MiniLm),
}

struct Bench {
    backend: Arc<dyn Backend>,
    models: HashMap<String, Model>,
    pools: HashMap<usize, (Pool, Memory)>,
}

/// A model and what it runs with.
struct Ready<'a> {
    model: &'a Model,
    run: Run<'a>,
    inputs: Vec<Named>,
    wanted: BTreeMap<String, Tensor>,
}

impl Bench {
    fn ready(&mut self, model: &str, inputs: &str, threads: usize) -> Result<Ready<'_>> {
        if !self.models.contains_key(model) {
            let file = std::fs::read(model)?;
            let loaded = if model.ends_with(".safetensors") {
                let weights = safetensors::tensors(&Buffer::aligned_copy(&file))?;
                Model::MiniLm(MiniLm::new(weights))
            } else {
                Model::Graph(Graph::load(&file, &LoadLimits::default(), &Run::new())?.into())
            };
            self.models.insert(model.to_owned(), loaded);
        }
        if !self.pools.contains_key(&threads) {
            // One pool at a time, so that no other one's threads are awake.
            self.pools.clear();
            self.pools.insert(threads, (Pool::new(threads)?, Memory::new(MEMORY_BYTES_MAX)));
        }
        let (pool, memory) = &self.pools[&threads];
        let run = Run::new().on(pool, threads).recycling(memory);
        let (inputs, wanted) = tensors(inputs)?;
        Ok(Ready { model: &self.models[model], run, inputs, wanted })
    }

    fn time(&mut self, model: &str, inputs: &str, threads: usize, ms: u64) -> Result<String> {
        let backend = Arc::clone(&self.backend);
        let ready = self.ready(model, inputs, threads)?;
        for _ in 0..WARM_UP {
            ready.call(&*backend)?;
        }
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_millis(ms) || times.len() < WARM_UP {
            let call = Instant::now();
            ready.call(&*backend)?;
            times.push(call.elapsed());
        }
        times.sort();
        Ok(format!("{:.3}", times[times.len() / 2].as_secs_f64() * 1e6))
    }

    fn cpu(&mut self, model: &str, inputs: &str, ms: u64) -> Result<String> {
        let backend = Arc::clone(&self.backend);
        let ready = self.ready(model, inputs, 1)?;
        for _ in 0..WARM_UP {
            ready.call(&*backend)?;
        }
        let (began, before, mut calls) = (Instant::now(), on_processor()?, 0u32);
        while began.elapsed() < Duration::from_millis(ms) || calls == 0 {
            ready.call(&*backend)?;
            calls += 1;
        }
        let took = on_processor()?.saturating_sub(before) / calls;
        Ok(format!("{:.3}", took.as_secs_f64() * 1e6))
    }

    fn check(&mut self, model: &str, inputs: &str, threads: usize) -> Result<String> {
        let backend = Arc::clone(&self.backend);
        let ready = self.ready(model, inputs, threads)?;
        let mut worst = 0.0f64;
        for Named { name, tensor } in ready.outputs(&*backend)? {
            let wanted = ready.wanted.get(&*name).ok_or("there is nothing to compare with")?;
            worst = worst.max(distance(&tensor, wanted)?);
        }
        Ok(format!("{worst:e}"))
    }

    fn profile(
        &mut self,
        model: &str,
        inputs: &str,
        threads: usize,
        calls: usize,
    ) -> Result<String> {
        let backend = Arc::clone(&self.backend);
        let ready = self.ready(model, inputs, threads)?;
        ready.call(&*backend)?;
        let profile = Profile { backend, spent: Mutex::default() };
        let began = Instant::now();
        for _ in 0..calls {
            ready.call(&profile)?;
        }
        let calls = calls.max(1) as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / calls;
        let mut text = format!("{:10.1} us a call\n", micros(began.elapsed()));
        let spent = profile.spent.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut spent: Vec<_> = spent.into_iter().collect();
        spent.sort_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
        for (what, (count, time)) in spent {
            text += &format!("{:10.1} us  {:6.1} x {what}\n", micros(time), count as f64 / calls);
        }
        Ok(text)
    }
}

impl Ready<'_> {
    fn outputs(&self, backend: &dyn Backend) -> Result<Vec<Named>> {
        match self.model {
            Model::Graph(graph) => {
                let inputs = self.inputs.clone();
                Ok(graph.run(backend, inputs, None, &Unlimited, &self.run)?)
            }
            Model::MiniLm(model) => model.run(backend, &self.inputs, &self.run),
        }
    }

    fn call(&self, backend: &dyn Backend) -> Result<()> {
        for output in self.outputs(backend)? {
            // What lies on a device is there when its work is done.
            output.tensor.fetch()?;
            self.run.recycle(output.tensor);
        }
        Ok(())
    }
}

/// A backend that notes how long each operation takes.
struct Profile {
    backend: Arc<dyn Backend>,
    spent: Mutex<HashMap<String, (u64, Duration)>>,
}

impl Backend for Profile {
    fn name(&self) -> &str {
        "profile"
    }

    fn run(
        &self,
        op: &Op,
        inputs: &[&Tensor],
        run: &Run<'_>,
    ) -> std::result::Result<Vec<Tensor>, OpError> {
        let began = Instant::now();
        let results = self.backend.run(op, inputs, run);
        let time = began.elapsed();
        let shapes: Vec<String> = inputs.iter().map(|input| input.shape().to_string()).collect();
        let what = format!("{} {}", op.name(), shapes.join(" "));
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = spent.entry(what).or_default();
        *entry = (entry.0 + 1, entry.1 + time);
        results
    }
}

/// How long this thread has been on a processor, to about a millisecond.
fn on_processor() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().ok_or("the system does not count")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// The inputs in a file, and the outputs.
fn tensors(path: &str) -> Result<(Vec<Named>, BTreeMap<String, Tensor>)> {
    let file = std::fs::read(path)?;
    let (mut inputs, mut outputs) = (Vec::new(), BTreeMap::new());
    for (name, tensor) in safetensors::tensors(&Buffer::aligned_copy(&file))? {
        if let Some(name) = name.strip_prefix("input.") {
            inputs.push(Named { name: name.into(), tensor });
        } else if let Some(name) = name.strip_prefix("output.") {
            outputs.insert(name.to_owned(), tensor);
        }
    }
    Ok((inputs, outputs))
}

/// The largest difference as a share of the largest element; for integers, whether there is any.
fn distance(got: &Tensor, wanted: &Tensor) -> Result<f64> {
    if got.shape() != wanted.shape() || got.dtype() != wanted.dtype() {
        return Ok(f64::INFINITY);
    }
    let Ok(elements) = got.elements::<f32>() else {
        return Ok(if got == wanted { 0.0 } else { f64::INFINITY });
    };
    let wanted = wanted.elements::<f32>()?;
    let largest = wanted.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
    let off = elements.iter().zip(wanted.iter()).map(|(a, b)| (a - b).abs() / largest);
    Ok(off.map(f64::from).fold(0.0, |max, x| if x.is_nan() { f64::INFINITY } else { max.max(x) }))
}
