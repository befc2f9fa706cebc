//! The seam between what is asked for and what computes it.

use innkeeper_tensor::Tensor;

use crate::{Op, OpError};

/// Something that runs operations.
///
/// Every backend gives the same dtypes and shapes ([`Op::output`]) and, up to rounding, the same elements.
pub trait Backend: Send + Sync + 'static {
    /// What it is called in logs and reports, such as `cpu`.
    fn name(&self) -> &str;

    /// Does `op` on `inputs`, which are in the order that [`Op`] says, on the calling thread. The result is dense,
    /// row-major and of the dtype and shape that [`Op::output`] says; for [`Op::Reshape`] and for a cast to the dtype
    /// that a tensor already has it shares the input's bytes.
    ///
    /// # Errors
    /// What [`Op::output`] answers, since operands are checked again here, and errors that only the elements show:
    /// [`OpError::InvalidArgument`] for an index out of range or an integer divided by zero. A result for which there
    /// is no memory is [`OpError::Unsupported`].
    fn run(&self, op: &Op, inputs: &[&Tensor]) -> Result<Tensor, OpError>;
}
