//! Derivatives of softmax and its logarithm.

use innkeeper_tensor::{DType, Shape, Tensor};

use super::packed;
use crate::cpu::memory::elements;
use crate::cpu::pieces::{PIECE, fill_by};
use crate::cpu::smooth::Smooth;
use crate::cpu::walk::around;
use crate::cpu::wide::wide;
use crate::{OpError, Run};

/// dy and y along the axis, and where dx goes.
type Line<T> = for<'a> fn(&'a [T], &'a [T], &'a mut [T]) -> ();

pub(super) fn gradient<T: Smooth>(
    results: Vec<(DType, Shape)>,
    dy: &Tensor,
    y: &Tensor,
    axis: usize,
    line: Line<T>,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let (_, len, step) = around(dy.shape(), axis);
    let (dy, y) = (&*elements::<T>(dy)?, &*elements::<T>(y)?);
    if step == 1 && len > 0 {
        let out = fill_by::<T>(run, dy.len(), (PIECE / len).max(1) * len, |start, out| {
            let part = start..start + out.len();
            let lines = dy[part.clone()].chunks(len).zip(y[part].chunks(len));
            lines.zip(out.chunks_mut(len)).for_each(|((dy, y), out)| line(dy, y, out));
            Ok(())
        })?;
        return packed(results, [out]);
    }
    let mut out = run.filled(dy.len(), T::default())?;
    if out.is_empty() {
        return packed(results, [out]);
    }
    let block = len * step;
    let mut lines = Lines::new(len, run)?;
    for ((dy, y), out) in dy.chunks(block).zip(y.chunks(block)).zip(out.chunks_mut(block)) {
        run.check()?;
        (0..step).for_each(|start| lines.work(line, start, step, dy, y, out));
    }
    packed(results, [out])
}

/// Room for lines whose elements do not lie side by side.
struct Lines<T> {
    dy: Vec<T>,
    y: Vec<T>,
    out: Vec<T>,
}

impl<T: Smooth> Lines<T> {
    fn new(len: usize, run: &Run<'_>) -> Result<Lines<T>, OpError> {
        let room = || run.filled(len, T::default());
        Ok(Lines { dy: room()?, y: room()?, out: room()? })
    }

    fn work(&mut self, line: Line<T>, start: usize, step: usize, dy: &[T], y: &[T], out: &mut [T]) {
        let gather = |to: &mut [T], from: &[T]| {
            to.iter_mut().zip(from[start..].iter().step_by(step)).for_each(|(to, &from)| *to = from)
        };
        gather(&mut self.dy, dy);
        gather(&mut self.y, y);
        line(&self.dy, &self.y, &mut self.out);
        let places = out[start..].iter_mut().step_by(step);
        places.zip(&self.out).for_each(|(to, &from)| *to = from);
    }
}

wide! {
    pub(super) fn line(dy: &'a [T], y: &'a [T], out: &'a mut [T]) -> () {
        let total = T::narrow(dot(dy, y));
        for ((out, &dy), &y) in out.iter_mut().zip(dy).zip(y) {
            *out = y.mul(dy.sub(total));
        }
    }
}

wide! {
    pub(super) fn log_line(dy: &'a [T], y: &'a [T], out: &'a mut [T]) -> () {
        let total = T::narrow(dy.iter().map(|dy| dy.widen()).sum());
        for ((out, &dy), &y) in out.iter_mut().zip(dy).zip(y) {
            *out = dy.sub(y.quick_exp().mul(total));
        }
    }
}

/// The sum of the products, side by side in FP64.
#[inline(always)]
pub(super) fn dot<T: Smooth>(a: &[T], b: &[T]) -> f64 {
    let mut lanes = [0f64; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a.widen() * b.widen();
        }
    }
    lanes.iter().sum()
}
