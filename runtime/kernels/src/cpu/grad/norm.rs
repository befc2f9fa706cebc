//! Derivatives of normalisations.

use std::sync::{Mutex, PoisonError};

use innkeeper_tensor::{DType, Shape, Tensor};

use super::packed;
use super::softmax::dot;
use crate::cpu::memory::elements;
use crate::cpu::smooth::Smooth;
use crate::cpu::wide::wide;
use crate::{OpError, Run};

/// Rows that are summed in the elements' own precision before they come to the FP64 totals.
const ROWS: usize = 32;
/// Parts that threads sum by themselves, as many whatever threads there are, so that sums do not depend on them.
const PARTS: usize = 16;

pub(super) fn layer<T: Smooth>(
    results: Vec<(DType, Shape)>,
    operands: [&Tensor; 3],
    epsilon: f64,
    bias: bool,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let [dx, dscale, dbias] = rows::<T>(operands, epsilon, layer_row, run)?;
    let values = [Some(dx), Some(dscale), bias.then_some(dbias)];
    packed(results, values.into_iter().flatten())
}

pub(super) fn rms<T: Smooth>(
    results: Vec<(DType, Shape)>,
    operands: [&Tensor; 3],
    epsilon: f64,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let [dx, dscale, _] = rows::<T>(operands, epsilon, rms_row, run)?;
    packed(results, [dx, dscale])
}

/// dy, x, scale, epsilon; then dx and what is added to dscale and dbias.
type Row<T> =
    for<'a> fn(&'a [T], &'a [T], &'a [T], f64, &'a mut [T], &'a mut [T], &'a mut [T]) -> ();

fn rows<T: Smooth>(
    [dy, x, scale]: [&Tensor; 3],
    epsilon: f64,
    row: Row<T>,
    run: &Run<'_>,
) -> Result<[Vec<T>; 3], OpError> {
    let (dy, x) = (&*elements::<T>(dy)?, &*elements::<T>(x)?);
    let scale = &*elements::<T>(scale)?;
    let mut dx = run.scratch::<T>(x.len())?;
    let n = scale.len().max(1);
    let part = (x.len() / n).div_ceil(PARTS).next_multiple_of(ROWS) * n;
    let totals: [Mutex<Vec<Vec<f64>>>; PARTS] = std::array::from_fn(|_| Mutex::default());
    run.pieces(&mut dx, part, |index, dx| {
        let mut sums = [Sums::new(scale.len(), run)?, Sums::new(scale.len(), run)?];
        let (dy, x) = (&dy[index * part..][..dx.len()], &x[index * part..][..dx.len()]);
        let some = n * ROWS;
        for ((dy, x), dx) in dy.chunks(some).zip(x.chunks(some)).zip(dx.chunks_mut(some)) {
            run.check()?;
            let [dscale, dbias] = &mut sums;
            for ((dy, x), dx) in dy.chunks(n).zip(x.chunks(n)).zip(dx.chunks_mut(n)) {
                row(dy, x, scale, epsilon, dx, &mut dscale.some, &mut dbias.some);
            }
            sums.iter_mut().for_each(Sums::flush);
        }
        *totals[index].lock().unwrap_or_else(PoisonError::into_inner) =
            sums.map(|sums| sums.total).to_vec();
        Ok(())
    })?;
    let mut sums = [run.filled(scale.len(), 0.0)?, run.filled(scale.len(), 0.0)?];
    for part in totals {
        let part = part.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (sum, part) in sums.iter_mut().zip(part) {
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
    let [dscale, dbias] = sums.map(|sums| sums.into_iter().map(T::narrow).collect());
    Ok([dx, dscale, dbias])
}

/// Sums over many rows.
struct Sums<T> {
    some: Vec<T>,
    total: Vec<f64>,
}

impl<T: Smooth> Sums<T> {
    fn new(len: usize, run: &Run<'_>) -> Result<Sums<T>, OpError> {
        Ok(Sums { some: run.filled(len, T::default())?, total: run.filled(len, 0.0)? })
    }

    fn flush(&mut self) {
        for (total, some) in self.total.iter_mut().zip(&mut self.some) {
            *total += std::mem::take(some).widen();
        }
    }
}

wide! {
    /// With h the normalised x and g = dy scale: dx = (g - mean(g) - h mean(g h)) / deviation.
    fn layer_row(
        dy: &'a [T],
        x: &'a [T],
        scale: &'a [T],
        epsilon: f64,
        dx: &'a mut [T],
        dscale: &'a mut [T],
        dbias: &'a mut [T],
    ) -> () {
        let n = x.len() as f64;
        let mean = T::narrow(sum(x) / n);
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = x.sub(mean);
        }
        let inverse = T::narrow(1.0 / (dot(dx, dx) / n + epsilon).sqrt());
        let (mut of_g, mut of_gh) = ([0f64; 16], [0f64; 16]);
        for (block, dx) in dx.chunks_mut(16).enumerate() {
            let at = block * 16;
            let (dy, scale) = (&dy[at..at + dx.len()], &scale[at..at + dx.len()]);
            let (dscale, dbias) = (&mut dscale[at..at + dx.len()], &mut dbias[at..at + dx.len()]);
            for i in 0..dx.len() {
                let h = dx[i].mul(inverse);
                let g = dy[i].mul(scale[i]);
                dscale[i] = dscale[i].add(dy[i].mul(h));
                dbias[i] = dbias[i].add(dy[i]);
                of_g[i] += g.widen();
                of_gh[i] += g.widen() * h.widen();
            }
        }
        let of_g = T::narrow(of_g.iter().sum::<f64>() / n);
        let of_gh = T::narrow(of_gh.iter().sum::<f64>() / n);
        for ((dx, &dy), &scale) in dx.iter_mut().zip(dy).zip(scale) {
            let h = dx.mul(inverse);
            *dx = dy.mul(scale).sub(of_g).sub(h.mul(of_gh)).mul(inverse);
        }
    }
}

wide! {
    /// As for layer normalisation, without the mean.
    fn rms_row(
        dy: &'a [T],
        x: &'a [T],
        scale: &'a [T],
        epsilon: f64,
        dx: &'a mut [T],
        dscale: &'a mut [T],
        _dbias: &'a mut [T],
    ) -> () {
        let n = x.len() as f64;
        let inverse = T::narrow(1.0 / (dot(x, x) / n + epsilon).sqrt());
        let mut of_gh = 0.0;
        for ((((dx, dscale), &dy), &x), &scale) in
            dx.iter_mut().zip(dscale.iter_mut()).zip(dy).zip(x).zip(scale)
        {
            let h = x.mul(inverse);
            *dx = h;
            *dscale = dscale.add(dy.mul(h));
            of_gh += dy.mul(scale).mul(h).widen();
        }
        let of_gh = T::narrow(of_gh / n);
        for ((dx, &dy), &scale) in dx.iter_mut().zip(dy).zip(scale) {
            *dx = dy.mul(scale).sub(dx.mul(of_gh)).mul(inverse);
        }
    }
}

pub(super) fn batch<T: Smooth>(
    results: Vec<(DType, Shape)>,
    [dy, x, scale]: [&Tensor; 3],
    epsilon: f64,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let channels = scale.shape().elements();
    let images = x.shape().dims().first().copied().unwrap_or(0);
    let (dy, x) = (&*elements::<T>(dy)?, &*elements::<T>(x)?);
    let scale = &*elements::<T>(scale)?;
    let mut dx = run.filled(x.len(), T::default())?;
    let (mut dscale, mut dbias) = (run.room(channels)?, run.room(channels)?);
    let plane = x.len() / (images * channels).max(1);
    let count = (images * plane) as f64;
    for (channel, &scale) in scale.iter().enumerate() {
        run.check()?;
        let place = |image: usize| {
            let start = (image * channels + channel) * plane;
            start..start + plane
        };
        let mean = (0..images).map(|i| sum(&x[place(i)])).sum::<f64>() / count;
        let mean_of = T::narrow(mean);
        let mut variance = 0.0;
        let (mut of_dy, mut of_dyh) = (0.0, 0.0);
        for image in 0..images {
            let dx = &mut dx[place(image)];
            let (some, more) = centred(&x[place(image)], &dy[place(image)], mean_of, dx);
            variance += some;
            of_dyh += more;
            of_dy += sum(&dy[place(image)]);
        }
        let inverse = 1.0 / (variance / count + epsilon).sqrt();
        of_dyh *= inverse;
        let factors = [inverse, of_dy / count, of_dyh / count, inverse * scale.widen()];
        for image in 0..images {
            spread(&dy[place(image)], factors.map(T::narrow), &mut dx[place(image)]);
        }
        dscale.push(T::narrow(of_dyh));
        dbias.push(T::narrow(of_dy));
    }
    packed(results, [dx, dscale, dbias])
}

wide! {
    /// `out` = x - mean; the sums of its squares and of its products with dy.
    fn centred(x: &'a [T], dy: &'a [T], mean: T, out: &'a mut [T]) -> (f64, f64) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x.sub(mean);
        }
        (dot(out, out), dot(out, dy))
    }
}

wide! {
    /// dx from the centred x that is in its place.
    fn spread(dy: &'a [T], factors: [T; 4], dx: &'a mut [T]) -> () {
        let [inverse, of_dy, of_dyh, factor] = factors;
        for (dx, &dy) in dx.iter_mut().zip(dy) {
            *dx = dy.sub(of_dy).sub(dx.mul(inverse).mul(of_dyh)).mul(factor);
        }
    }
}

/// Side by side in FP64.
#[inline(always)]
fn sum<T: Smooth>(of: &[T]) -> f64 {
    let mut lanes = [0f64; 16];
    for chunk in of.chunks(16) {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x.widen();
        }
    }
    lanes.iter().sum()
}
