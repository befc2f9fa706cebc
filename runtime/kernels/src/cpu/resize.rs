//! Resampling, one dimension after the other.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::copy::{Copy, Dim, Segment};
use crate::cpu::create;
use crate::cpu::dispatch::{float, word};
use crate::cpu::memory::{elements, tensor, words};
use crate::cpu::number::Float;
use crate::cpu::pieces::{PIECE, write_by};
use crate::cpu::walk::strides;
use crate::{Coordinates, Nearest, OpError, Resize, Run, Sample};

pub(super) fn resize(
    op: &Resize,
    shape: Shape,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    if let Sample::Nearest(nearest) = op.mode {
        return picked(op, nearest, shape, x, run);
    }
    let dtype = x.dtype();
    let wide = if dtype == DType::Fp64 { DType::Fp64 } else { DType::Fp32 };
    let from = create::cast(x, wide, run)?;
    let resized = float!(wide, T => {
        let mut dims = x.shape().dims().to_vec();
        let mut now = elements::<T>(&from)?.into_owned();
        for axis in (0..dims.len()).rev() {
            let line = Line::new(op, axis, dims[axis], shape.dims()[axis]);
            if !line.is_whole() {
                now = along::<T>(op, &line, &dims, axis, &now, run)?;
                dims[axis] = line.to;
            }
        }
        tensor::<T>(wide, shape, now)
    })?;
    create::cast(&resized, dtype, run)
}

/// One dimension of a resampling.
struct Line<'a> {
    op: &'a Resize,
    axis: usize,
    from: usize,
    to: usize,
    scale: f64,
}

impl<'a> Line<'a> {
    fn new(op: &'a Resize, axis: usize, from: usize, to: usize) -> Line<'a> {
        let scale = op.scales.get(axis).copied().unwrap_or_else(|| to as f64 / from.max(1) as f64);
        Line { op, axis, from, to, scale }
    }

    /// Whether every position is where it was.
    fn is_whole(&self) -> bool {
        let moved = matches!(self.op.coordinates, Coordinates::Crop { .. });
        self.from == self.to && self.scale == 1.0 && !moved
    }

    /// Where in x a position of the result is; `None` for outside.
    fn place(&self, i: usize) -> Option<f64> {
        let (i, l, r, s) = (i as f64, self.from as f64, self.to as f64, self.scale);
        let half_pixel = (i + 0.5) / s - 0.5;
        Some(match &self.op.coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => half_pixel + l / 2.0 * (1.0 - r / (s * l)),
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners if self.to == 1 => 0.0,
            Coordinates::PytorchHalfPixel => half_pixel,
            Coordinates::AlignCorners => i * (l - 1.0) / (r - 1.0),
            Coordinates::Asymmetric => i / s,
            Coordinates::Crop { parts, .. } => {
                let (a, b) = parts.get(self.axis).copied().unwrap_or((0.0, 1.0));
                let place = if self.to == 1 {
                    0.5 * (a + b) * (l - 1.0)
                } else {
                    a * (l - 1.0) + i * (b - a) * (l - 1.0) / (r - 1.0)
                };
                if place < 0.0 || place > l - 1.0 {
                    return None;
                }
                place
            }
        })
    }

    fn clamped(&self, position: i64) -> usize {
        position.clamp(0, self.from as i64 - 1) as usize
    }

    /// The positions that make an element, and their weights.
    fn taps(&self, place: f64) -> Vec<(usize, f64)> {
        let shrinks = self.op.antialias && self.scale < 1.0;
        let scale = if shrinks { self.scale } else { 1.0 };
        let (reach, excludes) = match self.op.mode {
            Sample::Cubic { exclude_outside, .. } => (2.0, exclude_outside),
            _ => (1.0, false),
        };
        let base = place.floor();
        let first = (-reach / scale).floor() as i64 + 1;
        let count = 2 * (1 - first);
        let mut taps: Vec<(i64, f64)> = (first..first + count)
            .map(|tap| {
                let position = base as i64 + tap;
                let distance = ((position as f64 - place) * scale).abs();
                (position, self.weight(distance))
            })
            .collect();
        if excludes {
            taps.retain(|&(position, _)| position >= 0 && position < self.from as i64);
        }
        let sum: f64 = taps.iter().map(|tap| tap.1).sum();
        if shrinks || excludes {
            taps.iter_mut().for_each(|tap| tap.1 /= sum);
        }
        let taps = taps.into_iter().filter(|tap| tap.1 != 0.0);
        taps.map(|(position, weight)| (self.clamped(position), weight)).collect()
    }

    fn weight(&self, d: f64) -> f64 {
        match self.op.mode {
            Sample::Cubic { a, .. } if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            Sample::Cubic { a, .. } if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            Sample::Cubic { .. } => 0.0,
            _ => (1.0 - d).max(0.0),
        }
    }
}

/// One dimension resampled.
fn along<T: Float + crate::cpu::number::From64>(
    op: &Resize,
    line: &Line<'_>,
    dims: &[usize],
    axis: usize,
    x: &[T],
    run: &Run<'_>,
) -> Result<Vec<T>, OpError> {
    let blocks: usize = dims[..axis].iter().product();
    let inner: usize = dims[axis + 1..].iter().product();
    let outside = match op.coordinates {
        Coordinates::Crop { outside, .. } => T::from_f64(outside),
        _ => T::default(),
    };
    let taps: Vec<Option<Vec<(usize, T)>>> = (0..line.to)
        .map(|i| {
            let taps = line.taps(line.place(i)?);
            Some(taps.into_iter().map(|(at, weight)| (at, T::from_f64(weight))).collect())
        })
        .collect();
    let mut out = run.scratch::<T>(blocks * line.to * inner)?;
    let row = line.to * inner;
    let blocks_each = (PIECE / row.max(1)).max(1);
    write_by(run, &mut out, blocks_each.saturating_mul(row), |start, out| {
        for (index, out) in out.chunks_mut(row).enumerate() {
            let block = &x[(start / row + index) * line.from * inner..][..line.from * inner];
            for (out, taps) in out.chunks_exact_mut(inner).zip(&taps) {
                match taps {
                    None => out.fill(outside),
                    Some(taps) => weighted(block, inner, taps, out),
                }
            }
        }
        Ok(())
    })?;
    Ok(out)
}

#[inline(always)]
fn weighted<T: Float>(block: &[T], inner: usize, taps: &[(usize, T)], out: &mut [T]) {
    if inner == 1 {
        out[0] =
            taps.iter().fold(T::default(), |sum, &(at, weight)| sum.add(block[at].mul(weight)));
        return;
    }
    out.fill(T::default());
    for &(at, weight) in taps {
        let row = &block[at * inner..(at + 1) * inner];
        out.iter_mut().zip(row).for_each(|(out, &x)| *out = out.add(x.mul(weight)));
    }
}

fn picked(
    op: &Resize,
    nearest: Nearest,
    shape: Shape,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let strides = strides(x.shape());
    let outside = match op.coordinates {
        Coordinates::Crop { outside, .. } => outside,
        _ => 0.0,
    };
    let mut dims = Vec::new();
    for (axis, (&from, &to)) in x.shape().dims().iter().zip(shape.dims()).enumerate() {
        let line = Line::new(op, axis, from, to);
        dims.push(if line.is_whole() {
            Dim::whole(to, strides[axis])
        } else {
            let from = (0..to).map(|i| line.place(i).map(|at| line.clamped(near(nearest, at))));
            Dim::new(segments(from), strides[axis])
        });
    }
    let fill = create::scalar(x.dtype(), outside)?;
    word!(x.dtype(), W => {
        let fill = words::<W>(&fill).first().copied().unwrap_or_default();
        let out = Copy::new(dims).elements(&words::<W>(x), fill, run)?;
        tensor(x.dtype(), shape, out)
    })
}

fn near(nearest: Nearest, place: f64) -> i64 {
    match nearest {
        Nearest::RoundPreferFloor => (place - 0.5).ceil() as i64,
        Nearest::RoundPreferCeil => (place + 0.5).floor() as i64,
        Nearest::Floor => place.floor() as i64,
        Nearest::Ceil => place.ceil() as i64,
    }
}

/// Positions as runs of the same one.
fn segments(from: impl Iterator<Item = Option<usize>>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for from in from {
        match segments.last_mut() {
            Some(last) if last.from == from => last.len += 1,
            _ => segments.push(Segment { from, step: 0, len: 1 }),
        }
    }
    segments
}
