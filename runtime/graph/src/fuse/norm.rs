//! Normalisations that were written out.

use innkeeper_kernels::{Binary, Norm, Op, Reduce, Unary};

use super::{Rewriter, linear};
use crate::machine::Val;

/// (x - mean) / sqrt(mean((x - mean)^2) + epsilon), without scale and bias yet: those of 1 and 0 are put in.
pub(super) fn layer(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let [less, deviation] = quotient(r, step.op.clone(), &step.inputs)?;
    let (x, mean) = r.binary(less, Binary::Sub)?;
    let axis = mean_from(r, mean, x)?;
    let (square, epsilon) = root_of(r, deviation)?;
    let variance_of = mean_source(r, square, axis)?;
    let base = squared(r, variance_of)?;
    // An exporter may write the difference twice.
    if base != less && r.binary(base, Binary::Sub) != Some((x, mean)) {
        return None;
    }
    let scale = ones(r, x, axis)?;
    let op =
        Norm::Layer { axis: axis as i64, epsilon, bias: false, residual: false, keep_sum: false };
    r.replace(index, Op::Norm(op), vec![x, scale])
}

/// x / sqrt(mean(x^2) + epsilon).
pub(super) fn rms(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let [x, deviation] = quotient(r, step.op.clone(), &step.inputs)?;
    let (mean, epsilon) = root_of(r, deviation)?;
    let axis = r.dims(x).len().checked_sub(1)?;
    if squared(r, mean_source(r, mean, axis)?)? != x {
        return None;
    }
    let scale = ones(r, x, axis)?;
    let op = Norm::Rms { axis: axis as i64, epsilon, residual: false, keep_sum: false };
    r.replace(index, Op::Norm(op), vec![x, scale])
}

/// a / b, or a * (1 / b).
fn quotient(r: &Rewriter<'_>, op: Op, inputs: &[Val]) -> Option<[Val; 2]> {
    let [a, b] = *inputs else { return None };
    match op {
        Op::Binary(Binary::Div) => Some([a, b]),
        Op::Binary(Binary::Mul) => [(a, b), (b, a)].into_iter().find_map(|(a, inverse)| {
            let (_, made) = r.made(inverse)?;
            match (&made.op, &made.inputs[..]) {
                (Op::Unary(Unary::Reciprocal), [b]) => Some([a, *b]),
                (Op::Binary(Binary::Div), [one, b]) if r.scalar(*one) == Some(1.0) => Some([a, *b]),
                _ => None,
            }
        }),
        _ => None,
    }
}

/// x and epsilon of sqrt(x + epsilon).
fn root_of(r: &Rewriter<'_>, val: Val) -> Option<(Val, f64)> {
    let (_, made) = r.made(val)?;
    let sum = match (&made.op, &made.inputs[..]) {
        (Op::Unary(Unary::Sqrt), [sum]) => *sum,
        (Op::Binary(Binary::Pow), [sum, half]) if r.scalar(*half) == Some(0.5) => *sum,
        _ => return None,
    };
    let (a, b) = r.binary(sum, Binary::Add)?;
    match (r.scalar(a), r.scalar(b)) {
        (_, Some(epsilon)) => Some((a, epsilon)),
        (Some(epsilon), _) => Some((b, epsilon)),
        _ => None,
    }
}

/// What a mean over the dimensions from `axis` on was taken of.
fn mean_source(r: &Rewriter<'_>, val: Val, axis: usize) -> Option<Val> {
    let (_, made) = r.made(val)?;
    let Op::Reduce { op: Reduce::Mean, axes, keep_dims: true } = &made.op else { return None };
    let x = *made.inputs.first()?;
    let rank = r.dims(x).len();
    let over =
        |at: usize| axes.iter().any(|&one| one == at as i64 || one == at as i64 - rank as i64);
    let fits = (0..rank).all(|at| over(at) == (at >= axis));
    (fits && !axes.is_empty()).then_some(x)
}

/// The first dimension of the mean of x.
fn mean_from(r: &Rewriter<'_>, mean: Val, x: Val) -> Option<usize> {
    (0..r.dims(x).len()).find(|&axis| mean_source(r, mean, axis) == Some(x))
}

/// x of x * x or x^2.
fn squared(r: &Rewriter<'_>, val: Val) -> Option<Val> {
    if let Some((a, b)) = r.binary(val, Binary::Mul) {
        return (a == b).then_some(a);
    }
    let (base, exponent) = r.binary(val, Binary::Pow)?;
    (r.scalar(exponent)? == 2.0).then_some(base)
}

/// A scale that changes nothing.
fn ones(r: &mut Rewriter<'_>, x: Val, axis: usize) -> Option<Val> {
    let (dtype, shape) = (r.dtype(x), r.dims(x).get(axis..)?.to_vec());
    let key = format!("ones {dtype} {shape:?}");
    r.derive(&key, &[], |_| super::compute(&Op::Full { dtype, shape, value: 1.0 }, &[]))
}

/// The scale and the bias after such a normalisation.
pub(super) fn affine(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let Op::Binary(op @ (Binary::Mul | Binary::Add)) = step.op else { return None };
    let [a, b] = step.inputs[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(normal, row)| {
        let (_, made) = r.only(normal)?;
        let Op::Norm(norm) = made.op else { return None };
        let inputs = made.inputs.clone();
        let (axis, plain) = match norm {
            Norm::Layer { axis, bias: false, residual: false, .. } => (axis, true),
            Norm::Rms { axis, residual: false, .. } => (axis, op == Binary::Mul),
            _ => return None,
        };
        let [x, scale] = inputs[..] else { return None };
        if !plain || r.known(row).is_none() || r.dims(row) != r.dims(x).get(axis as usize..)? {
            return None;
        }
        match (op, norm) {
            (Binary::Mul, norm) => {
                let is_one = r.values[scale.0 as usize].key.as_deref()?.starts_with("ones");
                is_one.then_some(())?;
                r.replace(index, Op::Norm(norm), vec![x, row])
            }
            (_, Norm::Layer { axis, epsilon, .. }) => {
                let (residual, keep_sum) = (false, false);
                let norm = Norm::Layer { axis, epsilon, bias: true, residual, keep_sum };
                r.replace(index, Op::Norm(norm), vec![x, scale, row])
            }
            _ => None,
        }
    })
}

/// A sum that only a normalisation reads.
pub(super) fn residual(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let Op::Norm(norm) = step.op else { return None };
    let inputs = step.inputs.clone();
    let norm = match norm {
        Norm::Layer { axis, epsilon, bias, residual: false, keep_sum: false } => {
            Norm::Layer { axis, epsilon, bias, residual: true, keep_sum: false }
        }
        Norm::Rms { axis, epsilon, residual: false, keep_sum: false } => {
            Norm::Rms { axis, epsilon, residual: true, keep_sum: false }
        }
        _ => return None,
    };
    let (at, _) = r.only(*inputs.first()?)?;
    let [(a, b), _] = linear::addition(r, at)?;
    if r.dims(a) != r.dims(b) {
        return None;
    }
    let inputs = [a, b].into_iter().chain(inputs.into_iter().skip(1)).collect();
    r.replace(index, Op::Norm(norm), inputs)
}
