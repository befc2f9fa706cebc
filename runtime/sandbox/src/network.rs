//! A network as the sandbox knows it: loaded from bytes, described, run. What it consists of is the graph crate's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use innkeeper_graph::{Budget, Graph, GraphError, LoadLimits};
use innkeeper_kernels::{Backend, Run};
use innkeeper_tensor::{Buffer, Named, TensorSpec};

use crate::{ByteBudget, Charge, OverBudget};

/// A graph that is ready to run, with its weights ordered for the kernels. It has no state.
#[derive(Debug)]
pub struct Network(Graph);

/// Why a network was not loaded, or gave no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// What the graph says.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// There is no room for what it takes in between.
    #[error(
        "the graph needs {asked} bytes more, and of {max} there are {used} in use",
        asked = .0.asked, max = .0.max, used = .0.used
    )]
    Over(OverBudget),
}

impl Network {
    /// Reads an ONNX file, whose weights may take `weight_bytes_max` bytes.
    ///
    /// # Errors
    /// What is no ONNX file, and what the host cannot run of it: operator, node and opset are named.
    pub fn load(onnx: &Buffer, weight_bytes_max: u64) -> Result<Network, NetworkError> {
        Network::load_within(onnx, weight_bytes_max, &Run::new())
    }

    /// The same, given up when the deadline is there.
    ///
    /// # Errors
    /// As [`Network::load`], and [`GraphError::Stopped`].
    pub fn load_before(
        onnx: &Buffer,
        weight_bytes_max: u64,
        deadline: Instant,
    ) -> Result<Network, NetworkError> {
        let stop = || Instant::now() >= deadline;
        Network::load_within(onnx, weight_bytes_max, &Run::new().until(&stop))
    }

    /// The same, ending when `run` says so.
    pub(crate) fn load_within(
        onnx: &Buffer,
        weight_bytes_max: u64,
        run: &Run<'_>,
    ) -> Result<Network, NetworkError> {
        let limits = LoadLimits { weight_bytes_max, ..LoadLimits::default() };
        Ok(Network(Graph::load(onnx.as_bytes(), &limits, run)?))
    }

    /// What it takes, in its order.
    pub fn inputs(&self) -> &[TensorSpec] {
        self.0.inputs()
    }

    /// What it gives, in its order.
    pub fn outputs(&self) -> &[TensorSpec] {
        self.0.outputs()
    }

    /// Facts of the file.
    pub fn metadata(&self) -> Vec<(String, String)> {
        vec![("opset".into(), self.0.opset().to_string())]
    }

    /// The bytes that it holds, which grow when a run orders weights for the kernels.
    pub fn byte_length(&self) -> u64 {
        self.0.byte_length() as u64
    }

    /// Runs it. What it takes in between counts against `budget` while it runs; the charge that comes back is for the
    /// results.
    pub(crate) fn run(
        &self,
        backend: &dyn Backend,
        inputs: Vec<Named>,
        outputs: &[String],
        budget: &Arc<ByteBudget>,
        run: &Run<'_>,
    ) -> Result<(Vec<Named>, Charge), NetworkError> {
        let empty = budget.charge(0).map_err(NetworkError::Over)?;
        let held = Held { charge: Mutex::new(empty), over: Mutex::default() };
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let names = if names.is_empty() { None } else { Some(&names[..]) };
        let results = self.0.run(backend, inputs, names, &held, run);
        let over = held.over.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (results, over) {
            (Ok(results), _) => {
                Ok((results, held.charge.into_inner().unwrap_or_else(PoisonError::into_inner)))
            }
            (Err(_), Some(over)) => Err(NetworkError::Over(over)),
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// What a run holds of its tenant's budget.
struct Held {
    charge: Mutex<Charge>,
    /// What it was refused, if it was.
    over: Mutex<Option<OverBudget>>,
}

impl Budget for Held {
    fn charge(&self, bytes: usize) -> Result<(), String> {
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        charge.grow(bytes as u64).map_err(|over| {
            *self.over.lock().unwrap_or_else(PoisonError::into_inner) = Some(over);
            NetworkError::Over(over).to_string()
        })
    }

    fn release(&self, bytes: usize) {
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        drop(charge.split(bytes as u64));
    }
}
