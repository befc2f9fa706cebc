//! A network as the sandbox knows it: loaded from bytes, described, run. What it consists of is the graph crate's.

use innkeeper_kernels::Run;
use innkeeper_tensor::{Buffer, Tensor, TensorSpec};

use crate::OverBudget;

/// A graph that is ready to run, with its weights ordered for the kernels. It has no state.
#[derive(Debug)]
pub struct Network {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    metadata: Vec<(String, String)>,
}

/// Why a network was not loaded, or gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The bytes are no network.
    #[error("{0}")]
    Format(String),
    /// The host does not have an operator of it.
    #[error("{0}")]
    Unsupported(String),
    /// The inputs do not fit.
    #[error("{0}")]
    Argument(String),
    /// There is no room for what it takes in between.
    #[error("the graph needs {asked} bytes more, and of {max} there are {used} in use", asked = .0.asked, max = .0.max, used = .0.used)]
    Over(OverBudget),
    /// The call has to end.
    #[error("the graph was stopped: its call has to end")]
    Stopped,
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

impl Network {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// [`NetworkError::Format`], and [`NetworkError::Unsupported`] naming operator, node and opset.
    pub fn load(_onnx: Buffer) -> Result<Network, NetworkError> {
        Err(NetworkError::Unsupported("this host has no executor".into()))
    }

    /// What it takes, in its order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What it gives, in its order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Facts of the file.
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// The bytes that it holds, which grow when its first run orders weights for the kernels.
    pub fn byte_length(&self) -> u64 {
        0
    }

    /// Runs it. `charge` is asked before anything is allocated.
    pub(crate) fn run(
        &self,
        _inputs: &[(&str, &Tensor)],
        _outputs: &[String],
        _run: &Run<'_>,
        _charge: &(dyn Fn(u64) -> Result<(), NetworkError> + Sync),
    ) -> Result<Vec<Tensor>, NetworkError> {
        Err(NetworkError::Failed("no executor".into()))
    }
}
