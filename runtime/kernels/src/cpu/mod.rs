//! The backend that is always there.

use innkeeper_tensor::Tensor;

use crate::{Backend, Op, OpError};

/// The processor, one thread per call: the host already runs many requests at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl Cpu {
    /// The backend; it has no state.
    pub fn new() -> Cpu {
        Cpu
    }
}

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn run(&self, op: &Op, _inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        Err(crate::error::unsupported(op.name(), "to be written"))
    }
}
