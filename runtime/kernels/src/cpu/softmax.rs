//! Softmax and its logarithm.

use innkeeper_tensor::{DType, Shape, Tensor};
use pulp::{Simd, WithSimd};

use crate::cpu::dispatch::float;
use crate::cpu::lanes;
use crate::cpu::memory::{elements, tensor};
use crate::cpu::number::Float;
use crate::cpu::pieces::{PIECE, write_by};
use crate::cpu::simd::{F32, dispatch_by};
use crate::cpu::walk::around;
use crate::{Isa, OpError, Run};

pub(super) fn softmax(
    shape: Shape,
    x: &Tensor,
    axis: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    if lies_dense(x, axis) {
        return rows(shape, x, axis, run, softmax_row);
    }
    float!(x.dtype(), T => along::<T>(shape, x, axis, run, softmax_line))
}

pub(super) fn log_softmax(
    shape: Shape,
    x: &Tensor,
    axis: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    if lies_dense(x, axis) {
        return rows(shape, x, axis, run, log_softmax_row);
    }
    float!(x.dtype(), T => along::<T>(shape, x, axis, run, log_softmax_line))
}

/// Whether each line along the axis is a run of FP32.
fn lies_dense(x: &Tensor, axis: usize) -> bool {
    x.dtype() == DType::Fp32 && x.shape().dims()[axis + 1..].iter().all(|&dim| dim == 1)
}

fn rows(
    shape: Shape,
    x: &Tensor,
    axis: usize,
    run: &Run<'_>,
    row: impl Fn(Isa, &[f32], &mut [f32]) + Sync,
) -> Result<Tensor, OpError> {
    let from = elements::<f32>(x)?;
    let mut out = run.filled(shape.elements(), 0.0)?;
    let len = shape.dims().get(axis).map_or(1, |&dim| dim.max(1));
    write_by(run, &mut out, (PIECE / len).max(1) * len, |start, out| {
        let from = &from[start..start + out.len()];
        from.chunks_exact(len)
            .zip(out.chunks_exact_mut(len))
            .for_each(|(from, out)| row(run.isa(), from, out));
        Ok(())
    })?;
    tensor(x.dtype(), shape, out)
}

/// Softmax of a row; of the numbers in it the largest may be minus infinity, which gives NaN.
pub(super) fn softmax_row(isa: Isa, from: &[f32], out: &mut [f32]) {
    let largest = dispatch_by(isa, Largest(from));
    let sum = dispatch_by(isa, Exponentials { from, out: &mut *out, largest });
    dispatch_by(isa, Scale { numbers: out, by: 1.0 / sum });
}

fn log_softmax_row(isa: Isa, from: &[f32], out: &mut [f32]) {
    let largest = dispatch_by(isa, Largest(from));
    let sum = dispatch_by(isa, Exponentials { from, out: &mut *out, largest });
    let log = sum.ln();
    // Two steps, so that what is left of a large number is exact.
    out.iter_mut().zip(from).for_each(|(out, &x)| *out = (x - largest) - log);
}

/// The largest number; if one is NaN, any.
pub(super) struct Largest<'a>(pub(super) &'a [f32]);

impl WithSimd for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let (fours, ones) = vectors.as_chunks::<4>();
        let mut acc = [F32::of(simd, f32::NEG_INFINITY); 4];
        for four in fours {
            for (acc, &x) in acc.iter_mut().zip(four) {
                *acc = acc.max(F32(simd, x));
            }
        }
        for &x in ones {
            acc[0] = acc[0].max(F32(simd, x));
        }
        let largest = acc[0].max(acc[1]).max(acc[2].max(acc[3])).largest();
        rest.iter().fold(largest, |largest, &x| if x > largest { x } else { largest })
    }
}

/// `out` becomes e^(from - largest); the answer is the sum.
pub(super) struct Exponentials<'a> {
    pub(super) from: &'a [f32],
    pub(super) out: &'a mut [f32],
    pub(super) largest: f32,
}

impl WithSimd for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (from, rest) = S::as_simd_f32s(self.from);
        let (out, rest_out) = S::as_mut_simd_f32s(self.out);
        let largest = F32::of(simd, self.largest);
        // Sums side by side, which is also more exact than one after the other.
        let mut sums = [F32::of(simd, 0.0); 4];
        for (from, out) in from.chunks(4).zip(out.chunks_mut(4)) {
            for ((sum, &x), out) in sums.iter_mut().zip(from).zip(out) {
                let e = lanes::exp_of_negative(F32(simd, x) - largest);
                *sum = *sum + e;
                *out = e.1;
            }
        }
        let mut sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum();
        if !rest.is_empty() {
            lanes::exp_of_negative(F32::load(simd, rest) - largest).store(rest_out);
            sum += rest_out.iter().sum::<f32>();
        }
        sum
    }
}

/// Every number times one.
pub(super) struct Scale<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) by: f32,
}

impl WithSimd for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (numbers, rest) = S::as_mut_simd_f32s(self.numbers);
        let by = F32::of(simd, self.by);
        numbers.iter_mut().for_each(|x| *x = (F32(simd, *x) * by).1);
        rest.iter_mut().for_each(|x| *x *= self.by);
    }
}

/// Every `step`-th element, from the first on: one line along the axis.
struct Line {
    len: usize,
    step: usize,
}

fn along<T: Float>(
    shape: Shape,
    x: &Tensor,
    axis: usize,
    run: &Run<'_>,
    line: impl Fn(&Line, &[T], &mut [T]) + Sync,
) -> Result<Tensor, OpError> {
    let from = elements::<T>(x)?;
    let mut out = run.filled(shape.elements(), T::default())?;
    if !from.is_empty() {
        let (_, len, step) = around(&shape, axis);
        write_by(run, &mut out, len * step, |start, out| {
            let from = &from[start..start + out.len()];
            for start in 0..step {
                line(&Line { len, step }, &from[start..], &mut out[start..]);
            }
            Ok(())
        })?;
    }
    tensor(x.dtype(), shape, out)
}

fn softmax_line<T: Float>(line: &Line, from: &[T], out: &mut [T]) {
    let largest = line.largest(from);
    let mut sum = 0.0;
    for at in line.positions() {
        out[at] = Float::exp(from[at].sub(largest));
        sum += out[at].widen();
    }
    let sum = T::narrow(sum);
    for at in line.positions() {
        out[at] = out[at].div(sum);
    }
}

fn log_softmax_line<T: Float>(line: &Line, from: &[T], out: &mut [T]) {
    let largest = line.largest(from);
    let mut sum = 0.0;
    for at in line.positions() {
        out[at] = from[at].sub(largest);
        sum += Float::exp(out[at]).widen();
    }
    let log = T::narrow(sum.ln());
    for at in line.positions() {
        out[at] = out[at].sub(log);
    }
}

impl Line {
    fn positions(&self) -> impl Iterator<Item = usize> + use<> {
        let step = self.step;
        (0..self.len).map(move |index| index * step)
    }

    fn largest<T: Float>(&self, from: &[T]) -> T {
        self.positions().fold(T::LOWEST, |largest, at| largest.maximum(from[at]))
    }
}
