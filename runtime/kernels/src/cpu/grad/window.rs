//! Windows that slide over spatial dimensions.

use innkeeper_tensor::{DType, Shape, Tensor};

use super::packed;
use crate::cpu::memory::elements;
use crate::cpu::smooth::Smooth;
use crate::infer::grad::window::Slide;
use crate::{OpError, Run};

/// Every window's elements as a column: `[channels * taps, windows]`, zero in the padding, which `out` is already.
pub(super) fn unfold<T: Smooth>(slide: &Slide, x: &[T], out: &mut [T]) {
    let channels = x.chunks(slide.plane()).zip(out.chunks_mut(slide.taps() * slide.count()));
    for (x, out) in channels {
        each_run(slide, |row, [column, place], step, len| {
            let to = &mut out[row * slide.count() + column..][..len];
            if step == 1 {
                to.copy_from_slice(&x[place..place + len]);
            } else {
                to.iter_mut().zip(x[place..].iter().step_by(step)).for_each(|(to, &x)| *to = x);
            }
        });
    }
}

/// Adds every column's elements to where [`unfold`] took them from.
pub(super) fn fold<T: Smooth>(slide: &Slide, columns: &[T], dx: &mut [T]) {
    let channels = dx.chunks_mut(slide.plane()).zip(columns.chunks(slide.taps() * slide.count()));
    for (dx, columns) in channels {
        each_run(slide, |row, [column, place], step, len| {
            let from = &columns[row * slide.count() + column..][..len];
            let to = dx[place..].iter_mut().step_by(step);
            to.zip(from).for_each(|(to, &from)| *to = to.add(from));
        });
    }
}

/// For each tap and each row of windows: the run of windows whose tap lies inside.
#[inline(always)]
fn each_run(slide: &Slide, mut run: impl FnMut(usize, [usize; 2], usize, usize)) {
    let [k0, k1, k2] = slide.kernel;
    let [o0, o1, o2] = slide.output;
    let [_, i1, i2] = slide.input;
    for tap in 0..k0 * k1 * k2 {
        let [t0, t1, t2] = [tap / (k1 * k2), tap / k2 % k1, tap % k2];
        // The windows along the last dimension whose tap is neither before nor after the elements.
        let Some(first) = (0..o2).find(|&o| slide.place(2, o, t2).is_some()) else { continue };
        let len = (first..o2).take_while(|&o| slide.place(2, o, t2).is_some()).count();
        for (w0, w1) in (0..o0).flat_map(|w0| (0..o1).map(move |w1| (w0, w1))) {
            let (Some(p0), Some(p1), Some(p2)) =
                (slide.place(0, w0, t0), slide.place(1, w1, t1), slide.place(2, first, t2))
            else {
                continue;
            };
            let column = (w0 * o1 + w1) * o2 + first;
            run(tap, [column, (p0 * i1 + p1) * i2 + p2], slide.strides[2], len);
        }
    }
}

pub(super) fn max_pool<T: Smooth>(
    slide: &Slide,
    results: Vec<(DType, Shape)>,
    dy: &Tensor,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let (dy, x) = (&*elements::<T>(dy)?, &*elements::<T>(x)?);
    let mut dx = run.filled(x.len(), T::default())?;
    let (plane, count) = (slide.plane().max(1), slide.count().max(1));
    for ((dy, x), dx) in dy.chunks(count).zip(x.chunks(plane)).zip(dx.chunks_mut(plane)) {
        run.check()?;
        each_window(slide, |window, places| {
            let mut best: Option<(usize, T)> = None;
            for place in places.flatten() {
                let element = x[place];
                let larger = best.is_none_or(|(_, largest)| {
                    element > largest || (element.is_nan() && !largest.is_nan())
                });
                if larger {
                    best = Some((place, element));
                }
            }
            if let Some((place, _)) = best {
                dx[place] = dx[place].add(dy[window]);
            }
        });
    }
    packed(results, [dx])
}

pub(super) fn average_pool<T: Smooth>(
    slide: &Slide,
    results: Vec<(DType, Shape)>,
    dy: &Tensor,
    count_include_pad: bool,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let dy = &*elements::<T>(dy)?;
    let len = results.first().map_or(0, |(_, shape)| shape.elements());
    let mut dx = run.filled(len, T::default())?;
    let (plane, count) = (slide.plane().max(1), slide.count().max(1));
    for (dy, dx) in dy.chunks(count).zip(dx.chunks_mut(plane)) {
        run.check()?;
        each_window(slide, |window, places| {
            let all: Vec<Option<usize>> = places.collect();
            let inside = all.iter().flatten().count();
            let shared_by = if count_include_pad { slide.padded(window) } else { inside };
            let share = dy[window].div(T::from_f64(shared_by.max(1) as f64));
            for place in all.into_iter().flatten() {
                dx[place] = dx[place].add(share);
            }
        });
    }
    packed(results, [dx])
}

/// For each window the places of its elements, `None` in the padding.
fn each_window(
    slide: &Slide,
    mut work: impl FnMut(usize, &mut dyn Iterator<Item = Option<usize>>),
) {
    let [_, o1, o2] = slide.output;
    let [_, k1, k2] = slide.kernel;
    let [_, i1, i2] = slide.input;
    for window in 0..slide.count() {
        let [w0, w1, w2] = [window / (o1 * o2), window / o2 % o1, window % o2];
        let mut places = (0..slide.taps()).map(|tap| {
            let p0 = slide.place(0, w0, tap / (k1 * k2))?;
            let p1 = slide.place(1, w1, tap / k2 % k1)?;
            let p2 = slide.place(2, w2, tap % k2)?;
            Some((p0 * i1 + p1) * i2 + p2)
        });
        work(window, &mut places);
    }
}

impl Slide {
    /// Elements of a window, those in the padding included, but not what is beyond it.
    fn padded(&self, window: usize) -> usize {
        let [_, o1, o2] = self.output;
        let at = [window / (o1 * o2), window / o2 % o1, window % o2];
        let along = |dim: usize| {
            let end = self.before[dim] + self.input[dim] + self.after[dim];
            let start = at[dim] * self.strides[dim];
            (0..self.kernel[dim]).filter(|tap| start + tap * self.dilations[dim] < end).count()
        };
        (0..at.len()).map(along).product()
    }
}
