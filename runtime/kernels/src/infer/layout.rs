//! Shapes of operations that move elements and compute nothing.

use std::ops::Range;

use innkeeper_tensor::{DType, RANK_MAX, Shape};

use crate::OpError;
use crate::error::invalid;
use crate::infer::dtypes::Class;
use crate::infer::{Operand, axes, result_shape, shape_error};

/// `wanted` with its -1 worked out.
pub(crate) fn reshape(op: &str, from: &Shape, wanted: &[i64]) -> Result<Shape, OpError> {
    let elements = from.elements();
    let open = wanted.iter().take(RANK_MAX + 1).position(|&dim| dim == -1);
    let Some(open) = open else {
        let shape = Shape::from_i64(wanted).map_err(|error| shape_error(op, &error))?;
        return if shape.elements() == elements {
            Ok(shape)
        } else {
            Err(invalid(
                op,
                format_args!("{shape} holds {} elements, {from} has {elements}", shape.elements()),
            ))
        };
    };
    if wanted.len() > RANK_MAX {
        return Err(invalid(
            op,
            format_args!("at most {RANK_MAX} dimensions, got {}", wanted.len()),
        ));
    }
    let mut dims = wanted.to_vec();
    dims[open] = 1;
    // A second -1 is refused here, as a negative size.
    let rest = Shape::from_i64(&dims).map_err(|error| shape_error(op, &error))?.elements();
    if rest == 0 || !elements.is_multiple_of(rest) {
        return Err(invalid(
            op,
            format_args!("-1 in {wanted:?} cannot be worked out: {from} has {elements} elements"),
        ));
    }
    dims[open] = (elements / rest) as i64;
    Shape::from_i64(&dims).map_err(|error| shape_error(op, &error))
}

/// `shape` with its dimensions reordered.
pub(crate) fn transpose(op: &str, shape: &Shape, permutation: &[usize]) -> Result<Shape, OpError> {
    let rank = shape.rank();
    let mut seen = [false; RANK_MAX];
    let mut dims = [0; RANK_MAX];
    let fits = permutation.len() == rank
        && permutation.iter().enumerate().all(|(to, &from)| {
            let fresh = from < rank && !seen[from];
            if fresh {
                seen[from] = true;
                dims[to] = shape.dims()[from];
            }
            fresh
        });
    if !fits {
        let start = &permutation[..permutation.len().min(RANK_MAX + 1)];
        return Err(invalid(
            op,
            format_args!(
                "the permutation for {shape} must have 0 to {rank} (excluded) once each, \
                 got {start:?}"
            ),
        ));
    }
    result_shape(op, &dims[..rank])
}

/// `shape` cut along an axis; the axis and the positions that remain.
pub(crate) fn slice(
    op: &str,
    shape: &Shape,
    axis: i64,
    start: i64,
    end: i64,
) -> Result<(Shape, usize, Range<usize>), OpError> {
    let axis = axes::axis(op, axis, shape.rank())?;
    let size = shape.dims()[axis];
    let start = position(start, size);
    let end = position(end, size).max(start);
    let mut dims = shape.dims().to_vec();
    dims[axis] = end - start;
    Ok((result_shape(op, &dims)?, axis, start..end))
}

/// A position as Python reads it: negative from the end, then clamped.
fn position(position: i64, size: usize) -> usize {
    // A shape's sizes fit into an i64.
    let size = size as i64;
    let from_start = if position < 0 { position.saturating_add(size) } else { position };
    from_start.clamp(0, size) as usize
}

/// The dtype and shape of parts joined along an axis.
pub(crate) fn concat(
    op: &str,
    parts: &[Operand<'_>],
    axis: i64,
) -> Result<(DType, Shape), OpError> {
    let Some(&(dtype, first)) = parts.first() else {
        return Err(invalid(op, "takes at least 1 operand, got none"));
    };
    Class::Fixed.check(op, dtype)?;
    let axis = axes::axis(op, axis, first.rank())?;
    let mut dims = first.dims().to_vec();
    for (index, &(other, shape)) in parts.iter().enumerate().skip(1) {
        let agrees = shape.rank() == first.rank()
            && (shape.dims().iter().zip(first.dims()).enumerate())
                .all(|(dim, (a, b))| a == b || dim == axis);
        if other != dtype || !agrees {
            return Err(invalid(
                op,
                format_args!(
                    "part {index} is {other} {shape}; all must be as part 0, {dtype} {first}, \
                     save in dimension {axis}"
                ),
            ));
        }
        dims[axis] = dims[axis].saturating_add(shape.dims()[axis]);
    }
    Ok((dtype, result_shape(op, &dims)?))
}

/// `data` with a dimension replaced by those of `indices`.
pub(crate) fn gather(op: &str, data: &Shape, indices: &Shape, axis: i64) -> Result<Shape, OpError> {
    let axis = axes::axis(op, axis, data.rank())?;
    let (before, after) = (&data.dims()[..axis], &data.dims()[axis + 1..]);
    result_shape(op, &[before, indices.dims(), after].concat())
}
