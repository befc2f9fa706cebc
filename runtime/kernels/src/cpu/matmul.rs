//! Matrix products.

use innkeeper_tensor::{Shape, Tensor};

use crate::cpu::activation;
use crate::cpu::dispatch::float;
use crate::cpu::gemm::{Matrices, Real, gemm};
use crate::cpu::memory::{elements, filled, tensor};
use crate::cpu::rows;
use crate::cpu::walk::Walk;
use crate::infer::matmul as shapes;
use crate::infer::matmul::Product;
use crate::{Activation, OpError};

/// Up to this many rows the right side is read once and packing it would cost more than it gains.
const FEW_ROWS_MAX: usize = 4;

pub(super) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let product = shapes::matmul("matmul", a.shape(), b.shape())?;
    float!(a.dtype(), T => {
        let mut out = filled(product.shape.elements(), T::default())?;
        if !out.is_empty() && product.k > 0 {
            batched::<T>(&product, a, b, &mut out)?;
        }
        tensor(a.dtype(), product.shape, out)
    })
}

pub(super) fn linear(
    x: &Tensor,
    weight: &Tensor,
    (bias, residual): (Option<&Tensor>, Option<&Tensor>),
    activation: Activation,
) -> Result<Tensor, OpError> {
    let [of_bias, of_residual] = [bias, residual].map(|operand| operand.map(Tensor::shape));
    let product = shapes::linear("linear", x.shape(), weight.shape(), of_bias, of_residual)?;
    float!(x.dtype(), T => {
        let mut out = filled(product.shape.elements(), T::default())?;
        if !out.is_empty() {
            if let Some(residual) = residual {
                out.copy_from_slice(&elements::<T>(residual)?);
            }
            if let Some(bias) = bias {
                let bias = elements::<T>(bias)?;
                out.chunks_exact_mut(product.n).for_each(|row| {
                    row.iter_mut().zip(&*bias).for_each(|(out, &bias)| *out += bias);
                });
            }
            let Product { m, k, n, .. } = product;
            let (a, b) = (&elements::<T>(x)?, &elements::<T>(weight)?);
            multiply(&Matrices { m, k, n, a, b, b_transposed: true }, &mut out)?;
            activation::apply(activation, &mut out);
        }
        tensor(x.dtype(), product.shape, out)
    })
}

/// One product for each matrix of the batch, added to `out`, which is not empty.
fn batched<T: Real>(
    product: &Product,
    a: &Tensor,
    b: &Tensor,
    out: &mut [T],
) -> Result<(), OpError> {
    let &Product { m, k, n, .. } = product;
    let (left, right) = (&*elements::<T>(a)?, &*elements::<T>(b)?);
    if right.len() == k * n {
        // One right side for all: the batch is so many more rows.
        let m = m * product.batch.elements();
        return multiply(&Matrices { m, k, n, a: left, b: right, b_transposed: false }, out);
    }
    let (batch_a, batch_b) = (batch(a.shape())?, batch(b.shape())?);
    let walk = Walk::broadcast(&product.batch, [&batch_a, &batch_b]);
    let (len, [step_a, step_b]) = walk.inner();
    let mut results = out.chunks_exact_mut(m * n);
    let mut outcome = Ok(());
    walk.rows(|[at_a, at_b]| {
        for (i, out) in (0..len).zip(&mut results) {
            let (at_a, at_b) = ((at_a + i * step_a) * m * k, (at_b + i * step_b) * k * n);
            let (a, b) = (&left[at_a..at_a + m * k], &right[at_b..at_b + k * n]);
            let one = multiply(&Matrices { m, k, n, a, b, b_transposed: false }, out);
            if one.is_err() {
                outcome = one;
            }
        }
    });
    outcome
}

/// The dimensions before the last two.
fn batch(shape: &Shape) -> Result<Shape, OpError> {
    let dims = &shape.dims()[..shape.rank().saturating_sub(2)];
    Shape::new(dims).map_err(|error| OpError::InvalidArgument(error.to_string()))
}

/// Adds one product to `out`, by the way that suits its size.
fn multiply<T: Real>(matrices: &Matrices<'_, T>, out: &mut [T]) -> Result<(), OpError> {
    let &Matrices { m, k, n, a, b, .. } = matrices;
    if m <= FEW_ROWS_MAX {
        rows::multiply(matrices, out);
        Ok(())
    } else if n == 1 {
        // A column lies in memory as a row does: the same sums with the sides exchanged.
        rows::multiply(&Matrices { m: 1, k, n: m, a: b, b: a, b_transposed: true }, out);
        Ok(())
    } else {
        gemm(matrices, out)
    }
}
