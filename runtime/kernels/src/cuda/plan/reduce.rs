//! Reductions.

use innkeeper_tensor::{DType, Shape};

use crate::cuda::plan::moves::{around, transposed};
use crate::cuda::plan::walk::dense;
use crate::cuda::plan::{Call, Operand, Params, Plan, Slot};
use crate::cuda::source::{Source, Unit};
use crate::error::invalid;
use crate::infer::axes;
use crate::{OpError, Reduce};

/// Fewer results than this leave most of a device idle, unless each is worked out in parts.
const RESULTS_ENOUGH: u64 = 2048;
/// What a part should have at least, so that its accumulator is worth the way to memory and back.
const PART_MIN: u64 = 2048;
/// What one thread of a column should go over at most while there are others to share with.
const COLUMN_MIN: u64 = 64;

/// How the sources call a reduction: what accumulates, what becomes of it, and an accumulator's bytes.
fn kernels(name: &str, dtype: DType) -> Option<(&'static str, &'static str, u64)> {
    let real = dtype.is_float();
    let size = dtype.size().unwrap_or(1) as u64;
    let (sum, wide) = if real { (8, size.max(4)) } else { (size, size) };
    Some(match name {
        "sum" => ("SumOf", "Whole", sum),
        "prod" | "product" => ("ProductOf", "Whole", sum),
        "max" => ("MaxOf", "Whole", wide),
        "min" => ("MinOf", "Whole", wide),
        "l1" => ("AbsoluteSumOf", "Whole", sum),
        "sum-square" => ("SquareSumOf", "Whole", sum),
        "mean" if real => ("SumOf", "Divided", sum),
        "l2" if real => ("SquareSumOf", "Root", sum),
        "log-sum" if real => ("SumOf", "Logarithm", sum),
        "logsumexp" | "log-sum-exp" if real => ("ExponentialSumOf", "Ended", 16),
        _ => return None,
    })
}

/// An operand as `[outer, size, inner]`, copied so that it lies like that if it does not.
struct Middle {
    slot: Slot,
    outer: u64,
    size: u64,
    inner: u64,
}

pub(crate) fn reduce(
    plan: &mut Plan,
    call: &Call<'_>,
    op: Reduce,
    gone: &[i64],
) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let gone = axes::axes(call.name, gone, a.shape.rank())?;
    reduced(plan, call, (a, out.slot), op.name(), &gone)
}

/// The sum over the dimensions that are `gone`.
pub(crate) fn sum(
    plan: &mut Plan,
    call: &Call<'_>,
    a: Operand<'_>,
    to: Slot,
    gone: &[bool],
) -> Result<(), OpError> {
    reduced(plan, call, (a, to), "sum", gone)
}

fn reduced(
    plan: &mut Plan,
    call: &Call<'_>,
    (a, to): (Operand<'_>, Slot),
    name: &str,
    gone: &[bool],
) -> Result<(), OpError> {
    let Some((accumulator, end, state)) = kernels(name, a.dtype) else {
        return call.refused(format_args!("{name} of {}", a.dtype));
    };
    let middle = middle(plan, call, a, gone)?;
    let unit = Unit::of(Source::Reduce, a.dtype)
        .with(format!("REDUCE={accumulator}"))
        .with(format!("END={end}"));
    let divisor = middle.size as f64;
    let results = middle.outer * middle.inner;
    let least = if middle.inner == 1 { PART_MIN } else { COLUMN_MIN };
    let wanted = if middle.inner == 1 { RESULTS_ENOUGH } else { RESULTS_ENOUGH * 32 };
    let parts = (wanted / results.max(1)).min(middle.size / least).clamp(1, 1024);
    let part = middle.size.div_ceil(parts).max(1);
    let parts = middle.size.div_ceil(part).max(1);
    let (whole, begin, joined) = match middle.inner {
        1 => ("rows", "rows_begin", "rows_end"),
        _ => ("columns", "columns_begin", "columns_end"),
    };
    if parts == 1 {
        return launch(plan, call, &unit, whole, (middle.slot, to), &middle, (part, 1), divisor);
    }
    let states = plan.scratch(results * parts * state);
    launch(plan, call, &unit, begin, (middle.slot, states), &middle, (part, parts), divisor)?;
    let last = Middle { slot: states, size: parts, ..middle };
    launch(plan, call, &unit, joined, (states, to), &last, (parts, 1), divisor)
}

#[expect(clippy::too_many_arguments, reason = "these are what the kernel's struct holds")]
fn launch(
    plan: &mut Plan,
    call: &Call<'_>,
    unit: &Unit,
    kernel: &'static str,
    (from, to): (Slot, Slot),
    middle: &Middle,
    (part, parts): (u64, u64),
    divisor: f64,
) -> Result<(), OpError> {
    let params = Params::new().at(to).at(from).u64(middle.outer).u64(middle.size).u64(middle.inner);
    let params = params.u64(part).u64(parts).f64(divisor);
    let results = middle.outer * parts * middle.inner;
    if middle.inner == 1 {
        let threads = row_threads(part);
        plan.blocks(call, unit.clone(), kernel, (results, threads, 0), params)
    } else {
        plan.threads(call, unit.clone(), kernel, results, params)
    }
}

/// The threads that share a row of so many elements: whole warps.
pub(crate) fn row_threads(size: u64) -> u32 {
    (size.div_ceil(4).next_power_of_two() as u32).clamp(32, 256)
}

/// The reduced dimensions lie side by side, with `inner` elements after them, or the operand is copied to where they do.
fn middle(
    plan: &mut Plan,
    call: &Call<'_>,
    a: Operand<'_>,
    gone: &[bool],
) -> Result<Middle, OpError> {
    let is_gone = |d: usize| gone.get(d).copied().unwrap_or(false);
    // Sizes of 1 are anywhere one wants.
    let ranks: Vec<usize> = (0..a.dims().len()).filter(|&d| a.dims()[d] != 1).collect();
    let first = ranks.iter().position(|&d| is_gone(d)).unwrap_or(ranks.len());
    let last = ranks.iter().rposition(|&d| is_gone(d)).map_or(first, |last| last + 1);
    let product = |ranks: &[usize]| ranks.iter().map(|&d| a.dims()[d] as u64).product::<u64>();
    if ranks[first..last].iter().all(|&d| is_gone(d)) {
        let (outer, size, inner) =
            (product(&ranks[..first]), product(&ranks[first..last]), product(&ranks[last..]));
        return Ok(Middle { slot: a.slot, outer, size, inner });
    }
    let (kept, gone): (Vec<usize>, Vec<usize>) = ranks.iter().partition(|&&d| !is_gone(d));
    let order: Vec<usize> = kept.iter().chain(&gone).copied().collect();
    let from = dense(a.dims());
    let dims: Vec<usize> = order.iter().map(|&d| a.dims()[d]).collect();
    let strides: Vec<i64> = order.iter().map(|&d| from[d]).collect();
    let to = plan.scratch(a.bytes());
    transposed(plan, call, a, to, &dims, &strides)?;
    Ok(Middle { slot: to, outer: product(&kept), size: product(&gone), inner: 1 })
}

/// The index of the first largest, or of the first or last smallest or largest.
pub(crate) fn arg(
    plan: &mut Plan,
    call: &Call<'_>,
    axis: i64,
    smallest: bool,
    last: bool,
) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let axis = axes::axis(call.name, axis, a.shape.rank())?;
    let (outer, size, inner) = rows_of(call, a.shape, axis)?;
    let params = Params::new().at(out.slot).at(a.slot).u64(outer).u64(size).u64(inner);
    let params = params.u32(u32::from(smallest)).u32(u32::from(last));
    let unit = Unit::of(Source::Reduce, a.dtype).with("ARG");
    if inner == 1 {
        plan.blocks(call, unit, "arg_rows", (outer, row_threads(size), 0), params)
    } else {
        plan.threads(call, unit, "arg_columns", outer * inner, params)
    }
}

/// A shape as `[outer, size, inner]` around a dimension.
pub(crate) fn rows_of(
    call: &Call<'_>,
    shape: &Shape,
    axis: usize,
) -> Result<(u64, u64, u64), OpError> {
    let around = around(shape, axis);
    let (outer, size, inner) =
        around.ok_or_else(|| invalid(call.name, "the operand has no such dimension"))?;
    Ok((outer as u64, size as u64, inner as u64))
}
