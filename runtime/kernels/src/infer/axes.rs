//! Axes and broadcasting.

use innkeeper_tensor::{RANK_MAX, Shape};

use crate::OpError;
use crate::error::invalid;
use crate::infer::result_shape;

/// The dimension that `axis` means.
pub(crate) fn axis(op: &str, axis: i64, rank: usize) -> Result<usize, OpError> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match from_start {
        Some(index) if (0..rank as i64).contains(&index) => Ok(index as usize),
        _ if rank == 0 => Err(invalid(op, format_args!("a scalar has no axis {axis}"))),
        _ => Err(invalid(
            op,
            format_args!("axis {axis} must be from -{rank} to {} for rank {rank}", rank - 1),
        )),
    }
}

/// The dimensions that `list` means, each once; all when it is empty.
pub(crate) fn axes(op: &str, list: &[i64], rank: usize) -> Result<[bool; RANK_MAX], OpError> {
    let mut set = [list.is_empty(); RANK_MAX];
    for &wanted in list {
        let index = axis(op, wanted, rank)?;
        if set[index] {
            return Err(invalid(op, format_args!("axis {wanted} is there twice; name it once")));
        }
        set[index] = true;
    }
    Ok(set)
}

/// `shape` with the dimensions in `gone` left out, or left as 1. Unless there is a result `of_nothing`, each must come
/// from some element.
pub(crate) fn without(
    op: &str,
    shape: &Shape,
    gone: &[bool; RANK_MAX],
    keep_dims: bool,
    of_nothing: bool,
) -> Result<Shape, OpError> {
    let mut dims = [1; RANK_MAX];
    let mut rank = 0;
    for (&dim, &gone) in shape.dims().iter().zip(gone) {
        if !gone {
            dims[rank] = dim;
        }
        rank += usize::from(!gone || keep_dims);
    }
    let result = result_shape(op, &dims[..rank])?;
    if !of_nothing && shape.elements() == 0 && result.elements() > 0 {
        return Err(invalid(
            op,
            format_args!("there is none of no elements; {shape} has size 0 where it is reduced"),
        ));
    }
    Ok(result)
}

/// The shape that both broadcast to.
pub(crate) fn pair(op: &str, a: &Shape, b: &Shape) -> Result<Shape, OpError> {
    broadcast(op, &[a, b])
}

/// The shape that all of `shapes` broadcast to.
pub(crate) fn broadcast(op: &str, shapes: &[&Shape]) -> Result<Shape, OpError> {
    let rank = shapes.iter().map(|shape| shape.rank()).max().unwrap_or(0);
    let mut dims = [1; RANK_MAX];
    let result = &mut dims[..rank];
    for shape in shapes {
        let missing = rank - shape.rank();
        for (size, &dim) in result[missing..].iter_mut().zip(shape.dims()) {
            if *size == 1 {
                *size = dim;
            } else if dim != 1 && dim != *size {
                return Err(mismatch(op, shapes));
            }
        }
    }
    result_shape(op, result)
}

fn mismatch(op: &str, shapes: &[&Shape]) -> OpError {
    let shapes: Vec<String> = shapes.iter().map(|shape| shape.to_string()).collect();
    invalid(
        op,
        format_args!(
            "shapes {} do not broadcast; sizes, aligned at the last dimension, must be equal or 1",
            shapes.join(" and ")
        ),
    )
}
