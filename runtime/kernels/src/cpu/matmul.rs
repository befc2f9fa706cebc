//! Matrix products.

use half::slice::HalfFloatSliceExt;
use innkeeper_tensor::{DType, Shape, Tensor, bf16, f16};

use crate::cpu::activation;
use crate::cpu::dispatch::refused;
use crate::cpu::gemm::{Matrices, Real, gemm};
use crate::cpu::memory::{elements, tensor};
use crate::cpu::product::{Halves, Product, Right};
use crate::cpu::rows;
use crate::cpu::walk::Walk;
use crate::infer::matmul as shapes;
use crate::infer::matmul::Product as Sizes;
use crate::infer::result_shape;
use crate::{Activation, OpError, Run};

/// Up to this many rows the right side is read once and packing it would cost more than it gains.
const FEW_ROWS_MAX: usize = 4;
/// Multiply-adds that are done in one go: a part of a millisecond.
const CHUNK: usize = 4 << 20;
/// Elements of a right side from which on threads share the product of few rows.
const SHARED_MIN: usize = 1 << 18;

pub(super) fn matmul(run: &Run<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let sizes = shapes::matmul("matmul", a.shape(), b.shape())?;
    match a.dtype() {
        DType::Fp32 => {
            let mut out = run.scratch::<f32>(sizes.shape.elements())?;
            batched(run, &sizes, a, b, &mut out)?;
            tensor(a.dtype(), sizes.shape, out)
        }
        DType::Fp64 => {
            let mut out = run.filled(sizes.shape.elements(), 0f64)?;
            batched(run, &sizes, a, b, &mut out)?;
            tensor(a.dtype(), sizes.shape, out)
        }
        half @ (DType::Fp16 | DType::Bf16) => {
            let [a, b] = [widened(a, run)?, widened(b, run)?];
            let mut out = run.scratch::<f32>(sizes.shape.elements())?;
            batched(run, &sizes, &a, &b, &mut out)?;
            run.recycle(a);
            run.recycle(b);
            narrowed(half, sizes.shape, out, run)
        }
        other => Err(refused(other)),
    }
}

/// a^T b of FP32, `[k, m]` and `[k, n]`, without turning a first.
pub(super) fn turned(run: &Run<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let (&[k, m], &[depth, n]) = (a.shape().dims(), b.shape().dims()) else {
        return Err(OpError::InvalidArgument("two matrices are wanted".into()));
    };
    if k != depth {
        return Err(OpError::InvalidArgument(format!(
            "{k} rows and {depth} rows are not the same"
        )));
    }
    let shape = result_shape("matmul", &[m, n])?;
    let (a, b) = (elements::<f32>(a)?, elements::<f32>(b)?);
    let right = Right { k, n, elements: &b, transposed: false };
    let product = Product { transposed: true, ..Product::plain(m, &a, right) };
    let mut out = run.scratch::<f32>(shape.elements())?;
    product.run(run, &mut out)?;
    tensor(DType::Fp32, shape, out)
}

/// 16-bit floats as FP32.
fn widened(x: &Tensor, run: &Run<'_>) -> Result<Tensor, OpError> {
    let mut out = run.scratch::<f32>(x.shape().elements())?;
    match x.dtype() {
        DType::Fp16 => elements::<f16>(x)?.convert_to_f32_slice(&mut out),
        _ => elements::<bf16>(x)?.convert_to_f32_slice(&mut out),
    }
    tensor(DType::Fp32, x.shape().clone(), out)
}

/// FP32 as 16-bit floats, rounded to nearest, ties to even.
fn narrowed(dtype: DType, shape: Shape, from: Vec<f32>, run: &Run<'_>) -> Result<Tensor, OpError> {
    let result = if dtype == DType::Fp16 {
        let mut out = run.scratch::<f16>(from.len())?;
        out.convert_from_f32_slice(&from);
        tensor(dtype, shape, out)
    } else {
        let mut out = run.scratch::<bf16>(from.len())?;
        out.convert_from_f32_slice(&from);
        tensor(dtype, shape, out)
    };
    run.give(from);
    result
}

/// A linear layer whose operands and result are 16-bit floats: sums are FP32, and results rounded once.
fn half_linear(
    run: &Run<'_>,
    sizes: &Sizes,
    [x, weight]: [&Tensor; 2],
    (bias, residual): Added<'_>,
    activation: Activation,
) -> Result<Tensor, OpError> {
    let from = widened(x, run)?;
    let wide = |operand: Option<&Tensor>| operand.map(|it| widened(it, run)).transpose();
    let (bias, residual) = (wide(bias)?, wide(residual)?);
    let added = (bias.as_ref(), residual.as_ref());
    let out = product_of_halves(run, sizes, [&from, weight], added, activation)?;
    narrowed(x.dtype(), sizes.shape.clone(), out, run)
}

/// A linear layer of FP32 whose weight `[out, in]` alone is kept in 16-bit floats.
pub(super) fn linear_of_halves(
    run: &Run<'_>,
    x: &Tensor,
    weight: &Tensor,
    added: Added<'_>,
    activation: Activation,
) -> Result<Tensor, OpError> {
    let (bias, residual) = added;
    let [of_bias, of_residual] = [bias, residual].map(|operand| operand.map(Tensor::shape));
    let sizes = shapes::linear("linear", x.shape(), weight.shape(), of_bias, of_residual)?;
    let out = product_of_halves(run, &sizes, [x, weight], added, activation)?;
    tensor(DType::Fp32, sizes.shape, out)
}

/// activation(x weight^T + bias + residual) of FP32 operands but the weight, which is of 16-bit floats.
fn product_of_halves(
    run: &Run<'_>,
    sizes: &Sizes,
    [x, weight]: [&Tensor; 2],
    (bias, residual): Added<'_>,
    activation: Activation,
) -> Result<Vec<f32>, OpError> {
    let &Sizes { m, k, n, .. } = sizes;
    let (a, right) = (elements::<f32>(x)?, Halves::of(weight, [n, k], run.isa())?);
    let bias = bias.map(elements::<f32>).transpose()?;
    let residual = residual.map(elements::<f32>).transpose()?;
    let b = Right { k, n, elements: &[], transposed: true };
    let product = Product {
        bias: bias.as_deref(),
        residual: residual.as_deref(),
        activation,
        ..Product::plain(m, &a, b)
    };
    let mut out = run.scratch::<f32>(sizes.shape.elements())?;
    product.run_coded(&right, run, &mut out)?;
    Ok(out)
}

/// What is added to a product before its activation: bias and residual.
pub(super) type Added<'a> = (Option<&'a Tensor>, Option<&'a Tensor>);

pub(super) fn linear(
    run: &Run<'_>,
    x: &Tensor,
    weight: &Tensor,
    added: Added<'_>,
    activation: Activation,
) -> Result<Tensor, OpError> {
    let (bias, residual) = added;
    let [of_bias, of_residual] = [bias, residual].map(|operand| operand.map(Tensor::shape));
    let sizes = shapes::linear("linear", x.shape(), weight.shape(), of_bias, of_residual)?;
    match x.dtype() {
        DType::Fp32 if sizes.m > FEW_ROWS_MAX || weight.is_constant() => {
            let mut out = run.scratch::<f32>(sizes.shape.elements())?;
            let Sizes { m, k, n, .. } = sizes;
            let (a, b) = (&elements(x)?, &elements(weight)?);
            let bias = bias.map(elements::<f32>).transpose()?;
            let residual = residual.map(elements::<f32>).transpose()?;
            let product = Product {
                m,
                a,
                transposed: false,
                b: Right { k, n, elements: b, transposed: true },
                constant: weight.is_constant().then_some(weight),
                bias: bias.as_deref(),
                row_bias: None,
                residual: residual.as_deref(),
                activation,
            };
            product.run(run, &mut out)?;
            tensor(x.dtype(), sizes.shape, out)
        }
        DType::Fp32 => plain_linear::<f32>(run, &sizes, [x, weight], added, activation),
        DType::Fp16 | DType::Bf16 => half_linear(run, &sizes, [x, weight], added, activation),
        DType::Fp64 => plain_linear::<f64>(run, &sizes, [x, weight], added, activation),
        other => Err(refused(other)),
    }
}

/// A linear layer in three passes.
fn plain_linear<T: Real>(
    run: &Run<'_>,
    sizes: &Sizes,
    [x, weight]: [&Tensor; 2],
    (bias, residual): Added<'_>,
    activation: Activation,
) -> Result<Tensor, OpError> {
    let mut out = run.filled(sizes.shape.elements(), T::default())?;
    if !out.is_empty() {
        if let Some(residual) = residual {
            out.copy_from_slice(&elements::<T>(residual)?);
        }
        if let Some(bias) = bias {
            let bias = elements::<T>(bias)?;
            out.chunks_exact_mut(sizes.n).for_each(|row| {
                row.iter_mut().zip(&*bias).for_each(|(out, &bias)| *out = out.add(bias));
            });
        }
        let &Sizes { m, k, n, .. } = sizes;
        let (a, b) = (&elements::<T>(x)?, &elements::<T>(weight)?);
        multiply(run, &Matrices { m, k, n, a, b, b_transposed: true }, &mut out)?;
        activation::apply(activation, &mut out);
    }
    tensor(x.dtype(), sizes.shape.clone(), out)
}

/// An element with products of its own.
trait Multiply: Real {
    /// `out = a b` where out is 0 or anything, as the type wants it.
    fn product(
        run: &Run<'_>,
        matrices: &Matrices<'_, Self>,
        constant: Option<&Tensor>,
        out: &mut [Self],
    ) -> Result<(), OpError>;
}

impl Multiply for f64 {
    fn product(
        run: &Run<'_>,
        matrices: &Matrices<'_, f64>,
        _: Option<&Tensor>,
        out: &mut [f64],
    ) -> Result<(), OpError> {
        multiply(run, matrices, out)
    }
}

impl Multiply for f32 {
    fn product(
        run: &Run<'_>,
        matrices: &Matrices<'_, f32>,
        constant: Option<&Tensor>,
        out: &mut [f32],
    ) -> Result<(), OpError> {
        let &Matrices { m, k, n, a, b, b_transposed } = matrices;
        if n == 1 || (m <= FEW_ROWS_MAX && constant.is_none()) {
            out.fill(0.0);
            return multiply(run, matrices, out);
        }
        let b = Right { k, n, elements: b, transposed: b_transposed };
        Product { constant, ..Product::plain(m, a, b) }.run(run, out)
    }
}

/// One product for each matrix of the batch.
fn batched<T: Multiply>(
    run: &Run<'_>,
    sizes: &Sizes,
    a: &Tensor,
    b: &Tensor,
    out: &mut [T],
) -> Result<(), OpError> {
    let &Sizes { m, k, n, .. } = sizes;
    if out.is_empty() {
        return Ok(());
    }
    if k == 0 {
        out.fill(T::default());
        return Ok(());
    }
    let (left, right) = (&*elements::<T>(a)?, &*elements::<T>(b)?);
    if right.len() == k * n {
        // One right side for all: the batch is so many more rows.
        let m = m * sizes.batch.elements();
        let matrices = Matrices { m, k, n, a: left, b: right, b_transposed: false };
        return T::product(run, &matrices, b.is_constant().then_some(b), out);
    }
    let places = places(sizes, a, b)?;
    let one = |run: &Run<'_>, index: usize, out: &mut [T]| {
        let [at_a, at_b] = places[index];
        let (a, b) = (&left[at_a * m * k..][..m * k], &right[at_b * k * n..][..k * n]);
        T::product(run, &Matrices { m, k, n, a, b, b_transposed: false }, None, out)
    };
    let work = m.saturating_mul(k).saturating_mul(n);
    if work > CHUNK {
        let mut results = out.chunks_exact_mut(m * n).enumerate();
        return results.try_for_each(|(index, out)| one(run, index, out));
    }
    let together = (CHUNK / work.max(1)).min(places.len().div_ceil(run.threads() * 4)).max(1);
    let alone = run.alone();
    run.pieces(out, together * m * n, |piece, out| {
        let mut results = out.chunks_exact_mut(m * n).enumerate();
        results.try_for_each(|(index, out)| one(&alone, piece * together + index, out))
    })
}

/// Which matrices of the two sides make each matrix of the result.
fn places(sizes: &Sizes, a: &Tensor, b: &Tensor) -> Result<Vec<[usize; 2]>, OpError> {
    let (batch_a, batch_b) = (batch(a.shape())?, batch(b.shape())?);
    let walk = Walk::broadcast(&sizes.batch, [&batch_a, &batch_b]);
    let (len, [step_a, step_b]) = walk.inner();
    let mut places = Vec::with_capacity(sizes.batch.elements());
    walk.rows(|[at_a, at_b]| {
        places.extend((0..len).map(|i| [at_a + i * step_a, at_b + i * step_b]));
    });
    Ok(places)
}

/// The dimensions before the last two.
fn batch(shape: &Shape) -> Result<Shape, OpError> {
    let dims = &shape.dims()[..shape.rank().saturating_sub(2)];
    Shape::new(dims).map_err(|error| OpError::InvalidArgument(error.to_string()))
}

/// Adds one product to `out`, by the way that suits its size.
fn multiply<T: Real>(
    run: &Run<'_>,
    matrices: &Matrices<'_, T>,
    out: &mut [T],
) -> Result<(), OpError> {
    let &Matrices { m, k, n, a, b, b_transposed } = matrices;
    if m <= FEW_ROWS_MAX {
        few_rows(run, matrices, out)
    } else if n == 1 {
        // A column lies in memory as a row does: the same sums with the sides exchanged.
        let row = Matrices { m: 1, k, n: m, a: b, b: a, b_transposed: true };
        multiply(run, &row, out)
    } else {
        let rows = (CHUNK / (k * n).max(1)).clamp(64, m.max(64));
        run.pieces(out, rows * n, |piece, out| {
            let m = out.len() / n;
            let a = &a[piece * rows * k..][..m * k];
            gemm(&Matrices { m, k, n, a, b, b_transposed }, out)
        })
    }
}

/// Adds a product of few rows to `out`. Threads share its columns.
fn few_rows<T: Real>(
    run: &Run<'_>,
    matrices: &Matrices<'_, T>,
    out: &mut [T],
) -> Result<(), OpError> {
    let &Matrices { m, k, n, .. } = matrices;
    let work = k.saturating_mul(n);
    let shares = if work < SHARED_MIN { 1 } else { run.threads() };
    let columns = (CHUNK / k.max(1)).min(n.div_ceil(shares)).max(1).next_multiple_of(64);
    if m == 1 || columns >= n {
        return run.pieces(out, columns * m, |piece, out| {
            let first = piece * columns;
            rows::multiply(matrices, first..first + out.len() / m, out);
            Ok(())
        });
    }
    // A piece's columns lie together, row after row, until all are done.
    let mut sums = run.filled(m * n, T::default())?;
    run.pieces(&mut sums, columns * m, |piece, sums| {
        let first = piece * columns;
        rows::multiply(matrices, first..first + sums.len() / m, sums);
        Ok(())
    })?;
    for (first, sums) in (0..n).step_by(columns).zip(sums.chunks(columns * m)) {
        for (row, sums) in sums.chunks_exact(sums.len() / m).enumerate() {
            let out = out[row * n + first..].iter_mut().zip(sums);
            out.for_each(|(out, &sum)| *out = out.add(sum));
        }
    }
    run.give(sums);
    Ok(())
}
