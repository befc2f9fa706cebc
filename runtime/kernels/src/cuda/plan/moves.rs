//! What moves elements, converts them, or makes them from nothing.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cuda::plan::walk::{dense, spread};
use crate::cuda::plan::{BLOCKS_YZ_MAX, Call, Operand, Params, Plan, Slot, Step, Walk};
use crate::cuda::source::{Source, Unit, element};
use crate::error::invalid;
use crate::infer::{axes, layout};
use crate::{Backend, Cpu, Op, OpError, Run};

/// The bits of `value` as an element of `dtype`, as a cast makes it.
pub(crate) fn scalar_bits(dtype: DType, value: f64) -> u64 {
    let one = Op::Full { dtype, shape: vec![], value };
    let made = Cpu::new().run_one(&one, &[], &Run::new());
    let bytes = made.as_ref().map_or(&[][..], Tensor::as_bytes);
    bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

pub(crate) fn full(plan: &mut Plan, call: &Call<'_>, value: f64) -> Result<(), OpError> {
    let out = call.out()?;
    fill(plan, call, out, scalar_bits(out.dtype, value))
}

/// Every element has these bits.
pub(crate) fn fill(
    plan: &mut Plan,
    call: &Call<'_>,
    out: Operand<'_>,
    bits: u64,
) -> Result<(), OpError> {
    let count = out.shape.elements() as u64;
    if bits == 0 {
        plan.steps.push(Step::Fill { to: out.slot, byte: 0, bytes: out.bytes() });
        return Ok(());
    }
    let params = Params::new().at(out.slot).u64(bits).u64(count);
    plan.threads(call, Unit::of_words(Source::Move, out.size()), "fill", count, params)
}

pub(crate) fn arange(
    plan: &mut Plan,
    call: &Call<'_>,
    start: f64,
    step: f64,
) -> Result<(), OpError> {
    let out = call.out()?;
    let count = out.shape.elements() as u64;
    let unit = Unit::of(Source::Cast, out.dtype).with("FROM=double").with("RANGE");
    let params = Params::new().at(out.slot).f64(start).f64(step).u64(count);
    plan.threads(call, unit, "range", count, params)
}

pub(crate) fn cast(plan: &mut Plan, call: &Call<'_>) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let count = out.shape.elements() as u64;
    let unit = Unit::of(Source::Cast, out.dtype).with(format!("FROM={}", element(a.dtype)));
    let params = Params::new().at(out.slot).at(a.slot).u64(count);
    plan.threads(call, unit, "cast", count, params)
}

/// The operand's bytes as they are.
pub(crate) fn same(plan: &mut Plan, call: &Call<'_>) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    plan.steps.push(Step::Copy { from: a.slot, to: out.slot, to_byte: 0, bytes: out.bytes() });
    Ok(())
}

/// What a copy goes over: `dims`, and where element 0 of both sides lies and how far apart its neighbours are.
pub(crate) struct Strided<'a> {
    pub(crate) dims: &'a [usize],
    pub(crate) size: usize,
    pub(crate) from: (Slot, usize, &'a [i64]),
    pub(crate) to: (Slot, usize, &'a [i64]),
}

/// Copies elements that lie in strides.
pub(crate) fn copy(plan: &mut Plan, call: &Call<'_>, copy: &Strided<'_>) -> Result<(), OpError> {
    let count: usize = copy.dims.iter().product();
    if count == 0 {
        return Ok(());
    }
    let ((from, from_at, from_strides), (to, to_at, to_strides)) = (copy.from, copy.to);
    let walk = Walk::new(copy.dims, [to_strides, from_strides]);
    if !walk.fits() {
        return call.refused("so many dimensions of this size");
    }
    let aligned =
        (from_at * copy.size).is_multiple_of(16) && (to_at * copy.size).is_multiple_of(16);
    // A result's elements are never one repeated; a walk of one element may say so.
    let vector =
        if aligned && walk.strides(0).last() == Some(&1) { walk.vector(copy.size) } else { 1 };
    let kernel = if vector > 1 { "copy_vector" } else { "copy" };
    let params = Params::new()
        .at_byte(to, (to_at * copy.size) as u64)
        .at_byte(from, (from_at * copy.size) as u64);
    let unit = Unit::of_words(Source::Move, copy.size);
    plan.threads(call, unit, kernel, count.div_ceil(vector) as u64, walk.params(params))
}

pub(crate) fn transpose(
    plan: &mut Plan,
    call: &Call<'_>,
    permutation: &[usize],
) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let from = dense(a.dims());
    let strides: Vec<i64> =
        permutation.iter().map(|&axis| from.get(axis).copied().unwrap_or(0)).collect();
    transposed(plan, call, a, out.slot, out.dims(), &strides)
}

/// Copies `a`, read in these strides, to a dense result.
pub(crate) fn transposed(
    plan: &mut Plan,
    call: &Call<'_>,
    a: Operand<'_>,
    to: Slot,
    dims: &[usize],
    strides: &[i64],
) -> Result<(), OpError> {
    let own = dense(dims);
    // What is left of the dimensions shows whether it is matrices that are transposed.
    let walk = Walk::new(dims, [&own, strides]);
    let (batch, rows, columns) = match (walk.dims(), walk.strides(1)) {
        ([columns, rows], [1, step]) if *step == *columns as i64 => (1, *rows, *columns),
        ([batch, columns, rows], [apart, 1, step])
            if *step == *columns as i64 && *apart == (*rows * *columns) as i64 =>
        {
            (*batch, *rows, *columns)
        }
        _ => {
            let strided =
                Strided { dims, size: a.size(), from: (a.slot, 0, strides), to: (to, 0, &own) };
            return copy(plan, call, &strided);
        }
    };
    let tiles = rows.div_ceil(32) as u64 * columns.div_ceil(32) as u64;
    let params = Params::new().at(to).at(a.slot).u64(rows as u64).u64(columns as u64);
    let grid = [tiles, (batch as u64).min(BLOCKS_YZ_MAX), 1];
    let unit = Unit::of_words(Source::Move, a.size());
    plan.grid(call, unit, "transpose", grid, [256, 1, 1], 0, params.u32(batch as u32))
}

pub(crate) fn slice(
    plan: &mut Plan,
    call: &Call<'_>,
    axis: i64,
    start: i64,
    end: i64,
) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let (_, axis, range) = layout::slice(call.name, a.shape, axis, start, end)?;
    let from = dense(a.dims());
    let begin = range.start * from.get(axis).map_or(1, |&stride| stride as usize);
    let own = dense(out.dims());
    let strided = Strided {
        dims: out.dims(),
        size: a.size(),
        from: (a.slot, begin, &from),
        to: (out.slot, 0, &own),
    };
    copy(plan, call, &strided)
}

pub(crate) fn concat(plan: &mut Plan, call: &Call<'_>, axis: i64) -> Result<(), OpError> {
    let out = call.out()?;
    let axis = axes::axis(call.name, axis, out.shape.rank())?;
    let to = dense(out.dims());
    let mut begin = 0;
    for part in &call.inputs {
        let own = dense(part.dims());
        let strided = Strided {
            dims: part.dims(),
            size: part.size(),
            from: (part.slot, 0, &own),
            to: (out.slot, begin, &to),
        };
        copy(plan, call, &strided)?;
        let along = part.dims().get(axis).copied().unwrap_or(0);
        begin += along * to.get(axis).map_or(1, |&stride| stride as usize);
    }
    Ok(())
}

/// The operand, repeated to the result's shape.
pub(crate) fn expand(plan: &mut Plan, call: &Call<'_>) -> Result<(), OpError> {
    let (a, out) = (call.input(0)?, call.out()?);
    let (own, strides) = (dense(out.dims()), spread(out.shape.rank(), a.dims()));
    let strided = Strided {
        dims: out.dims(),
        size: a.size(),
        from: (a.slot, 0, &strides),
        to: (out.slot, 0, &own),
    };
    copy(plan, call, &strided)
}

/// The operand's parts along a dimension, each a result.
pub(crate) fn split(plan: &mut Plan, call: &Call<'_>, axis: i64) -> Result<(), OpError> {
    let a = call.input(0)?;
    let axis = axes::axis(call.name, axis, a.shape.rank())?;
    let from = dense(a.dims());
    let step = from.get(axis).map_or(1, |&stride| stride as usize);
    let mut begin = 0;
    for part in &call.outputs {
        let own = dense(part.dims());
        let strided = Strided {
            dims: part.dims(),
            size: a.size(),
            from: (a.slot, begin, &from),
            to: (part.slot, 0, &own),
        };
        copy(plan, call, &strided)?;
        begin += part.dims().get(axis).copied().unwrap_or(0) * step;
    }
    Ok(())
}

pub(crate) fn gather(plan: &mut Plan, call: &Call<'_>, axis: i64) -> Result<(), OpError> {
    let (data, indices, out) = (call.input(0)?, call.input(1)?, call.out()?);
    let axis = axes::axis(call.name, axis, data.shape.rank())?;
    let (outer, size, inner) =
        around(data.shape, axis).ok_or_else(|| invalid(call.name, "data has no such dimension"))?;
    let count = indices.shape.elements();
    plan.fault = Some(format!("{}: an index is not in a dimension of {size}", call.name));
    let params = Params::new().at(out.slot).at(data.slot).at(indices.slot).at(Slot::Flag);
    let params = params.u64(outer as u64).u64(size as u64).u64(count as u64).u64(inner as u64);
    let params = params.u32(u32::from(indices.dtype == DType::Int64));
    let vector = 16 / data.size();
    let (kernel, vector) =
        if inner.is_multiple_of(vector) { ("gather_vector", vector) } else { ("gather", 1) };
    let threads = (out.shape.elements() / vector) as u64;
    plan.threads(call, Unit::of_words(Source::Move, data.size()), kernel, threads, params)
}

/// How many elements there are before, in, and after a dimension.
pub(crate) fn around(shape: &Shape, axis: usize) -> Option<(usize, usize, usize)> {
    let (before, rest) = shape.dims().split_at_checked(axis)?;
    let (size, after) = rest.split_first()?;
    Some((before.iter().product(), *size, after.iter().product()))
}

pub(crate) fn select(plan: &mut Plan, call: &Call<'_>) -> Result<(), OpError> {
    let (condition, a, b, out) = (call.input(0)?, call.input(1)?, call.input(2)?, call.out()?);
    let walk = Walk::broadcast(out.dims(), [condition.dims(), a.dims(), b.dims()]);
    if !walk.fits() {
        return call.refused("so many dimensions of this size");
    }
    let vector = walk.vector(a.size());
    let kernel = if vector > 1 { "select_vector" } else { "select" };
    let params = Params::new().at(out.slot).at(condition.slot).at(a.slot).at(b.slot);
    let threads = out.shape.elements().div_ceil(vector) as u64;
    let unit = Unit::of_words(Source::Move, a.size());
    plan.threads(call, unit, kernel, threads, walk.params(params))
}
