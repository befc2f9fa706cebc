//! What depends on the order of elements along a dimension, and a few reductions.

use std::cmp::Ordering;

use innkeeper_tensor::{DType, RANK_MAX, Shape, Tensor};

use crate::cpu::create;
use crate::cpu::dispatch::{floating, numeric, word};
use crate::cpu::memory::{elements, tensor, words};
use crate::cpu::number::Number;
use crate::cpu::walk::{Walk, around, strides};
use crate::error::invalid;
use crate::infer::axes;
use crate::{OpError, Order, Run};

/// All results of an operation that was checked.
pub(super) fn order(
    op: &Order,
    results: Vec<(DType, Shape)>,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let name = op.name();
    let Some((dtype, shape)) = results.first().cloned() else {
        return Err(invalid(name, "has no result"));
    };
    let axis_of = |axis: i64, a: &Tensor| axes::axis(name, axis, a.shape().rank());
    let result = match (op, inputs) {
        (Order::Eye { rows, columns, diagonal, .. }, []) => {
            eye(dtype, shape, *rows, *columns, *diagonal, run)
        }
        (Order::Arg { smallest, last, axis, .. }, [a]) => {
            let axis = axis_of(*axis, a)?;
            numeric!(a.dtype(), T => arg::<T>(shape, a, axis, (*smallest, *last), run))
        }
        (Order::CumSum { axis, exclusive, reverse }, [a]) => {
            let axis = axis_of(*axis, a)?;
            numeric!(dtype, T => cumsum::<T>(shape, a, axis, (*exclusive, *reverse), run))
        }
        (Order::TopK { axis, largest, .. }, [a]) => {
            let axis = axis_of(*axis, a)?;
            return numeric!(dtype, T => top::<T>(&shape, a, axis, *largest, run));
        }
        (Order::Variance { axes, correction, root, .. }, [a]) => {
            let gone = axes::axes(name, axes, a.shape().rank())?;
            floating!(dtype, T => variance::<T>(shape, a, &gone, *correction, *root, run))
        }
        (Order::Any { axes, .. }, [a]) => {
            let gone = axes::axes(name, axes, a.shape().rank())?;
            logical(shape, a, &gone, true, run)
        }
        (Order::All { axes, .. }, [a]) => {
            let gone = axes::axes(name, axes, a.shape().rank())?;
            logical(shape, a, &gone, false, run)
        }
        _ => Err(invalid(name, "wrong number of operands")),
    }?;
    Ok(vec![result])
}

/// By value; a NaN is larger than any number and equal to another.
pub(super) fn compare<T: Number>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn eye(
    dtype: DType,
    shape: Shape,
    rows: usize,
    columns: usize,
    diagonal: i64,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let one = create::scalar(dtype, 1.0)?;
    word!(dtype, W => {
        let mut out = run.filled(shape.elements(), W::default())?;
        let one = words::<W>(&one)[0];
        // The first row that has the diagonal; after a column beyond the last there is none.
        let first = usize::try_from(diagonal.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        for row in first..rows.max(first) {
            let column = (row as i64).saturating_add(diagonal);
            match usize::try_from(column) {
                Ok(column) if column < columns => out[row * columns + column] = one,
                _ => break,
            }
        }
        tensor(dtype, shape, out)
    })
}

fn arg<T: Number>(
    shape: Shape,
    a: &Tensor,
    axis: usize,
    (smallest, last): (bool, bool),
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let from = elements::<T>(a)?;
    let (_, len, inner) = around(a.shape(), axis);
    let mut out = run.filled(shape.elements(), 0i64)?;
    if !out.is_empty() {
        let mut best = run.filled(inner, T::default())?;
        for (block, out) in from.chunks_exact(len * inner).zip(out.chunks_exact_mut(inner)) {
            run.check()?;
            best.copy_from_slice(&block[..inner]);
            for (index, row) in block.chunks_exact(inner).enumerate().skip(1) {
                for ((best, out), &x) in best.iter_mut().zip(&mut *out).zip(row) {
                    let wins = if smallest { x < *best } else { x > *best };
                    let nan = x.is_nan() && !best.is_nan();
                    let equal = x == *best || (x.is_nan() && best.is_nan());
                    if (wins && !best.is_nan()) || nan || (last && equal) {
                        (*best, *out) = (x, index as i64);
                    }
                }
            }
        }
    }
    tensor(DType::Int64, shape, out)
}

fn cumsum<T: Number>(
    shape: Shape,
    a: &Tensor,
    axis: usize,
    (exclusive, reverse): (bool, bool),
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let from = elements::<T>(a)?;
    let (_, len, inner) = around(a.shape(), axis);
    let mut out = run.scratch(from.len())?;
    if !out.is_empty() {
        let mut sums = vec![T::Sum::default(); inner];
        let blocks = from.chunks_exact(len * inner).zip(out.chunks_exact_mut(len * inner));
        for (from, out) in blocks {
            run.check()?;
            sums.fill(T::Sum::default());
            for step in 0..len {
                let at = if reverse { len - 1 - step } else { step } * inner;
                let row = out[at..at + inner].iter_mut().zip(&from[at..at + inner]);
                for (sum, (out, &x)) in sums.iter_mut().zip(row) {
                    let before = *sum;
                    *sum = T::plus(before, x.widen());
                    *out = T::narrow(if exclusive { before } else { *sum });
                }
            }
        }
    }
    tensor(a.dtype(), shape, out)
}

fn top<T: Number>(
    shape: &Shape,
    a: &Tensor,
    axis: usize,
    largest: bool,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let from = elements::<T>(a)?;
    let (_, len, inner) = around(a.shape(), axis);
    let (_, k, _) = around(shape, axis);
    let mut values = run.scratch::<T>(shape.elements())?;
    let mut places = run.scratch::<i64>(shape.elements())?;
    if !values.is_empty() {
        let mut line: Vec<(T, i64)> = Vec::with_capacity(len);
        let outs = values.chunks_exact_mut(k * inner).zip(places.chunks_exact_mut(k * inner));
        for (block, (values, places)) in from.chunks_exact(len * inner).zip(outs) {
            for column in 0..inner {
                run.check()?;
                line.clear();
                let elements = block[column..].iter().step_by(inner);
                line.extend(elements.zip(0..).map(|(&x, index)| (x, index)));
                first_of(&mut line, k, largest);
                for (rank, &(value, place)) in line[..k].iter().enumerate() {
                    values[rank * inner + column] = value;
                    places[rank * inner + column] = place;
                }
            }
        }
    }
    Ok(vec![
        tensor(a.dtype(), shape.clone(), values)?,
        tensor(DType::Int64, shape.clone(), places)?,
    ])
}

/// Puts the `k` first of the line in order at its start.
fn first_of<T: Number>(line: &mut [(T, i64)], k: usize, largest: bool) {
    let by = |a: &(T, i64), b: &(T, i64)| {
        let value = if largest { compare(b.0, a.0) } else { compare(a.0, b.0) };
        value.then(a.1.cmp(&b.1))
    };
    if k < line.len() {
        line.select_nth_unstable_by(k, by);
    }
    line[..k].sort_unstable_by(by);
}

/// The offsets of the kept elements, and those of the reduced ones from each.
fn split(shape: &Shape, gone: &[bool; RANK_MAX]) -> (Walk<1>, Walk<1>, usize) {
    let strides = strides(shape);
    let of_kind = |kind: bool| {
        let dims = shape.dims().iter().zip(&strides).zip(gone).rev();
        dims.filter(move |(_, gone)| **gone == kind).map(|((&size, &stride), _)| (size, [stride]))
    };
    let count = of_kind(true).map(|(size, _)| size).product();
    (Walk::points(of_kind(false)), Walk::strided(of_kind(true)), count)
}

fn variance<T: Number<Sum = f64>>(
    shape: Shape,
    a: &Tensor,
    gone: &[bool; RANK_MAX],
    correction: usize,
    root: bool,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let from = elements::<T>(a)?;
    if from.is_empty() {
        let nan = T::narrow(f64::NAN);
        return tensor(a.dtype(), shape.clone(), run.filled(shape.elements(), nan)?);
    }
    let (kept, reduced, count) = split(a.shape(), gone);
    let (len, [step]) = reduced.inner();
    let divisor = count as f64 - correction as f64;
    let mut out = run.room(shape.elements())?;
    let mut stopped = Ok(());
    kept.rows(|[start]| {
        if stopped.is_err() {
            return;
        }
        stopped = run.check();
        let sum_of = |f: &dyn Fn(f64) -> f64| {
            let mut sum = 0.0;
            reduced.rows(|[at]| {
                let line = from[start + at..].iter().step_by(step.max(1)).take(len);
                sum += line.map(|x| f(x.widen())).sum::<f64>();
            });
            sum
        };
        let mean = sum_of(&|x| x) / count as f64;
        let squares = sum_of(&|x| (x - mean) * (x - mean));
        let variance = if divisor > 0.0 { squares / divisor } else { f64::NAN };
        out.push(T::narrow(if root { variance.sqrt() } else { variance }));
    });
    stopped?;
    tensor(a.dtype(), shape, out)
}

fn logical(
    shape: Shape,
    a: &Tensor,
    gone: &[bool; RANK_MAX],
    any: bool,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let from = a.as_bytes();
    if from.is_empty() {
        let of_nothing = u8::from(!any);
        return tensor(DType::Bool, shape.clone(), run.filled(shape.elements(), of_nothing)?);
    }
    let (kept, reduced, _) = split(a.shape(), gone);
    let (len, [step]) = reduced.inner();
    let mut out = run.room(shape.elements())?;
    kept.rows(|[start]| {
        let mut found = false;
        reduced.rows(|[at]| {
            let mut line = from[start + at..].iter().step_by(step.max(1)).take(len);
            found = found || line.any(|&x| (x != 0) == any);
        });
        out.push(u8::from(found == any));
    });
    tensor(DType::Bool, shape, out)
}
