//! Normalisation.

use innkeeper_tensor::{DType, Shape, Tensor};
use pulp::{Simd, WithSimd};

use crate::cpu::dispatch::floating;
use crate::cpu::memory::{elements, tensor};
use crate::cpu::number::Number;
use crate::cpu::pieces::{PIECE, write_by, write_two_by};
use crate::cpu::simd::{F32, dispatch_by};
use crate::cpu::walk::around;
use crate::error::invalid;
use crate::infer::axes;
use crate::op::Norm;
use crate::{Isa, OpError, Run};

/// What runs of neighbouring elements are brought to.
#[derive(Clone, Copy)]
struct Line {
    len: usize,
    epsilon: f64,
    /// Whether the mean is taken off first.
    centred: bool,
}

pub(super) fn norm(
    norm: &Norm,
    results: &[(DType, Shape)],
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let ([x, rest @ ..], [(dtype, shape), ..]) = (inputs, results) else {
        return Err(invalid("norm", "takes operands"));
    };
    floating!(*dtype, T => match *norm {
        Norm::Layer { axis, epsilon, residual, keep_sum, .. } => {
            let line = Line { len: len(shape, axis)?, epsilon, centred: true };
            lines::<T>(line, residual, keep_sum, shape, x, rest, run)
        }
        Norm::Rms { axis, epsilon, residual, keep_sum } => {
            let line = Line { len: len(shape, axis)?, epsilon, centred: false };
            lines::<T>(line, residual, keep_sum, shape, x, rest, run)
        }
        Norm::Batch { epsilon } => Ok(vec![batch::<T>(epsilon, shape, x, rest, run)?]),
        Norm::Group { groups, epsilon } => {
            Ok(vec![grouped::<T>(groups, epsilon, shape, x, rest, run)?])
        }
        Norm::Instance { epsilon } => {
            let channels = shape.dims().get(1).copied().unwrap_or(1);
            Ok(vec![grouped::<T>(channels, epsilon, shape, x, rest, run)?])
        }
        Norm::Lp { axis, p } => {
            let axis = axes::axis("lp-norm", axis, shape.rank())?;
            Ok(vec![lp::<T>(axis, p, shape, x, run)?])
        }
    })
}

fn len(shape: &Shape, axis: i64) -> Result<usize, OpError> {
    let axis = axes::axis("norm", axis, shape.rank())?;
    Ok(shape.dims()[axis..].iter().product())
}

/// Each run of `line.len` elements, weighted element by element.
fn lines<T: Number<Sum = f64>>(
    line: Line,
    residual: bool,
    keep_sum: bool,
    shape: &Shape,
    x: &Tensor,
    rest: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let (added, weights) = rest.split_at(usize::from(residual));
    let x = elements::<T>(x)?;
    let added = added.first().map(|added| elements::<T>(added)).transpose()?;
    let scale = weights.first().map(|scale| elements::<T>(scale)).transpose()?;
    let bias = weights.get(1).map(|bias| elements::<T>(bias)).transpose()?;
    let (scale, bias) = (scale.as_deref().unwrap_or(&[]), bias.as_deref());
    let mut out = run.scratch::<T>(x.len())?;
    let mut sums = run.scratch::<T>(if keep_sum { x.len() } else { 0 })?;
    let size = (PIECE / line.len.max(1)).max(1) * line.len;
    let part = |start: usize, out: &mut [T], sums: &mut [T]| {
        let here = start..start + out.len();
        let added = added.as_deref().map(|added| &added[here.clone()]);
        if !sums.is_empty() {
            add(&x[here.clone()], added, sums);
            normalise(run.isa(), line, sums, None, scale, bias, out);
        } else {
            normalise(run.isa(), line, &x[here], added, scale, bias, out);
        }
        Ok(())
    };
    if keep_sum {
        write_two_by(run, &mut out, &mut sums, size, part)?;
    } else {
        write_by(run, &mut out, size, |start, out| part(start, out, &mut []))?;
    }
    let mut results = vec![tensor(T::DTYPE, shape.clone(), out)?];
    if keep_sum {
        results.push(tensor(T::DTYPE, shape.clone(), sums)?);
    }
    Ok(results)
}

/// x + added, rounded.
fn add<T: Number<Sum = f64>>(x: &[T], added: Option<&[T]>, sums: &mut [T]) {
    match added {
        Some(added) => {
            for ((sum, &x), &added) in sums.iter_mut().zip(x).zip(added) {
                *sum = x.add(added);
            }
        }
        None => sums.copy_from_slice(x),
    }
}

fn normalise<T: Number<Sum = f64>>(
    isa: Isa,
    line: Line,
    x: &[T],
    added: Option<&[T]>,
    scale: &[T],
    bias: Option<&[T]>,
    out: &mut [T],
) {
    if line.len == 0 {
        return;
    }
    if T::DTYPE == DType::Fp32 {
        return dispatch_by(
            isa,
            Rows {
                line,
                x: bytemuck::cast_slice(x),
                added: added.map(bytemuck::cast_slice),
                scale: bytemuck::cast_slice(scale),
                bias: bias.map(bytemuck::cast_slice),
                out: bytemuck::cast_slice_mut(out),
            },
        );
    }
    let len = line.len;
    for (row, (x, out)) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)).enumerate() {
        let of = |i: usize| x[i].widen() + added.map_or(0.0, |added| added[row * len + i].widen());
        let mean = if line.centred { (0..len).map(of).sum::<f64>() / len as f64 } else { 0.0 };
        let variance = (0..len).map(|i| (of(i) - mean).powi(2)).sum::<f64>() / len as f64;
        let by = 1.0 / (variance + line.epsilon).sqrt();
        for i in 0..len {
            let more = bias.map_or(0.0, |bias| bias[i].widen());
            out[i] = T::narrow((of(i) - mean) * by * scale[i].widen() + more);
        }
    }
}

/// Rows of FP32.
struct Rows<'a> {
    line: Line,
    x: &'a [f32],
    added: Option<&'a [f32]>,
    scale: &'a [f32],
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Line { len, epsilon, centred } = self.line;
        let one_over = 1.0 / len as f32;
        let rows = self.x.chunks_exact(len).zip(self.out.chunks_exact_mut(len));
        for (row, (x, out)) in rows.enumerate() {
            // What is normalised lies in the result from here on, where the caches hold it.
            match self.added {
                Some(added) => sum_of(simd, x, &added[row * len..][..len], out),
                None => out.copy_from_slice(x),
            }
            let mean = if centred { total(simd, out, 0.0, |x| x) * one_over } else { 0.0 };
            let variance = total(simd, out, mean, |x| x * x) * one_over;
            let by = 1.0 / (variance + epsilon as f32).sqrt();
            weigh(simd, out, mean, by, self.scale, self.bias);
        }
    }
}

#[inline(always)]
fn sum_of<S: Simd>(simd: S, a: &[f32], b: &[f32], out: &mut [f32]) {
    let ((a, rest_a), (b, rest_b)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let (out, rest) = S::as_mut_simd_f32s(out);
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = simd.add_f32s(a, b);
    }
    for ((out, a), b) in rest.iter_mut().zip(rest_a).zip(rest_b) {
        *out = a + b;
    }
}

/// The sum of `f` of what is above `mean`.
#[inline(always)]
fn total<S: Simd>(simd: S, x: &[f32], mean: f32, f: impl Fn(F32<S>) -> F32<S>) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(x);
    let (fours, ones) = vectors.as_chunks::<4>();
    let off = F32::of(simd, mean);
    let mut sums = [F32::of(simd, 0.0); 4];
    for four in fours {
        for (sum, &x) in sums.iter_mut().zip(four) {
            *sum = *sum + f(F32(simd, x) - off);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(ones) {
        *sum = *sum + f(F32(simd, x) - off);
    }
    let mut sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum();
    for &x in rest {
        // The same function, of a vector whose other lanes are zeros before and after.
        let mut lanes = [0f32; 1];
        f(F32::of(simd, x - mean)).store(&mut lanes);
        sum += lanes[0];
    }
    sum
}

#[inline(always)]
fn weigh<S: Simd>(simd: S, x: &mut [f32], mean: f32, by: f32, scale: &[f32], bias: Option<&[f32]>) {
    let (x, rest) = S::as_mut_simd_f32s(x);
    let (scale, rest_scale) = S::as_simd_f32s(scale);
    let (off, by_all) = (F32::of(simd, mean), F32::of(simd, by));
    if let Some(bias) = bias {
        let (bias, rest_bias) = S::as_simd_f32s(bias);
        for ((x, &scale), &bias) in x.iter_mut().zip(scale).zip(bias) {
            *x = ((F32(simd, *x) - off) * by_all).fma(F32(simd, scale), F32(simd, bias)).1;
        }
        for ((x, scale), bias) in rest.iter_mut().zip(rest_scale).zip(rest_bias) {
            *x = (*x - mean) * by * scale + bias;
        }
    } else {
        for (x, &scale) in x.iter_mut().zip(scale) {
            *x = ((F32(simd, *x) - off) * by_all * F32(simd, scale)).1;
        }
        for (x, scale) in rest.iter_mut().zip(rest_scale) {
            *x = (*x - mean) * by * scale;
        }
    }
}

/// Elements times one number plus another, in planes.
struct Affine<'a> {
    x: &'a [f32],
    by: f32,
    more: f32,
    out: &'a mut [f32],
}

impl WithSimd for Affine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, rest_x) = S::as_simd_f32s(self.x);
        let (out, rest) = S::as_mut_simd_f32s(self.out);
        let (by, more) = (F32::of(simd, self.by), F32::of(simd, self.more));
        for (out, &x) in out.iter_mut().zip(x) {
            *out = F32(simd, x).fma(by, more).1;
        }
        for (out, x) in rest.iter_mut().zip(rest_x) {
            *out = x * self.by + self.more;
        }
    }
}

fn affine<T: Number<Sum = f64>>(isa: Isa, x: &[T], by: f64, more: f64, out: &mut [T]) {
    if T::DTYPE == DType::Fp32 {
        let (x, out) = (bytemuck::cast_slice(x), bytemuck::cast_slice_mut(out));
        return dispatch_by(isa, Affine { x, by: by as f32, more: more as f32, out });
    }
    for (out, x) in out.iter_mut().zip(x) {
        *out = T::narrow(x.widen() * by + more);
    }
}

fn batch<T: Number<Sum = f64>>(
    epsilon: f64,
    shape: &Shape,
    x: &Tensor,
    rest: &[&Tensor],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let [scale, bias, mean, variance] = rest else {
        return Err(invalid("batch-norm", "takes 5 operands"));
    };
    let (x, scale, bias) = (elements::<T>(x)?, elements::<T>(scale)?, elements::<T>(bias)?);
    let (mean, variance) = (elements::<T>(mean)?, elements::<T>(variance)?);
    let channels = scale.len();
    let plane: usize = shape.dims().iter().skip(2).product();
    let mut out = run.scratch::<T>(x.len())?;
    let size = (PIECE / plane.max(1)).max(1) * plane;
    write_by(run, &mut out, size, |start, out| {
        let planes = x[start..].chunks_exact(plane).zip(out.chunks_exact_mut(plane));
        for (index, (x, out)) in planes.enumerate() {
            let c = (start / plane + index) % channels;
            let by = scale[c].widen() / (variance[c].widen() + epsilon).sqrt();
            affine(run.isa(), x, by, bias[c].widen() - mean[c].widen() * by, out);
        }
        Ok(())
    })?;
    tensor(T::DTYPE, shape.clone(), out)
}

fn grouped<T: Number<Sum = f64>>(
    groups: usize,
    epsilon: f64,
    shape: &Shape,
    x: &Tensor,
    rest: &[&Tensor],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let [scale, bias] = rest else {
        return Err(invalid("group-norm", "takes 3 operands"));
    };
    let (x, scale, bias) = (elements::<T>(x)?, elements::<T>(scale)?, elements::<T>(bias)?);
    let channels = scale.len() / groups.max(1);
    let plane: usize = shape.dims().iter().skip(2).product();
    let mut out = run.scratch::<T>(x.len())?;
    let size = channels * plane;
    write_by(run, &mut out, size, |start, out| {
        let x = &x[start..start + out.len()];
        let (mean, variance) = moments(run.isa(), x);
        let over = 1.0 / (variance + epsilon).sqrt();
        let first = (start / size) % groups * channels;
        let planes = x.chunks_exact(plane).zip(out.chunks_exact_mut(plane));
        for (c, (x, out)) in (first..).zip(planes) {
            let by = scale[c].widen() * over;
            affine(run.isa(), x, by, bias[c].widen() - mean * by, out);
        }
        Ok(())
    })?;
    tensor(T::DTYPE, shape.clone(), out)
}

/// The mean and the variance.
fn moments<T: Number<Sum = f64>>(isa: Isa, x: &[T]) -> (f64, f64) {
    let count = x.len() as f64;
    if T::DTYPE == DType::Fp32 {
        let x: &[f32] = bytemuck::cast_slice(x);
        let mean = dispatch_by(isa, Total { x, mean: 0.0, squares: false }) / count as f32;
        let variance = dispatch_by(isa, Total { x, mean, squares: true }) / count as f32;
        return (mean.into(), variance.into());
    }
    let mean = x.iter().map(|x| x.widen()).sum::<f64>() / count;
    let variance = x.iter().map(|x| (x.widen() - mean).powi(2)).sum::<f64>() / count;
    (mean, variance)
}

/// The sum of what is above the mean, or of its squares.
struct Total<'a> {
    x: &'a [f32],
    mean: f32,
    squares: bool,
}

impl WithSimd for Total<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        if self.squares {
            total(simd, self.x, self.mean, |x| x * x)
        } else {
            total(simd, self.x, self.mean, |x| x)
        }
    }
}

fn lp<T: Number<Sum = f64>>(
    axis: usize,
    p: u32,
    shape: &Shape,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let x = elements::<T>(x)?;
    let mut out = run.scratch::<T>(x.len())?;
    if x.is_empty() {
        return tensor(T::DTYPE, shape.clone(), out);
    }
    let (_, len, step) = around(shape, axis);
    write_by(run, &mut out, len * step, |start, out| {
        let x = &x[start..start + out.len()];
        for first in 0..step {
            let line = || x.iter().skip(first).step_by(step).map(|x| x.widen());
            let norm = match p {
                1 => line().map(f64::abs).sum::<f64>(),
                _ => line().map(|x| x * x).sum::<f64>().sqrt(),
            };
            for (out, x) in out.iter_mut().skip(first).step_by(step).zip(line()) {
                *out = T::narrow(if norm == 0.0 { 0.0 } else { x / norm });
            }
        }
        Ok(())
    })?;
    tensor(T::DTYPE, shape.clone(), out)
}
