//! Operations: every one is checked, charged, and only then computed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use innkeeper_kernels::{Backend, Grad, Op, Unpacked};
use innkeeper_tensor::{Coded, DType, FetchError, Remote, Shape, Tensor};
use wasmtime::component::Resource;

use super::{HostError, HostTensor, State};
use crate::bindings::innkeeper::model::types::Error;
use crate::{Charge, Work};

type Handle = Resource<HostTensor>;
type Answer = Result<Handle, HostError>;

/// The multiply-adds that an operation may take which is not interrupted: this keeps a guest from holding a thread past
/// its deadline, about half a second. The others stop soon after it.
const OPERATION_COST_MAX: u64 = 1 << 34;

/// From here on an operation may take longer than a tick of the epoch.
const OPERATION_COST_LONG: u64 = 1 << 22;

impl State {
    pub(super) fn tensor(&self, handle: &Handle) -> Result<&Tensor, HostError> {
        Ok(&self.table.get(handle)?.tensor)
    }

    /// Runs an operation with one result.
    pub(super) fn run(&mut self, op: &Op, handles: &[&Handle]) -> Answer {
        let mut results = self.run_many(op, handles)?;
        match (results.pop(), results.is_empty()) {
            (Some(result), true) => Ok(result),
            _ => Err(HostError::invalid(format!("{} has several results", op.name()))),
        }
    }

    /// Runs one operation: shapes first, then the bill, then the work.
    pub(super) fn run_many(
        &mut self,
        op: &Op,
        handles: &[&Handle],
    ) -> Result<Vec<Handle>, HostError> {
        // Clones share the bytes; they let go of the table so that the charge can be taken.
        let mut inputs: Vec<Tensor> = Vec::with_capacity(handles.len());
        for handle in handles {
            inputs.push(self.tensor(handle)?.clone());
        }
        let kinds: Vec<(DType, &Shape)> = inputs.iter().map(|t| (t.dtype(), t.shape())).collect();
        let outputs = op.outputs(&kinds)?;
        let long = is_long(op, &kinds)?;
        let mut charges = Vec::with_capacity(outputs.len());
        for (dtype, shape) in &outputs {
            charges.push(self.charge(dtype.size().unwrap_or(1) as u64 * shape.elements() as u64)?);
        }
        let operands: Vec<&Tensor> = inputs.iter().collect();
        let _meanwhile = self.unpack(op, handles, &operands)?;
        let stop = self.stop();
        let run = self.lent_run().until(&stop);
        let compute = || self.backend.run(op, &operands, &run);
        let results = Work::timed(self.current.work.as_deref(), || {
            if !long {
                return compute();
            }
            self.long_operations.store(true, Ordering::Relaxed);
            self.threads.aside(compute)
        })?;
        self.recycled.settle();
        self.count_derived(handles)?;
        let mut pushed = Vec::with_capacity(results.len());
        for (result, charge) in results.into_iter().zip(charges) {
            pushed.push(self.push(result, Some(charge))?);
        }
        Ok(pushed)
    }

    /// [`State::run`] on the operands that there are.
    pub(super) fn run_some(&mut self, op: &Op, operands: &[Option<&Handle>]) -> Answer {
        let operands: Vec<&Handle> = operands.iter().copied().flatten().collect();
        self.run(op, &operands)
    }

    /// Runs an operation with `N` results.
    pub(super) fn run_all<const N: usize>(
        &mut self,
        op: &Op,
        handles: &[&Handle],
    ) -> Result<[Handle; N], HostError> {
        let results = self.run_many(op, handles)?;
        results
            .try_into()
            .map_err(|_| HostError::invalid(format!("{} has not {N} results", op.name())))
    }

    /// Runs an operation whose last result says how long the others are, and cuts them along `axis`; the one numbered
    /// `whole` stays as it is.
    pub(super) fn run_cut<const N: usize>(
        &mut self,
        op: &Op,
        handles: &[&Handle],
        axis: i64,
        whole: Option<usize>,
    ) -> Result<[Handle; N], HostError> {
        let mut results = self.run_many(op, handles)?;
        let count = results.pop();
        let end = count.as_ref().map(|count| self.count_in(count)).transpose()?.unwrap_or(0);
        let slice = Op::Slice { axis, start: 0, end };
        let cut: Result<Vec<Handle>, HostError> = results
            .iter()
            .enumerate()
            .map(|(index, result)| match whole == Some(index) {
                true => self.alias(result, self.tensor(result)?.clone()),
                false => self.run(&slice, &[result]),
            })
            .collect();
        for handle in results.into_iter().chain(count) {
            self.pull(handle)?;
        }
        cut?.try_into()
            .map_err(|_| HostError::invalid(format!("{} has not {N} results", op.name())))
    }

    fn count_in(&self, count: &Handle) -> Result<i64, HostError> {
        let count = self.tensor(count)?.elements::<i64>();
        Ok(count.ok().and_then(|count| count.first().copied()).unwrap_or(0))
    }

    /// Counts what operands that are kept in a code take beyond it. What is wanted for this operation alone is charged as
    /// long as the answer is kept.
    fn unpack(
        &mut self,
        op: &Op,
        handles: &[&Handle],
        operands: &[&Tensor],
    ) -> Result<Vec<Arc<Charge>>, HostError> {
        let mut meanwhile = Vec::new();
        if !operands.iter().any(|x| x.data().is_remote()) {
            return Ok(meanwhile);
        }
        for (index, handle) in handles.iter().enumerate() {
            match Unpacked::of(op, operands, index) {
                Unpacked::No => {}
                Unpacked::Meanwhile => {
                    meanwhile.push(self.charge(operands[index].data().len() as u64)?);
                }
                Unpacked::Kept => self.open(handle)?,
            }
        }
        Ok(meanwhile)
    }

    /// Writes out the elements of a weight that is kept in a code, for whoever reads bytes; they count with it.
    pub(super) fn open(&mut self, handle: &Handle) -> Result<(), HostError> {
        let HostTensor { tensor, derived, .. } = self.table.get(handle)?;
        let Some(coded) = Coded::behind(tensor).filter(|coded| !coded.is_expanded()) else {
            return Ok(());
        };
        if let Some(derived) = derived {
            let bytes = tensor.derived_byte_length() + coded.byte_length();
            let limit = derived.limit();
            if let Err(over) = derived.count_bytes(bytes as u64) {
                return Err(self.over(limit, over));
            }
        }
        let failed = |error: FetchError| HostError::Told(Error::ResourceExhausted(error.0));
        tensor.fetch().map_err(failed)
    }

    /// What a kernel keeps of weights counts with them.
    fn count_derived(&mut self, handles: &[&Handle]) -> Result<(), HostError> {
        for handle in handles {
            let HostTensor { tensor, derived, .. } = self.table.get(handle)?;
            let Some(derived) = derived else { continue };
            let limit = derived.limit();
            if let Err(over) = derived.count(tensor) {
                return Err(self.over(limit, over));
            }
        }
        Ok(())
    }

    /// Another handle on bytes that are counted already.
    pub(super) fn alias(&mut self, handle: &Handle, tensor: Tensor) -> Answer {
        let HostTensor { charge, derived, .. } = self.table.get(handle)?;
        let (charge, derived) = (charge.clone(), derived.clone());
        self.push_weight(tensor, charge, derived)
    }

    pub(super) fn part(
        &mut self,
        handle: &Handle,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, HostError> {
        self.open(handle)?;
        let bytes = self.tensor(handle)?.as_bytes();
        let max = self.limits.guest_memory_bytes_max;
        if length > max {
            return Err(HostError::Told(Error::ResourceExhausted(format!(
                "{length} bytes do not fit into the guest: guest_memory_bytes_max is {max}"
            ))));
        }
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        range
            .and_then(|(start, length)| bytes.get(start..start.checked_add(length)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| {
                HostError::invalid(format!(
                    "bytes {offset} to {offset}+{length} are not inside the tensor's {} bytes",
                    bytes.len()
                ))
            })
    }
}

/// Whether the kernels look at the deadline while they do this.
fn stops_in_time(op: &Op, operands: &[(DType, &Shape)]) -> bool {
    match op {
        Op::MatMul | Op::Linear { .. } => operands.iter().all(|(dtype, _)| *dtype == DType::Fp32),
        Op::Binary(_) | Op::Scalar { .. } | Op::Compare(_) | Op::Select => true,
        Op::Unary(_) | Op::Curve(_) | Op::Test(_) => true,
        Op::Norm(_) | Op::Attention(_) | Op::Conv(_) | Op::Pool(_) => true,
        Op::Grad(Grad::Attention(_)) => true,
        _ => false,
    }
}

/// Whether an operation may take longer than a tick of the epoch.
///
/// # Errors
/// It takes longer than any may.
pub(super) fn is_long(op: &Op, operands: &[(DType, &Shape)]) -> Result<bool, HostError> {
    let cost = op.cost(operands);
    if cost > OPERATION_COST_MAX && !stops_in_time(op, operands) {
        return Err(HostError::Told(Error::ResourceExhausted(format!(
            "the operation takes {cost} steps, and one may take {OPERATION_COST_MAX}; split it"
        ))));
    }
    Ok(cost > OPERATION_COST_LONG)
}
