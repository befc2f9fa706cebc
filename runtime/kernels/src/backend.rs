//! The seam between what is asked for and what computes it.

use innkeeper_tensor::Tensor;

use crate::error::invalid;
use crate::{Op, OpError, Optim, Run};

/// Something that runs operations.
///
/// Every backend gives the same dtypes and shapes ([`Op::output`]) and, up to rounding, the same elements.
pub trait Backend: Send + Sync + 'static {
    /// What it is called in logs and reports, such as `cpu`.
    fn name(&self) -> &str;

    /// Does `op` on `inputs`, which are in the order that [`Op`] says, and answers its results in the order that
    /// [`Op::outputs`] says, dense, row-major and of those dtypes and shapes. [`Op::Reshape`] and a cast to the dtype
    /// that a tensor already has share the input's bytes.
    ///
    /// # Errors
    /// What [`Op::outputs`] answers, since operands are checked again here, and errors that only the elements show:
    /// [`OpError::InvalidArgument`] for an index out of range or an integer divided by zero. A result for which there
    /// is no memory is [`OpError::Unsupported`]. [`OpError::Stopped`] when `run` says so.
    fn run(&self, op: &Op, inputs: &[&Tensor], run: &Run<'_>) -> Result<Vec<Tensor>, OpError>;

    /// [`Backend::run`] of an operation with one result.
    ///
    /// # Errors
    /// As [`Backend::run`], and [`OpError::InvalidArgument`] for an operation with several results.
    fn run_one(&self, op: &Op, inputs: &[&Tensor], run: &Run<'_>) -> Result<Tensor, OpError> {
        one(op, self.run(op, inputs, run)?)
    }

    /// Takes the step `optim`: `changing`, its groups of tensors that change, become the new ones, and `read` are its
    /// other operands. What the operation answers besides is the result. The memory of a tensor that nobody else holds
    /// is used again; other holders keep the old elements.
    ///
    /// # Errors
    /// As [`Backend::run`]; after errors that operands show, which come first, nothing has changed.
    fn update(
        &self,
        optim: &Optim,
        changing: &mut [Tensor],
        read: &[&Tensor],
        run: &Run<'_>,
    ) -> Result<Option<Tensor>, OpError> {
        let operands: Vec<&Tensor> = changing.iter().chain(read.iter().copied()).collect();
        let mut results = self.run(&Op::Optim(*optim), &operands, run)?.into_iter();
        changing.iter_mut().zip(&mut results).for_each(|(old, new)| *old = new);
        Ok(results.next())
    }
}

/// The one result of `op`.
pub(crate) fn one(op: &Op, mut results: Vec<Tensor>) -> Result<Tensor, OpError> {
    match (results.pop(), results.is_empty()) {
        (Some(result), true) => Ok(result),
        _ => Err(invalid(op.name(), "has several results; one was asked for")),
    }
}
