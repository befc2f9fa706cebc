//! Pooling.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::conv::for_taps;
use crate::cpu::dispatch::{floating, numeric};
use crate::cpu::memory::{elements, tensor};
use crate::cpu::number::Number;
use crate::error::invalid;
use crate::infer::conv::pooling;
use crate::infer::grad::window::{SPATIAL_MAX, Slide};
use crate::op::{PoolKind, Pooling};
use crate::{OpError, Run};

pub(super) fn pool(
    pool: &Pooling,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let [x] = inputs else {
        return Err(invalid("pool", "takes 1 operand"));
    };
    let (slide, shape) = pooling(pool, x.shape())?;
    match pool.kind {
        PoolKind::Max { indices } => {
            let (of, mut places) = numeric!(x.dtype(), T => largest::<T>(&slide, shape, x, run))?;
            if !indices {
                places.truncate(0);
            }
            Ok([of].into_iter().chain(places).collect())
        }
        PoolKind::Average { count_include_pad } => floating!(x.dtype(), T => {
            let padded = slide.padded_sizes();
            of_windows::<T>(&slide, shape, x, run, |at, values| {
                let mut sum = 0.0;
                let mut count = 0;
                values(&mut |x: T| {
                    sum += x.widen();
                    count += 1;
                });
                if count_include_pad {
                    count = slide.taps_within(at, &padded);
                }
                T::narrow(sum / count as f64)
            })
        }),
        PoolKind::Lp { p } => floating!(x.dtype(), T => {
            of_windows::<T>(&slide, shape, x, run, |_, values| {
                let mut sum = 0.0;
                values(&mut |x: T| sum += x.widen().abs().powf(p.into()));
                T::narrow(sum.powf(1.0 / f64::from(p)))
            })
        }),
    }
}

/// What `of` makes of each window, given its number and its values.
fn of_windows<T: Number>(
    slide: &Slide,
    shape: Shape,
    x: &Tensor,
    run: &Run<'_>,
    of: impl Fn(usize, &dyn Fn(&mut dyn FnMut(T))) -> T + Sync,
) -> Result<Vec<Tensor>, OpError> {
    let from = elements::<T>(x)?;
    let (plane, count) = (slide.plane(), slide.count());
    let mut out = run.scratch::<T>(shape.elements())?;
    run.pieces(&mut out, count.max(1), |index, out| {
        let from = &from[index * plane..][..plane];
        for (at, out) in out.iter_mut().enumerate() {
            *out = of(at, &|each| for_taps(slide, at, |_, from_x| each(from[from_x])));
        }
        Ok(())
    })?;
    Ok(vec![tensor(x.dtype(), shape, out)?])
}

/// The largest of each window, and where it is.
fn largest<T: Number>(
    slide: &Slide,
    shape: Shape,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<(Tensor, Vec<Tensor>), OpError> {
    let from = elements::<T>(x)?;
    let (plane, count) = (slide.plane(), slide.count());
    let mut places = run.scratch::<i64>(shape.elements())?;
    run.pieces(&mut places, count.max(1), |index, places| {
        let from = &from[index * plane..][..plane];
        for (at, place) in places.iter_mut().enumerate() {
            let mut best: Option<(usize, T)> = None;
            for_taps(slide, at, |_, at| {
                let x = from[at];
                let better =
                    best.is_none_or(|(_, best)| x > best || (x.is_nan() && !best.is_nan()));
                if better {
                    best = Some((at, x));
                }
            });
            *place = best.map_or(-1, |(at, _)| (index * plane + at) as i64);
        }
        Ok(())
    })?;
    let mut out = run.scratch::<T>(places.len())?;
    for (out, &place) in out.iter_mut().zip(&places) {
        *out = usize::try_from(place).map_or(T::LOWEST, |place| from[place]);
    }
    let places = tensor(DType::Int64, shape.clone(), places)?;
    Ok((tensor(x.dtype(), shape, out)?, vec![places]))
}

impl Slide {
    /// The sizes with padding on both sides.
    fn padded_sizes(&self) -> [usize; SPATIAL_MAX] {
        std::array::from_fn(|at| self.input[at] + self.before[at] + self.after[at])
    }

    /// How many elements of window `at` lie within the padded operand: those beyond, where the last window is cut, do
    /// not count.
    fn taps_within(&self, at: usize, padded: &[usize; SPATIAL_MAX]) -> usize {
        let [_, height, width] = self.output;
        let window = [at / (height * width), at / width % height, at % width];
        let mut count = 1;
        for at in 0..SPATIAL_MAX {
            let start = window[at] * self.strides[at];
            let there = padded[at].saturating_sub(start).div_ceil(self.dilations[at]);
            count *= there.min(self.kernel[at]);
        }
        count
    }
}
