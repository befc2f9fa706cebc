//! Softmax and its logarithm.

use innkeeper_tensor::{Shape, Tensor};

use crate::OpError;
use crate::cpu::dispatch::float;
use crate::cpu::memory::{elements, filled, tensor};
use crate::cpu::number::Float;
use crate::cpu::walk::around;

pub(super) fn softmax(shape: Shape, x: &Tensor, axis: usize) -> Result<Tensor, OpError> {
    float!(x.dtype(), T => along::<T>(shape, x, axis, softmax_line))
}

pub(super) fn log_softmax(shape: Shape, x: &Tensor, axis: usize) -> Result<Tensor, OpError> {
    float!(x.dtype(), T => along::<T>(shape, x, axis, log_softmax_line))
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
    line: impl Fn(&Line, &[T], &mut [T]),
) -> Result<Tensor, OpError> {
    let from = elements::<T>(x)?;
    let mut out = filled(shape.elements(), T::default())?;
    if !from.is_empty() {
        let (_, len, step) = around(&shape, axis);
        let blocks = from.chunks_exact(len * step).zip(out.chunks_exact_mut(len * step));
        for (from, out) in blocks {
            for start in 0..step {
                line(&Line { len, step }, &from[start..], &mut out[start..]);
            }
        }
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
