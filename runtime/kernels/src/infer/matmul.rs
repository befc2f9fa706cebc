//! Shapes of matrix products.

use innkeeper_tensor::Shape;

use crate::OpError;
use crate::error::invalid;
use crate::infer::{axes, result_shape};

/// A checked matrix product.
pub(crate) struct Product {
    /// The shape of the result.
    pub(crate) shape: Shape,
    /// The dimensions before the last two, broadcast.
    pub(crate) batch: Shape,
    /// Rows of one matrix of the left side and of the result.
    pub(crate) m: usize,
    /// The dimension that is summed over.
    pub(crate) k: usize,
    /// Columns of one matrix of the right side and of the result.
    pub(crate) n: usize,
}

/// `a` times `b`.
pub(crate) fn matmul(op: &str, a: &Shape, b: &Shape) -> Result<Product, OpError> {
    let (Some((batch_a, m, k)), Some((batch_b, n, rows))) = (left(a.dims()), right(b.dims()))
    else {
        return Err(invalid(op, format_args!("{a} by {b}: a scalar is no matrix; use mul")));
    };
    if k != rows {
        return Err(invalid(
            op,
            format_args!(
                "{a} by {b}: the left side's columns ({k}) must be the right side's \
                 rows ({rows})"
            ),
        ));
    }
    let batch = axes::broadcast(op, &[&result_shape(op, batch_a)?, &result_shape(op, batch_b)?])?;
    let mut dims = batch.dims().to_vec();
    dims.extend((a.rank() > 1).then_some(m));
    dims.extend((b.rank() > 1).then_some(n));
    Ok(Product { shape: result_shape(op, &dims)?, batch, m, k, n })
}

/// Batch, rows and columns of a left side; a vector is a row.
pub(crate) fn left(dims: &[usize]) -> Option<(&[usize], usize, usize)> {
    match dims {
        [] => None,
        &[k] => Some((&[], 1, k)),
        [batch @ .., m, k] => Some((batch, *m, *k)),
    }
}

/// Batch, columns and rows of a right side; a vector is a column.
pub(crate) fn right(dims: &[usize]) -> Option<(&[usize], usize, usize)> {
    match dims {
        [] => None,
        &[k] => Some((&[], 1, k)),
        [batch @ .., k, n] => Some((batch, *n, *k)),
    }
}

/// Which of the operands after the weight is the bias, and which the residual.
pub(crate) fn added<T>(
    mut rest: impl Iterator<Item = T>,
    bias: bool,
    residual: bool,
) -> (Option<T>, Option<T>) {
    let bias = if bias { rest.next() } else { None };
    let residual = if residual { rest.next() } else { None };
    (bias, residual)
}

/// `x` times `weight` transposed, plus `bias` and `residual`; all leading dimensions of x are rows, so that there is no
/// batch.
pub(crate) fn linear(
    op: &str,
    x: &Shape,
    weight: &Shape,
    bias: Option<&Shape>,
    residual: Option<&Shape>,
) -> Result<Product, OpError> {
    let (&[out, wanted], [lead @ .., got]) = (weight.dims(), x.dims()) else {
        return Err(invalid(
            op,
            format_args!("x must be [..,in] and weight [out,in], got {x} and {weight}"),
        ));
    };
    if wanted != *got {
        return Err(invalid(
            op,
            format_args!("x {x} must end in {wanted}, as weight {weight} says"),
        ));
    }
    if let Some(bias) = bias
        && bias.dims() != [out]
    {
        return Err(invalid(
            op,
            format_args!("bias must be [{out}] as weight {weight} says, got {bias}"),
        ));
    }
    let rows = result_shape(op, lead)?;
    let shape = result_shape(op, &[lead, &[out]].concat())?;
    if let Some(residual) = residual
        && *residual != shape
    {
        return Err(invalid(
            op,
            format_args!("residual must be {shape} as the result is, got {residual}"),
        ));
    }
    let batch = result_shape(op, &[])?;
    Ok(Product { shape, batch, m: rows.elements(), k: wanted, n: out })
}
