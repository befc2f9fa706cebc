//! Operations on tensors that are kept in a code: products read it as it is, and lookups write out what they answer.

use std::ops::Range;

use innkeeper_tensor::{Code, Coded, DType, Shape, Tensor};

use crate::coded::Unpacked;
use crate::cpu::dispatch::refused;
use crate::cpu::memory::{elements, indices, tensor};
use crate::cpu::product::{Coded as Panels, Product, Right};
use crate::cpu::{matmul, quant};
use crate::infer::{layout as shapes, matmul as sizes};
use crate::{Activation, Backend, Cpu, Op, OpError, Quant, Run};

/// The most multiply-adds of writing rows of a product out.
const WRITTEN_COST_MAX: usize = 1 << 34;
/// How many rows are written out between two looks at the deadline.
const ROWS_BETWEEN_CHECKS: usize = 256;

/// `op` on operands of which some are in a code; `None` when all elements are wanted, which are there then.
pub(super) fn run(
    cpu: &Cpu,
    op: &Op,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Option<Tensor>, OpError> {
    let unpacked = |index| Unpacked::of(op, inputs, index);
    let in_code = inputs.iter().enumerate().find_map(|(index, x)| {
        let wanted = unpacked(index) != Unpacked::Kept;
        wanted.then(|| Coded::of(x)).flatten().map(|coded| (index, coded))
    });
    for (index, x) in inputs.iter().enumerate() {
        if unpacked(index) == Unpacked::Kept {
            x.fetch().map_err(|error| OpError::Unsupported(error.to_string()))?;
        }
    }
    let Some((index, coded)) = in_code else { return Ok(None) };
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let (_, shape) = op.output(&operands)?;
    run.check()?;
    let result = match (op, inputs) {
        (Op::Linear { bias, residual, activation }, [x, _, rest @ ..]) => {
            let added = sizes::added(rest.iter().copied(), *bias, *residual);
            linear(cpu, run, x, &coded, added, *activation)
        }
        (Op::MatMul, [x, _]) => product(cpu, run, x, &coded, shape),
        (Op::Gather { .. }, [_, at]) => {
            let rows = gathered(&coded, at)?;
            let mut rows = rows.into_iter();
            written(&coded, shape, run, |_| rows.next().unwrap_or(0))
        }
        (Op::Slice { axis, start, end }, [x]) => {
            let (_, _, range) = shapes::slice(op.name(), x.shape(), *axis, *start, *end)?;
            written(&coded, shape, run, |at| range.start + at)
        }
        (Op::Conv(_), _) => {
            let meanwhile = written(&coded, coded.shape().clone(), run, |at| at)?;
            let mut plain = inputs.to_vec();
            plain[index] = &meanwhile;
            let result = cpu.run_one(op, &plain, run);
            run.recycle(meanwhile);
            result
        }
        _ => return Ok(None),
    };
    result.map(Some)
}

/// The rows that `pick` says, one after the other.
fn written(
    coded: &Coded,
    shape: Shape,
    run: &Run<'_>,
    mut pick: impl FnMut(usize) -> usize,
) -> Result<Tensor, OpError> {
    let (_, width) = coded.matrix();
    if let Code::LowRank { left, .. } = coded.code() {
        let cost = left.shape().dims()[1].saturating_mul(shape.elements());
        if cost > WRITTEN_COST_MAX {
            let text = format!("{cost} steps to write rows out, and {WRITTEN_COST_MAX} may be");
            return Err(OpError::Unsupported(text));
        }
    }
    let mut out = run.scratch::<f32>(shape.elements())?;
    if width > 0 {
        for (at, out) in out.chunks_exact_mut(width).enumerate() {
            if at % ROWS_BETWEEN_CHECKS == 0 {
                run.check()?;
            }
            coded.write(pick(at), 0..width, out);
        }
    }
    tensor(DType::Fp32, shape, out)
}

/// The rows that indices point to.
fn gathered(coded: &Coded, at: &Tensor) -> Result<Vec<usize>, OpError> {
    let (rows, _) = coded.matrix();
    let row = |&index: &i64| {
        let from_start = if index < 0 { index.saturating_add(rows as i64) } else { index };
        usize::try_from(from_start).ok().filter(|&row| row < rows).ok_or_else(|| {
            OpError::InvalidArgument(format!(
                "gather: index {index} is not in dimension 0 of {}: it must be from -{rows} to \
                 {rows} (excluded)",
                coded.shape()
            ))
        })
    };
    indices(at)?.iter().map(row).collect()
}

fn linear(
    cpu: &Cpu,
    run: &Run<'_>,
    x: &Tensor,
    coded: &Coded,
    (of_bias, of_residual): matmul::Added<'_>,
    activation: Activation,
) -> Result<Tensor, OpError> {
    let (bias, residual) = (of_bias.is_some(), of_residual.is_some());
    let with = |parts: &[&Tensor]| -> Vec<Tensor> {
        let parts = parts.iter().copied().chain(of_bias).chain(of_residual);
        parts.cloned().collect()
    };
    let by =
        |op: Op, operands: Vec<Tensor>| cpu.run_one(&op, &operands.iter().collect::<Vec<_>>(), run);
    match coded.code() {
        Code::Int8 { values, scales } => {
            let op = Op::Quant(Quant::Linear8 { bias, residual, activation });
            by(op, with(&[x, values, scales]))
        }
        Code::Int4 { values, scales, group } => {
            let op = Op::Quant(Quant::Linear4 { group: *group, bias, residual, activation });
            by(op, with(&[x, values, scales]))
        }
        Code::Half { values } => {
            matmul::linear_of_halves(run, x, values, (of_bias, of_residual), activation)
        }
        Code::LowRank { left, right } => {
            let first = Op::Linear { bias: false, residual: false, activation: Activation::None };
            let between = cpu.run_one(&first, &[x, right], run)?;
            by(Op::Linear { bias, residual, activation }, with(&[&between, left]))
        }
    }
}

/// x times a matrix `[k, n]`.
fn product(
    cpu: &Cpu,
    run: &Run<'_>,
    x: &Tensor,
    coded: &Coded,
    shape: Shape,
) -> Result<Tensor, OpError> {
    let (k, n) = coded.matrix();
    match coded.code() {
        Code::Int8 { values, scales } => quant::matmul8(x, values, scales, shape, run),
        Code::LowRank { left, right } => {
            let between = cpu.run_one(&Op::MatMul, &[x, left], run)?;
            cpu.run_one(&Op::MatMul, &[&between, right], run)
        }
        Code::Half { .. } | Code::Int4 { .. } => {
            if x.dtype() != DType::Fp32 {
                return Err(refused(x.dtype()));
            }
            let a = elements::<f32>(x)?;
            let m = a.len().checked_div(k).unwrap_or(0);
            let mut out = run.scratch::<f32>(shape.elements())?;
            if k == 0 {
                out.fill(0.0);
                return tensor(DType::Fp32, shape, out);
            }
            let b = Right { k, n, elements: &[], transposed: false };
            let rows = Rows { coded, columns: Product::columns(run) };
            Product::plain(m, &a, b).run_coded(&rows, run, &mut out)?;
            tensor(DType::Fp32, shape, out)
        }
    }
}

/// The rows of a coded matrix as a right side, written out as they are used.
struct Rows<'a> {
    coded: &'a Coded,
    /// How wide a panel is.
    columns: usize,
}

impl Panels for Rows<'_> {
    fn fill(&self, panel: usize, depth: Range<usize>, out: &mut [f32]) {
        let (_, n) = self.coded.matrix();
        let first = panel * self.columns;
        let width = self.columns.min(n - first);
        for (row, out) in depth.zip(out.chunks_exact_mut(self.columns)) {
            let (there, beyond) = out.split_at_mut(width);
            self.coded.write(row, first..first + width, there);
            beyond.fill(0.0);
        }
    }
}
