//! Losses, with their gradients in the same pass.

use std::sync::{Mutex, PoisonError};

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::dispatch::float;
use crate::cpu::memory::{elements, tensor};
use crate::cpu::number::From64;
use crate::cpu::smooth::Smooth;
use crate::cpu::wide::wide;
use crate::error::invalid;
use crate::op::{Loss, LossOf, Reduction};
use crate::{OpError, Run};

/// Accumulators of one sum.
const LANES: usize = 16;
/// Elements between two looks at whether to stop.
const CHUNK: usize = 1 << 15;

pub(super) fn loss(
    loss: &Loss,
    results: Vec<(DType, Shape)>,
    x: &Tensor,
    target: &Tensor,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    float!(x.dtype(), T => {
        let (sum, count, gradient) = match loss.of {
            LossOf::CrossEntropy { ignore, smoothing } => {
                let labels = labels(loss, x.shape(), target, ignore)?;
                cross_entropy::<T>(loss, &elements(x)?, &labels, smoothing, run)?
            }
            LossOf::MeanSquaredError => {
                pairs::<T>(loss, &elements(x)?, &elements(target)?, squared_errors, run)?
            }
            LossOf::BinaryCrossEntropy => {
                pairs::<T>(loss, &elements(x)?, &elements(target)?, binary_cross_entropies, run)?
            }
        };
        let value = match loss.reduction {
            Reduction::Mean => sum / count as f64,
            Reduction::Sum => sum,
        };
        let value = run.filled(1, T::from_f64(value))?;
        let values = [Some(value), loss.gradient.then_some(gradient)].into_iter().flatten();
        results.into_iter().zip(values).map(|((dtype, shape), of)| tensor(dtype, shape, of)).collect()
    })
}

/// What one element's gradient is multiplied by.
fn weight(reduction: Reduction, count: usize) -> f64 {
    match reduction {
        Reduction::Mean => 1.0 / count.max(1) as f64,
        Reduction::Sum => 1.0,
    }
}

/// Each label as a class, or `None` when it is passed over.
fn labels(
    loss: &Loss,
    logits: &Shape,
    labels: &Tensor,
    ignore: Option<i64>,
) -> Result<Vec<Option<usize>>, OpError> {
    let classes = logits.dims().last().copied().unwrap_or(0);
    let class = |(index, label): (usize, i64)| {
        if Some(label) == ignore {
            return Ok(None);
        }
        let class = usize::try_from(label).ok().filter(|&class| class < classes);
        class.map(Some).ok_or_else(|| {
            let text =
                format_args!("the label at index {index} is {label}; there are {classes} classes");
            invalid(loss.name(), text)
        })
    };
    match labels.dtype() {
        DType::Int32 => {
            let labels = elements::<i32>(labels)?;
            labels.iter().map(|&label| i64::from(label)).enumerate().map(class).collect()
        }
        _ => elements::<i64>(labels)?.iter().copied().enumerate().map(class).collect(),
    }
}

/// The sum over the labels that count, their number, and the gradient.
fn cross_entropy<T: Smooth>(
    loss: &Loss,
    logits: &[T],
    labels: &[Option<usize>],
    smoothing: f64,
    run: &Run<'_>,
) -> Result<(f64, usize, Vec<T>), OpError> {
    let count = labels.iter().flatten().count();
    let weight = weight(loss.reduction, count);
    let classes = logits.len() / labels.len().max(1);
    let mut gradient = run.filled(if loss.gradient { logits.len() } else { 0 }, T::default())?;
    // As many parts whatever threads there are, so that the sum does not depend on them.
    let rows = (CHUNK / classes.max(1)).clamp(1, labels.len().max(1));
    let of_row = if loss.gradient { classes } else { 0 };
    let mut rest = &mut gradient[..];
    let parts = labels.chunks(rows).map(|labels| {
        let out = rest.split_off_mut(..labels.len() * of_row).unwrap_or_default();
        Mutex::new((0.0, out))
    });
    let parts: Vec<Mutex<(f64, &mut [T])>> = parts.collect();
    run.parallel(parts.len(), |part| {
        let mut spare = run.filled(if loss.gradient { 0 } else { classes }, T::default())?;
        let mut held = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        let (sum, out) = &mut *held;
        let first = part * rows;
        let labels = labels[first..].iter().take(rows).enumerate();
        for (row, label) in labels.filter_map(|(row, label)| Some((row, (*label)?))) {
            let logits = &logits[(first + row) * classes..][..classes];
            let out = match loss.gradient {
                true => &mut out[row * classes..][..classes],
                false => &mut spare[..],
            };
            *sum += cross_entropy_row(logits, label, smoothing, weight, out);
        }
        Ok(())
    })?;
    let sums =
        parts.into_iter().map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner).0);
    let sum = sums.sum();
    Ok((sum, count, gradient))
}

wide! {
    /// One label's loss; its gradient goes to `out`.
    fn cross_entropy_row(
        logits: &'a [T],
        label: usize,
        smoothing: f64,
        weight: f64,
        out: &'a mut [T],
    ) -> f64 {
        let largest = logits.iter().fold(T::LOWEST, |largest, &x| largest.maximum(x));
        for (out, &x) in out.iter_mut().zip(logits) {
            *out = x.sub(largest).quick_exp();
        }
        let total = sum(out);
        // ln(sum(e^x)), without the largest.
        let log = total.ln();
        let of = |x: T| log - x.sub(largest).widen();
        let mut loss = (1.0 - smoothing) * of(logits[label]);
        if smoothing > 0.0 {
            let classes = logits.len() as f64;
            loss += smoothing / classes * logits.iter().map(|&x| of(x)).sum::<f64>();
        }
        let (factor, spread) =
            (T::narrow(weight / total), T::narrow(weight * smoothing / logits.len() as f64));
        for out in out.iter_mut() {
            *out = out.mul(factor).sub(spread);
        }
        out[label] = out[label].sub(T::narrow(weight * (1.0 - smoothing)));
        loss
    }
}

/// Side by side in the elements' own precision, then in FP64.
#[inline(always)]
fn sum<T: Smooth>(terms: &[T]) -> f64 {
    let mut lanes = [T::default(); LANES];
    let (chunks, rest) = terms.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &term) in lanes.iter_mut().zip(chunk) {
            *lane = lane.add(term);
        }
    }
    lanes.iter().chain(rest).map(|&term| term.widen()).sum()
}

/// A chunk of predictions, targets and gradients: the sum of the losses.
type Chunk<T> = for<'a> fn(&'a [T], &'a [T], T, &'a mut [T]) -> f64;

fn pairs<T: Smooth>(
    loss: &Loss,
    x: &[T],
    target: &[T],
    chunk: Chunk<T>,
    run: &Run<'_>,
) -> Result<(f64, usize, Vec<T>), OpError> {
    // The gradient takes the place of the terms, which are needed for the sum.
    const PIECE: usize = 1 << 10;
    let weight = T::narrow(weight(loss.reduction, x.len()));
    let mut gradient = run.filled(if loss.gradient { x.len() } else { 0 }, T::default())?;
    let mut sum = 0.0;
    for (piece, (x, target)) in x.chunks(PIECE).zip(target.chunks(PIECE)).enumerate() {
        if piece.is_multiple_of(CHUNK / PIECE) {
            run.check()?;
        }
        let out = match loss.gradient {
            true => &mut gradient[piece * PIECE..][..x.len()],
            false => &mut [],
        };
        sum += chunk(x, target, weight, out);
    }
    Ok((sum, x.len(), gradient))
}

wide! {
    fn squared_errors(x: &'a [T], target: &'a [T], weight: T, out: &'a mut [T]) -> f64 {
        let mut lanes = [T::default(); LANES];
        for (x, target) in x.chunks(LANES).zip(target.chunks(LANES)) {
            for ((lane, &x), &target) in lanes.iter_mut().zip(x).zip(target) {
                let error = x.sub(target);
                *lane = lane.add(error.mul(error));
            }
        }
        let twice = weight.add(weight);
        for ((out, &x), &target) in out.iter_mut().zip(x).zip(target) {
            *out = x.sub(target).mul(twice);
        }
        lanes.iter().map(|lane| lane.widen()).sum()
    }
}

wide! {
    fn binary_cross_entropies(x: &'a [T], target: &'a [T], weight: T, out: &'a mut [T]) -> f64 {
        let mut sum = 0.0;
        for (&x, &target) in x.iter().zip(target) {
            let log = x.abs().neg().quick_exp().ln_1p();
            sum += x.maximum(T::default()).sub(x.mul(target)).add(log).widen();
        }
        for ((out, &x), &target) in out.iter_mut().zip(x).zip(target) {
            *out = x.quick_sigmoid().sub(target).mul(weight);
        }
        sum
    }
}
