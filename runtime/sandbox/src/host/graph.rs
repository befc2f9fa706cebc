//! The import `graph`: networks that the host runs whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use innkeeper_graph::GraphError;
use innkeeper_tensor::{Buffer, DType, Named, Tensor, TensorSpec};
use wasmtime::component::Resource;

use super::{HostError, HostTensor, State, dtype_to_wit};
use crate::assets::Derived;
use crate::bindings::innkeeper::model::graph;
use crate::bindings::innkeeper::model::tensors::NamedTensor;
use crate::bindings::innkeeper::model::types::{self, Error};
use crate::network::{Network, NetworkError};
use crate::{Charge, GuestError, Work};

/// A graph behind a guest's handle.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HostGraph {
    network: Arc<Network>,
    /// What a graph counts that the guest brought itself.
    _charge: Option<Arc<Charge>>,
    /// Where an asset's graph counts what was derived from its weights.
    derived: Option<Derived>,
    /// What the last run took; until the first is over, more than any.
    last_us: Arc<AtomicU64>,
}

/// Why something with graphs was not done.
pub(super) enum Problem {
    Argument(String),
    NotFound(String),
    Encoding(String),
    Unsupported(String),
    TooLarge(String),
    Stopped(String),
}

impl From<NetworkError> for Problem {
    fn from(error: NetworkError) -> Problem {
        let text = error.to_string();
        match error {
            NetworkError::Graph(GraphError::File(_)) => Problem::Encoding(text),
            NetworkError::Graph(GraphError::Unsupported { .. }) => Problem::Unsupported(text),
            NetworkError::Graph(GraphError::Limit(_)) | NetworkError::Over(_) => {
                Problem::TooLarge(text)
            }
            NetworkError::Graph(GraphError::Stopped) => Problem::Stopped(text),
            NetworkError::Graph(_) => Problem::Argument(text),
        }
    }
}

impl From<Problem> for HostError {
    fn from(problem: Problem) -> HostError {
        if matches!(problem, Problem::Stopped(_)) {
            return HostError::interrupted();
        }
        HostError::Told(match problem {
            Problem::Argument(text) | Problem::Encoding(text) => Error::InvalidArgument(text),
            Problem::NotFound(text) => Error::NotFound(text),
            Problem::Unsupported(text) => Error::Unsupported(text),
            Problem::TooLarge(text) | Problem::Stopped(text) => Error::ResourceExhausted(text),
        })
    }
}

/// A result of a run, and what it counts.
type Output = (String, Tensor, Option<Arc<Charge>>);

/// From here on a run is not for a thread that others wait for.
const LONG_US: u64 = 300;

impl State {
    /// The graph in an asset, which everyone shares who has that asset.
    pub(super) fn open_graph(&mut self, name: &str) -> Result<HostGraph, Problem> {
        let asset = self.asset_for(name).map_err(Problem::NotFound)?;
        let Some(network) = asset.network.clone() else {
            return Err(Problem::Argument(format!(
                "the asset {name:?} is no graph: an ONNX file is one whose name ends in .onnx"
            )));
        };
        let derived = Some(asset.memory.of_network());
        Ok(HostGraph { network, _charge: None, derived, last_us: unknown() })
    }

    /// A graph that the guest brings itself, and pays for.
    pub(super) fn load_graph(&mut self, onnx: Vec<u8>) -> Result<HostGraph, Problem> {
        let bytes = onnx.len() as u64;
        let mut charge = self.take_bytes(bytes).map_err(|over| self.too_large(over))?;
        let left = self.tensor_bytes.max().saturating_sub(self.tensor_bytes.used());
        let stop = self.stop();
        let run = self.lent_kernels().until(&stop);
        let onnx = Buffer::from_vec(onnx);
        let network = self.threads.aside(|| Network::load_within(&onnx, left, &run))?;
        let more = network.byte_length().saturating_sub(bytes);
        charge.grow(more).map_err(|over| self.too_large(over))?;
        Ok(HostGraph {
            network: Arc::new(network),
            _charge: Some(Arc::new(charge)),
            derived: None,
            last_us: unknown(),
        })
    }

    /// Runs a graph under the call's deadline, away from the threads that others wait for. `fits` says whether the
    /// guest can have a tensor of some dtype at all.
    pub(super) async fn run_graph(
        &mut self,
        graph: &HostGraph,
        inputs: Vec<Named>,
        outputs: &[String],
        fits: &(dyn Fn(DType) -> Result<(), String> + Sync),
    ) -> Result<Vec<Output>, Problem> {
        let names = wanted(&graph.network, outputs, fits)?;
        let long = graph.last_us.load(Ordering::Relaxed) > LONG_US;
        if long && !self.long_operations.swap(true, Ordering::Relaxed) {
            // A call that has waited once goes on on the guests' own threads.
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        let (stop, budget) = (self.stop(), Arc::clone(&self.tensor_bytes));
        let recycles = self.recycled.reserve();
        let run = if recycles { self.lent_run() } else { self.lent_kernels() }.until(&stop);
        let compute = || graph.network.run(&self.backend, inputs, &names, &budget, &run);
        let results = Work::timed(self.current.work.as_deref(), || {
            if long { self.threads.aside(compute) } else { compute() }
        });
        self.recycled.settle();
        let (results, mut held) = results.map_err(|error| self.explained(error))?;
        let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        graph.last_us.store(us, Ordering::Relaxed);
        if let Some(derived) = &graph.derived {
            let counted = derived.count_bytes(graph.network.byte_length());
            counted.map_err(|over| {
                Problem::TooLarge(self.over_text("asset_memory_bytes_max", over))
            })?;
        }
        let mut answer = Vec::with_capacity(results.len());
        for Named { name, tensor } in results {
            let bytes = tensor.data().len() as u64;
            let mut charge = held.split(bytes);
            // A result that is one of the inputs was not charged.
            charge.grow(bytes - charge.bytes()).map_err(|over| self.too_large(over))?;
            answer.push((name, tensor, Some(Arc::new(charge))));
        }
        Ok(answer)
    }

    fn explained(&mut self, error: NetworkError) -> Problem {
        match error {
            NetworkError::Over(over) => self.too_large(over),
            NetworkError::Graph(GraphError::Stopped) => {
                let (limit, max) = (self.current.limit, self.current.limit_ms);
                Problem::Stopped(format!("the graph was stopped: over the limit {limit} of {max}"))
            }
            error => error.into(),
        }
    }

    fn too_large(&mut self, over: crate::OverBudget) -> Problem {
        Problem::TooLarge(self.over_text("tensor_bytes_max", over))
    }

    /// What a guest reads that meets a limit on bytes.
    pub(super) fn over_text(&mut self, limit: &'static str, over: crate::OverBudget) -> String {
        self.stopped = Some(GuestError::Limit { limit, max: over.max });
        format!(
            "{} bytes more would pass the limit {limit} of {}, of which {} are in use",
            over.asked, over.max, over.used
        )
    }
}

fn unknown() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(u64::MAX))
}

/// The outputs that are wanted, all when none is named.
fn wanted(
    network: &Network,
    outputs: &[String],
    fits: &(dyn Fn(DType) -> Result<(), String> + Sync),
) -> Result<Vec<String>, Problem> {
    let all = || network.outputs().iter().map(|spec| spec.name.clone()).collect();
    let names: Vec<String> = if outputs.is_empty() { all() } else { outputs.to_vec() };
    for name in &names {
        let Some(spec) = network.outputs().iter().find(|spec| spec.name == *name) else {
            let known = network.outputs().iter().map(|spec| spec.name.as_str());
            return Err(Problem::Argument(format!(
                "the graph has no output {name:?}; it has {}",
                known.collect::<Vec<_>>().join(", ")
            )));
        };
        fits(spec.dtype)
            .map_err(|why| Problem::Unsupported(format!("the output {name:?} {why}")))?;
    }
    Ok(names)
}

impl graph::Host for State {}

impl graph::HostGraph for State {
    fn open(&mut self, asset: String) -> Result<Resource<HostGraph>, HostError> {
        let graph = self.open_graph(&asset)?;
        Ok(self.keep(graph)?)
    }

    fn from_bytes(&mut self, onnx: Vec<u8>) -> Result<Resource<HostGraph>, HostError> {
        let graph = self.load_graph(onnx)?;
        Ok(self.keep(graph)?)
    }

    fn inputs(&mut self, this: Resource<HostGraph>) -> wasmtime::Result<Vec<types::TensorSpec>> {
        Ok(self.table.get(&this)?.network.inputs().iter().map(spec_to_wit).collect())
    }

    fn outputs(&mut self, this: Resource<HostGraph>) -> wasmtime::Result<Vec<types::TensorSpec>> {
        Ok(self.table.get(&this)?.network.outputs().iter().map(spec_to_wit).collect())
    }

    fn metadata(&mut self, this: Resource<HostGraph>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&this)?.network.metadata())
    }

    async fn run(
        &mut self,
        this: Resource<HostGraph>,
        inputs: Vec<(String, Resource<HostTensor>)>,
        outputs: Vec<String>,
    ) -> Result<Vec<NamedTensor>, HostError> {
        let graph = self.table.get(&this)?.clone();
        let mut named = Vec::with_capacity(inputs.len());
        for (name, handle) in inputs {
            self.open(&handle)?;
            named.push(Named { name, tensor: self.table.get(&handle)?.tensor.clone() });
        }
        let answer = self.run_graph(&graph, named, &outputs, &|_| Ok(())).await?;
        let mut pushed = Vec::with_capacity(answer.len());
        for (name, tensor, charge) in answer {
            pushed.push(NamedTensor { name, value: self.push_charged(tensor, charge)? });
        }
        Ok(pushed)
    }

    fn drop(&mut self, this: Resource<HostGraph>) -> wasmtime::Result<()> {
        Ok(self.forget(this)?)
    }
}

fn spec_to_wit(spec: &TensorSpec) -> types::TensorSpec {
    let size = |dim: &Option<usize>| dim.map_or(-1, |dim| i64::try_from(dim).unwrap_or(i64::MAX));
    types::TensorSpec {
        name: spec.name.clone(),
        dtype: dtype_to_wit(spec.dtype),
        shape: spec.shape.as_ref().map(|dims| dims.iter().map(size).collect()),
        optional: spec.optional,
    }
}
