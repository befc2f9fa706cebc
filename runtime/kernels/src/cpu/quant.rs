//! Quantising, dequantising, and products of quantised numbers.

use innkeeper_tensor::{DType, Element, Shape, Tensor};

use crate::cpu::activation;
use crate::cpu::bytes::{Left, Plain, Right, multiply};
use crate::cpu::dispatch::refused;
use crate::cpu::memory::{elements, tensor};
use crate::cpu::product::{self, Nibbles, Product};
use crate::infer::{axes, matmul, quant as infer};
use crate::{Activation, OpError, Quant, Run};

/// Elements that one chunk of an elementwise operation takes.
const CHUNK: usize = 64 << 10;

pub(super) fn quant(
    quant: &Quant,
    results: Vec<(DType, Shape)>,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let one = |result: Result<Tensor, OpError>| result.map(|result| vec![result]);
    match (*quant, inputs) {
        (Quant::Dynamic, [x]) => dynamic(results, x, run),
        (Quant::Quantize { to, axis, .. }, [x, scale, zero @ ..]) => {
            one(quantize(x, scale, zero.first().copied(), to, axis, run))
        }
        (Quant::Dequantize { axis, .. }, [x, scale, zero @ ..]) => {
            one(dequantize(x, scale, zero.first().copied(), axis, run))
        }
        (Quant::MatMul { a_zero, b_zero }, [a, b, rest @ ..]) => {
            let zeros = matmul::added(rest.iter().copied(), a_zero, b_zero);
            one(integer(quant.name(), inputs, a, b, zeros, run))
        }
        (Quant::Linear8 { bias, residual, activation }, [x, weight, scales, rest @ ..]) => {
            let shapes: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
            let sizes = infer::linear8(quant.name(), &shapes, bias, residual)?;
            let added = matmul::added(rest.iter().copied(), bias, residual);
            one(linear8(&sizes, [x, weight, scales], added, activation, run))
        }
        (Quant::Linear4 { group, bias, residual, activation }, [x, weight, scales, rest @ ..]) => {
            let shapes: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
            let sizes = infer::linear4(quant.name(), &shapes, group, bias, residual)?;
            let added = matmul::added(rest.iter().copied(), bias, residual);
            one(linear4(&sizes, [x, weight, scales], group, added, activation, run))
        }
        (Quant::Weight4 { group }, [weight]) => weight4(results, weight, group, run),
        (Quant::Weight8, [weight]) => weight8(results, weight, run),
        _ => Err(OpError::InvalidArgument(format!("{}: wrong number of operands", quant.name()))),
    }
}

/// The smallest and the largest of some numbers and 0.
fn range(x: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    pulp::Arch::new().dispatch(|| {
        let (mut low, mut high) = ([0f32; LANES], [0f32; LANES]);
        let (chunks, rest) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                low[lane] = if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] };
                high[lane] = if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] };
            }
        }
        let all = (low.into_iter().fold(0.0, f32::min), high.into_iter().fold(0.0, f32::max));
        rest.iter().fold(all, |(low, high), &x| (low.min(x), high.max(x)))
    })
}

/// Scale and zero point of unsigned bytes for numbers in a range that holds 0.
fn scale_of((low, high): (f32, f32)) -> (f32, u8) {
    let scale = (high - low) / 255.0;
    if scale == 0.0 || !scale.is_finite() {
        return (if scale == 0.0 { 1.0 } else { scale }, 0);
    }
    (scale, (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8)
}

/// The nearest integer of numbers that are far below 2^22, ties to even.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i32
}

/// `x / scale + zero` as bytes between `least` and `most`; signed ones keep their bits.
fn quantize_row(x: &[f32], scale: f32, zero: i32, (least, most): (i32, i32), out: &mut [u8]) {
    pulp::Arch::new().dispatch(|| {
        for (&x, out) in x.iter().zip(out) {
            let bounded = (x / scale).clamp(-100_000.0, 100_000.0);
            *out = (nearest(bounded) + zero).clamp(least, most) as u8;
        }
    });
}

fn dynamic(
    results: Vec<(DType, Shape)>,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let from = elements::<f32>(x)?;
    let (scale, zero) = scale_of(range(&from));
    let mut out = run.scratch::<u8>(from.len())?;
    run.pieces(&mut out, CHUNK, |piece, out| {
        let from = &from[piece * CHUNK..][..out.len()];
        quantize_row(from, scale, zero.into(), (0, 255), out);
        Ok(())
    })?;
    let [(of_q, q), (of_scale, scalar), (of_zero, other)] = <[_; 3]>::try_from(results)
        .map_err(|_| OpError::InvalidArgument("dynamic-quantize has three results".into()))?;
    Ok(vec![
        tensor(of_q, q, out)?,
        tensor(of_scale, scalar, vec![scale])?,
        tensor(of_zero, other, vec![zero])?,
    ])
}

/// Rows of equal scale: how many positions the axis has, and how many elements of each lie together.
fn runs(x: &Tensor, scale: &Tensor, axis: i64) -> Result<(usize, usize), OpError> {
    if scale.shape().elements() == 1 {
        return Ok((1, x.shape().elements()));
    }
    let axis = axes::axis("quantize", axis, x.shape().rank())?;
    let dims = x.shape().dims();
    Ok((dims[axis], dims[axis + 1..].iter().product()))
}

fn quantize(
    x: &Tensor,
    scale: &Tensor,
    zero: Option<&Tensor>,
    to: DType,
    axis: i64,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let (from, scales) = (elements::<f32>(x)?, elements::<f32>(scale)?);
    let signed = to == DType::Int8;
    let zero = zero.map(|zero| zeros(zero, signed));
    let (positions, together) = runs(x, scale, axis)?;
    let bounds = if signed { (-128, 127) } else { (0, 255) };
    let mut out = run.scratch::<u8>(from.len())?;
    let piece = together.clamp(1, CHUNK);
    let per_run = together.div_ceil(piece).max(1);
    each_run(&mut out, together, piece, run, |at, start, out| {
        let position = at / per_run % positions.max(1);
        let zero = zero.as_ref().map_or(0, |zero| zero[position]);
        quantize_row(&from[start..][..out.len()], scales[position], zero, bounds, out);
    })?;
    tensor(to, x.shape().clone(), out)
}

fn dequantize(
    x: &Tensor,
    scale: &Tensor,
    zero: Option<&Tensor>,
    axis: i64,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    match x.dtype() {
        DType::Uint8 => dequantized::<u8>(x, scale, zero, axis, run),
        DType::Int8 => dequantized::<i8>(x, scale, zero, axis, run),
        DType::Int32 => dequantized::<i32>(x, scale, zero, axis, run),
        other => Err(refused(other)),
    }
}

fn dequantized<T: Element + Into<i32>>(
    x: &Tensor,
    scale: &Tensor,
    zero: Option<&Tensor>,
    axis: i64,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let (from, scales) = (elements::<T>(x)?, elements::<f32>(scale)?);
    let zero = zero.map(elements::<T>).transpose()?;
    let (positions, together) = runs(x, scale, axis)?;
    let mut out = run.scratch::<f32>(from.len())?;
    let piece = together.clamp(1, CHUNK);
    let per_run = together.div_ceil(piece).max(1);
    each_run(&mut out, together, piece, run, |at, start, out| {
        let position = at / per_run % positions.max(1);
        let scale = scales[position];
        let zero: i32 = zero.as_ref().map_or(0, |zero| zero[position].into());
        for (out, &x) in out.iter_mut().zip(&from[start..]) {
            *out = x.into().wrapping_sub(zero) as f32 * scale;
        }
    })?;
    tensor(DType::Fp32, x.shape().clone(), out)
}

/// Calls `f` with the number, the start and the elements of each piece of `out`, none of which is in two runs of
/// `together` elements.
fn each_run<T: Send>(
    out: &mut [T],
    together: usize,
    piece: usize,
    run: &Run<'_>,
    f: impl Fn(usize, usize, &mut [T]) + Sync,
) -> Result<(), OpError> {
    let together = together.max(1);
    // As many whole runs for one chunk as make it worth while, or one part of a run.
    let runs = (CHUNK / together).max(1);
    let per_run = together.div_ceil(piece).max(1);
    run.pieces(out, runs * together, |chunk, out| {
        for (index, of_run) in out.chunks_mut(together).enumerate() {
            for (part, out) in of_run.chunks_mut(piece).enumerate() {
                let at = chunk * runs + index;
                f(at * per_run + part, at * together + part * piece, out);
            }
        }
        Ok(())
    })
}

/// Zero points of bytes.
fn zeros(zero: &Tensor, signed: bool) -> Vec<i32> {
    let widen = |&byte: &u8| if signed { i32::from(byte as i8) } else { i32::from(byte) };
    zero.as_bytes().iter().map(widen).collect()
}

fn integer(
    op: &str,
    inputs: &[&Tensor],
    a: &Tensor,
    b: &Tensor,
    (a_zero, b_zero): (Option<&Tensor>, Option<&Tensor>),
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let shapes: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let (shape, m, k, n) = infer::integer(op, &shapes, a_zero.is_some(), b_zero.is_some())?;
    // a is made unsigned and b signed; zero points move along, and differences stay what they are.
    let (a_signed, b_unsigned) = (a.dtype() == DType::Int8, b.dtype() == DType::Uint8);
    let (up, down) = (i32::from(a_signed) * 128, i32::from(b_unsigned) * 128);
    let moved = |zero: Option<&Tensor>, signed, by: i32| -> Vec<i32> {
        let zero = zero.map_or_else(|| vec![0], |zero| zeros(zero, signed));
        zero.into_iter().map(|zero| zero + by).collect()
    };
    let (a_zero, b_zero) = (moved(a_zero, a_signed, up), moved(b_zero, !b_unsigned, -down));
    let (from, flip) = (a.as_bytes(), if a_signed { 0x80 } else { 0 });
    let left = Left::new(run, m, k, |row, out| {
        out.iter_mut().zip(&from[row * k..]).for_each(|(out, &byte)| *out = byte ^ flip);
    })?;
    let plain = Plain { k, n, bytes: b.as_bytes(), transposed: false, unsigned: b_unsigned };
    let right = Right::of(plain, b, run.isa())?;
    let row_sum = |row: usize| -> i32 {
        from[row * k..][..k].iter().map(|&byte| i32::from(byte ^ flip)).fold(0, i32::wrapping_add)
    };
    let row_sums: Vec<i32> = match b_zero.iter().all(|&zero| zero == 0) {
        true => Vec::new(),
        false => (0..m).map(row_sum).collect(),
    };
    let mut out = run.scratch::<i32>(shape.elements())?;
    multiply(run, &left, &right, &mut out, |row, first, sums, out| {
        let za = if a_zero.len() == 1 { a_zero[0] } else { a_zero[row] };
        let row_sum = row_sums.get(row).copied().unwrap_or(0);
        let of_row = row_sum.wrapping_sub((k as i32).wrapping_mul(za));
        let columns = &right.sums[first..];
        if let [zb] = *b_zero {
            let add = zb.wrapping_mul(of_row);
            for ((out, &sum), &column) in out.iter_mut().zip(sums).zip(columns) {
                *out = sum.wrapping_sub(za.wrapping_mul(column)).wrapping_sub(add);
            }
        } else {
            for (((out, &sum), &column), &zb) in
                out.iter_mut().zip(sums).zip(columns).zip(&b_zero[first..])
            {
                let of_b = zb.wrapping_mul(of_row);
                *out = sum.wrapping_sub(za.wrapping_mul(column)).wrapping_sub(of_b);
            }
        }
    })?;
    left.give(run);
    tensor(DType::Int32, shape, out)
}

fn linear8(
    sizes: &matmul::Product,
    [x, weight, scales]: [&Tensor; 3],
    (bias, residual): (Option<&Tensor>, Option<&Tensor>),
    activation: Activation,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let &matmul::Product { m, k, n, .. } = sizes;
    let (from, scales) = (elements::<f32>(x)?, elements::<f32>(scales)?);
    let bias = bias.map(elements::<f32>).transpose()?;
    let residual = residual.map(elements::<f32>).transpose()?;
    let plain = Plain { k, n, bytes: weight.as_bytes(), transposed: true, unsigned: false };
    let right = Right::of(plain, weight, run.isa())?;
    let product = Product8 {
        sizes: [m, k, n],
        x: &from,
        right: &right,
        scales: &scales,
        bias: bias.as_deref(),
        residual: residual.as_deref(),
        activation,
    };
    let mut out = run.scratch::<f32>(sizes.shape.elements())?;
    product.run(run, &mut out)?;
    tensor(DType::Fp32, sizes.shape.clone(), out)
}

/// x (FP32 `[.., k]`) times weight (INT8 `[k, n]`) whose row i stands for itself times scale i (FP32 `[k]`), FP32 of this
/// shape: the scales go into x, whose rows are then quantised each by its own range.
pub(super) fn matmul8(
    x: &Tensor,
    weight: &Tensor,
    scales: &Tensor,
    shape: Shape,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let &[k, n] = weight.shape().dims() else { return Err(refused(weight.dtype())) };
    let (from, scales) = (elements::<f32>(x)?, elements::<f32>(scales)?);
    let m = from.len().checked_div(k).unwrap_or(0);
    let mut out = run.scratch::<f32>(shape.elements())?;
    if k == 0 {
        out.fill(0.0);
        return tensor(DType::Fp32, shape, out);
    }
    let mut scaled = run.scratch::<f32>(from.len())?;
    run.pieces(&mut scaled, (CHUNK / k).max(1) * k, |piece, out| {
        let from = &from[piece * (CHUNK / k).max(1) * k..];
        for (out, from) in out.chunks_exact_mut(k).zip(from.chunks_exact(k)) {
            let pairs = out.iter_mut().zip(from).zip(&*scales);
            pairs.for_each(|((out, x), scale)| *out = x * scale);
        }
        Ok(())
    })?;
    let plain = Plain { k, n, bytes: weight.as_bytes(), transposed: false, unsigned: false };
    let right = Right::of(plain, weight, run.isa())?;
    let product = Product8 {
        sizes: [m, k, n],
        x: &scaled,
        right: &right,
        scales: &vec![1f32; n],
        bias: None,
        residual: None,
        activation: Activation::None,
    };
    product.run(run, &mut out)?;
    run.give(scaled);
    tensor(DType::Fp32, shape, out)
}

/// A product of rows that are quantised as they come by bytes that are.
struct Product8<'a> {
    /// m, k and n.
    sizes: [usize; 3],
    /// `[m, k]`.
    x: &'a [f32],
    right: &'a Right,
    /// `[n]`.
    scales: &'a [f32],
    /// `[n]`.
    bias: Option<&'a [f32]>,
    /// `[m, n]`.
    residual: Option<&'a [f32]>,
    activation: Activation,
}

impl Product8<'_> {
    /// Writes every element of `out`.
    fn run(&self, run: &Run<'_>, out: &mut [f32]) -> Result<(), OpError> {
        let &Product8 { sizes: [m, k, n], x: from, right, .. } = self;
        let mut of_rows = vec![(0f32, 0u8); m];
        let together = (CHUNK / k.max(1)).max(1);
        run.pieces(&mut of_rows, together, |piece, of_rows| {
            for (index, of_row) in of_rows.iter_mut().enumerate() {
                *of_row = scale_of(range(&from[(piece * together + index) * k..][..k]));
            }
            Ok(())
        })?;
        let left = Left::new(run, m, k, |row, out| {
            let (scale, zero) = of_rows[row];
            quantize_row(&from[row * k..][..k], scale, zero.into(), (0, 255), out);
        })?;
        let none = vec![0f32; if self.bias.is_none() { n } else { 0 }];
        let bias = self.bias.unwrap_or(&none);
        multiply(run, &left, right, out, |row, first, sums, out| {
            let (scale, zero) = of_rows[row];
            let zero = i32::from(zero);
            let width = out.len();
            let (columns, scales) = (&right.sums[first..][..width], &self.scales[first..][..width]);
            let bias = &bias[first..][..width];
            for j in 0..width {
                let sum = sums[j].wrapping_sub(zero.wrapping_mul(columns[j]));
                out[j] = sum as f32 * (scale * scales[j]) + bias[j];
            }
            if let Some(residual) = self.residual {
                let residual = &residual[row * n + first..];
                out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
            }
            activation::apply(self.activation, out);
        })?;
        left.give(run);
        Ok(())
    }
}

fn weight8(
    results: Vec<(DType, Shape)>,
    weight: &Tensor,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let from = elements::<f32>(weight)?;
    let [(of_q, q), (of_scales, scales)] = <[_; 2]>::try_from(results)
        .map_err(|_| OpError::InvalidArgument("quantize-weight has two results".into()))?;
    let k = q.dims()[1];
    let row_scale = |row: usize| {
        let (low, high) = range(&from[row * k..][..k]);
        let scale = high.max(-low) / 127.0;
        if scale > 0.0 { scale } else { 1.0 }
    };
    let of_rows: Vec<f32> = (0..q.dims()[0]).map(row_scale).collect();
    let mut out = run.scratch::<u8>(from.len())?;
    run.pieces(&mut out, k, |row, out| {
        quantize_row(&from[row * k..][..k], of_rows[row], 0, (-127, 127), out);
        Ok(())
    })?;
    Ok(vec![tensor(of_q, q, out)?, tensor(of_scales, scales, of_rows)?])
}

fn linear4(
    sizes: &matmul::Product,
    [x, weight, scales]: [&Tensor; 3],
    group: usize,
    (bias, residual): (Option<&Tensor>, Option<&Tensor>),
    activation: Activation,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let &matmul::Product { m, k, n, .. } = sizes;
    let from = elements::<f32>(x)?;
    let bias = bias.map(elements::<f32>).transpose()?;
    let residual = residual.map(elements::<f32>).transpose()?;
    let right = Nibbles::of(weight, scales, [n, k], group, run.isa())?;
    let b = product::Right { k, n, elements: &[], transposed: true };
    let product = Product {
        bias: bias.as_deref(),
        residual: residual.as_deref(),
        activation,
        ..Product::plain(m, &from, b)
    };
    let mut out = run.scratch::<f32>(sizes.shape.elements())?;
    product.run_coded(&right, run, &mut out)?;
    tensor(DType::Fp32, sizes.shape.clone(), out)
}

fn weight4(
    results: Vec<(DType, Shape)>,
    weight: &Tensor,
    group: usize,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let from = elements::<f32>(weight)?;
    let [(of_q, q), (of_scales, scales)] = <[_; 2]>::try_from(results)
        .map_err(|_| OpError::InvalidArgument("quantize-weight-int4 has two results".into()))?;
    let scale_of = |group: &[f32]| {
        let far = group.iter().fold(0f32, |far, &x| if x.abs() > far.abs() { x } else { far });
        if far == 0.0 { 1.0 } else { far / -8.0 }
    };
    let of_groups: Vec<f32> = from.chunks_exact(group).map(scale_of).collect();
    let mut out = run.scratch::<u8>(from.len() / 2)?;
    run.pieces(&mut out, group / 2 * 256, |piece, out| {
        for (index, out) in out.chunks_exact_mut(group / 2).enumerate() {
            let at = piece * 256 + index;
            let pairs = from[at * group..][..group].as_chunks::<2>().0;
            for (out, pair) in out.iter_mut().zip(pairs) {
                let [low, high] = pair.map(|x| {
                    (nearest((x / of_groups[at]).clamp(-16.0, 16.0)) + 8).clamp(0, 15) as u8
                });
                *out = low | high << 4;
            }
        }
        Ok(())
    })?;
    Ok(vec![tensor(of_q, q, out)?, tensor(of_scales, scales, of_groups)?])
}
