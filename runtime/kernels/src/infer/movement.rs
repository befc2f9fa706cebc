//! Shapes of operations that move or repeat elements.

use innkeeper_tensor::{DType, RANK_MAX, Shape};

use crate::error::invalid;
use crate::infer::dtypes::{self, Class};
use crate::infer::{Operand, axes, operands, result_shape};
use crate::{Move, OpError, Pad};

/// The results' dtypes and shapes.
pub(crate) fn outputs(op: &Move, inputs: &[Operand<'_>]) -> Result<Vec<(DType, Shape)>, OpError> {
    let Move::Split { axis, sizes } = op else {
        return output(op, inputs).map(|result| vec![result]);
    };
    let name = op.name();
    let [(dtype, x)] = operands(name, inputs)?;
    Class::Fixed.check(name, dtype)?;
    let axis = split(name, x, *axis, sizes)?;
    let mut dims = x.dims().to_vec();
    let part = |&size: &usize| {
        dims[axis] = size;
        Ok((dtype, result_shape(name, &dims)?))
    };
    sizes.iter().map(part).collect()
}

/// The dtype and shape of the only result.
fn output(op: &Move, inputs: &[Operand<'_>]) -> Result<(DType, Shape), OpError> {
    let name = op.name();
    if let Move::ReverseSequence { batch_axis, time_axis } = op {
        let [(dtype, x), (index, lengths)] = operands(name, inputs)?;
        Class::Fixed.check(name, dtype)?;
        dtypes::index(name, index)?;
        sequence_axes(name, x, lengths, *batch_axis, *time_axis)?;
        return Ok((dtype, x.clone()));
    }
    let [(dtype, x)] = operands(name, inputs)?;
    Class::Fixed.check(name, dtype)?;
    let shape = match op {
        Move::Strided { axes, starts, ends, steps } => {
            let cuts = cuts(name, x, axes, starts, ends, steps)?;
            let dims: Vec<usize> = cuts.iter().map(|cut| cut.len).collect();
            result_shape(name, &dims)
        }
        Move::Split { .. } => Err(invalid(name, "has several results")),
        Move::Pad { mode, begins, ends } => padded(name, x, *mode, begins, ends),
        Move::Expand { shape } => axes::broadcast(name, &[x, &result_shape(name, shape)?]),
        Move::Tile { repeats } => tiled(name, x, repeats),
        Move::Trilu { .. } if x.rank() < 2 => {
            Err(invalid(name, format_args!("takes [..,rows,columns], got {x}")))
        }
        Move::Trilu { .. } | Move::ReverseSequence { .. } => Ok(x.clone()),
        Move::DepthToSpace { block, .. } => depth_to_space(name, x, *block),
        Move::SpaceToDepth { block } => space_to_depth(name, x, *block),
    }?;
    Ok((dtype, shape))
}

/// The axis, once the sizes add up.
pub(crate) fn split(op: &str, x: &Shape, axis: i64, sizes: &[usize]) -> Result<usize, OpError> {
    let axis = axes::axis(op, axis, x.rank())?;
    let wanted = x.dims()[axis];
    // Parts without elements cost something too.
    let parts_max = wanted.max(1).saturating_mul(2).max(1024);
    if sizes.is_empty() || sizes.len() > parts_max {
        return Err(invalid(
            op,
            format_args!("wanted 1 to {parts_max} sizes for {x}, got {}", sizes.len()),
        ));
    }
    let sum = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
    if sum != Some(wanted) {
        return Err(invalid(
            op,
            format_args!("sizes must add up to {wanted}, the size of dimension {axis} of {x}"),
        ));
    }
    Ok(axis)
}

/// What is taken along one dimension: `len` positions from `start` on, `step` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) start: usize,
    pub(crate) step: isize,
    pub(crate) len: usize,
}

/// What is taken along each dimension.
pub(crate) fn cuts(
    op: &str,
    x: &Shape,
    axes: &[i64],
    starts: &[i64],
    ends: &[i64],
    steps: &[i64],
) -> Result<Vec<Cut>, OpError> {
    let count = starts.len();
    let fits = ends.len() == count
        && (axes.is_empty() || axes.len() == count)
        && (steps.is_empty() || steps.len() == count)
        && count <= x.rank();
    if !fits {
        return Err(invalid(
            op,
            format_args!(
                "axes, starts, ends and steps must be equally many and at most {} for {x}, \
                 got {}, {count}, {} and {}",
                x.rank(),
                axes.len(),
                ends.len(),
                steps.len()
            ),
        ));
    }
    let mut cuts: Vec<Cut> = x.dims().iter().map(|&len| Cut { start: 0, step: 1, len }).collect();
    let mut seen = [false; RANK_MAX];
    for (index, (&start, &end)) in starts.iter().zip(ends).enumerate() {
        let wanted = axes.get(index).copied().unwrap_or(index as i64);
        let axis = axes::axis(op, wanted, x.rank())?;
        if std::mem::replace(&mut seen[axis], true) {
            return Err(invalid(op, format_args!("axis {wanted} is there twice; name it once")));
        }
        let step = steps.get(index).copied().unwrap_or(1);
        cuts[axis] = cut(op, x.dims()[axis], start, end, step)?;
    }
    Ok(cuts)
}

fn cut(op: &str, size: usize, start: i64, end: i64, step: i64) -> Result<Cut, OpError> {
    // A shape's sizes fit into an i64.
    let size = size as i64;
    let from_start = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (start, end) = (from_start(start), from_start(end));
    let (start, way, step_len) = match step {
        0 => return Err(invalid(op, "a step must not be 0")),
        1.. => {
            let (start, end) = (start.clamp(0, size), end.clamp(0, size));
            (start, end - start, step)
        }
        _ => {
            let (start, end) = (start.clamp(-1, size - 1), end.clamp(-1, size - 1));
            (start, start - end, step.saturating_neg())
        }
    };
    if way <= 0 {
        return Ok(Cut { start: 0, step: 1, len: 0 });
    }
    let len = (way - 1) / step_len + 1;
    // A single position needs no step, whose product with anything could overflow.
    let step = if len == 1 { 1 } else { step as isize };
    Ok(Cut { start: start as usize, step, len: len as usize })
}

/// What is left of a dimension that negative pads cut: where it starts and how long it is.
pub(crate) fn kept(size: usize, begin: i64, end: i64) -> Option<(usize, usize)> {
    let first = usize::try_from(begin.saturating_neg().max(0)).ok()?;
    let last = usize::try_from(end.saturating_neg().max(0)).ok()?;
    let kept = size.checked_sub(first)?.checked_sub(last)?;
    Some((first, kept))
}

fn padded(op: &str, x: &Shape, mode: Pad, begins: &[i64], ends: &[i64]) -> Result<Shape, OpError> {
    if begins.len() != x.rank() || ends.len() != x.rank() {
        return Err(invalid(
            op,
            format_args!(
                "{x} has {} dimensions to pad, got {} begins and {} ends",
                x.rank(),
                begins.len(),
                ends.len()
            ),
        ));
    }
    let mut dims = [0; RANK_MAX];
    for (axis, &size) in x.dims().iter().enumerate() {
        let (begin, end) = (begins[axis], ends[axis]);
        let Some((_, kept)) = kept(size, begin, end) else {
            return Err(invalid(
                op,
                format_args!("{begin} and {end} cut more than dimension {axis} of {x} has"),
            ));
        };
        let (before, after) = (begin.max(0) as usize, end.max(0) as usize);
        let most = match mode {
            Pad::Constant(_) => usize::MAX,
            Pad::Reflect => kept.saturating_sub(1),
            Pad::Edge => {
                if kept == 0 {
                    0
                } else {
                    usize::MAX
                }
            }
            Pad::Wrap => kept,
        };
        if before > most || after > most {
            return Err(invalid(
                op,
                format_args!(
                    "dimension {axis} of {x} gives {most} more positions at either side in this \
                     mode, wanted {before} and {after}"
                ),
            ));
        }
        dims[axis] = kept.saturating_add(before).saturating_add(after);
    }
    result_shape(op, &dims[..x.rank()])
}

fn tiled(op: &str, x: &Shape, repeats: &[usize]) -> Result<Shape, OpError> {
    if repeats.len() != x.rank() {
        return Err(invalid(
            op,
            format_args!("{x} takes {} repeats, got {}", x.rank(), repeats.len()),
        ));
    }
    let dims: Vec<usize> =
        x.dims().iter().zip(repeats).map(|(dim, &times)| dim.saturating_mul(times)).collect();
    result_shape(op, &dims)
}

fn depth_to_space(op: &str, x: &Shape, block: usize) -> Result<Shape, OpError> {
    let square = block.checked_mul(block).filter(|&square| square > 0);
    match (x.dims(), square) {
        (&[n, c, h, w], Some(square)) if c.is_multiple_of(square) => {
            result_shape(op, &[n, c / square, h.saturating_mul(block), w.saturating_mul(block)])
        }
        _ => Err(invalid(
            op,
            format_args!(
                "takes [n,c,h,w] with c a multiple of the block's square, got {x} and {block}"
            ),
        )),
    }
}

fn space_to_depth(op: &str, x: &Shape, block: usize) -> Result<Shape, OpError> {
    match x.dims() {
        &[n, c, h, w] if block > 0 && h.is_multiple_of(block) && w.is_multiple_of(block) => {
            let channels = c.saturating_mul(block).saturating_mul(block);
            result_shape(op, &[n, channels, h / block, w / block])
        }
        _ => Err(invalid(
            op,
            format_args!(
                "takes [n,c,h,w] with h and w multiples of the block, got {x} and {block}"
            ),
        )),
    }
}

/// The batch and the time axis.
pub(crate) fn sequence_axes(
    op: &str,
    x: &Shape,
    lengths: &Shape,
    batch_axis: i64,
    time_axis: i64,
) -> Result<(usize, usize), OpError> {
    let batch = axes::axis(op, batch_axis, x.rank())?;
    let time = axes::axis(op, time_axis, x.rank())?;
    if batch == time {
        return Err(invalid(op, format_args!("batch and time are both axis {batch} of {x}")));
    }
    if lengths.dims() != [x.dims()[batch]] {
        return Err(invalid(
            op,
            format_args!("lengths must be [{}] for {x}, got {lengths}", x.dims()[batch]),
        ));
    }
    Ok((batch, time))
}
