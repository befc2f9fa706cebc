//! Operations that move elements and compute nothing.

use std::ops::Range;

use bytemuck::Pod;
use innkeeper_tensor::{DType, Element, Shape, Tensor};

use crate::cpu::dispatch::word;
use crate::cpu::memory::{elements, tensor, words};
use crate::cpu::turn;
use crate::cpu::walk::{Walk, around, strides};
use crate::{OpError, Run};

/// Elements that one thread moves in one go.
const PIECE: usize = 1 << 14;
/// Rows of a matrix that are turned together, so that what is read lies in whole lines of the cache.
const TURNED_ROWS: usize = 16;

pub(super) fn transpose(
    shape: Shape,
    x: &Tensor,
    permutation: &[usize],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let strides = strides(x.shape());
    let dims = shape.dims().iter().zip(permutation).map(|(&size, &from)| (size, strides[from]));
    let dims: Vec<(usize, usize)> = dims.filter(|&(size, _)| size != 1).collect();
    let (&(rows, stride), inner) = dims.split_first().unwrap_or((&(1, 1), &[]));
    let walk = Walk::strided(inner.iter().rev().map(|&(size, stride)| (size, [stride])));
    let row = inner.iter().map(|&(size, _)| size).product::<usize>();
    word!(x.dtype(), W => {
        let mut out = run.scratch::<W>(shape.elements())?;
        let from = words::<W>(x);
        if !out.is_empty() {
            let rows_at_once = (PIECE / row).clamp(1, rows);
            run.pieces(&mut out, rows_at_once * row, |index, out| {
                turned(&from, index * rows_at_once * stride, stride, &walk, row, out);
                Ok(())
            })?;
        }
        tensor(x.dtype(), shape, out)
    })
}

/// Rows of `row` elements, of which the first begins at `start` and each other a `stride` later; within, as `walk` goes.
fn turned<W: Pod>(
    from: &[W],
    start: usize,
    stride: usize,
    walk: &Walk<1>,
    row: usize,
    out: &mut [W],
) {
    let (len, [step]) = walk.inner();
    if len == row && step != 1 && stride == 1 {
        if let (Ok(from), Ok(out)) =
            (bytemuck::try_cast_slice(from), bytemuck::try_cast_slice_mut::<W, f32>(out))
            && size_of::<W>() == size_of::<f32>()
            && from.len() == row * step
        {
            let part = start..start + out.len() / row;
            turn::turn(&from[..row * step], step, part, row, out);
            return;
        }
        for (block, out) in out.chunks_mut(TURNED_ROWS * row).enumerate() {
            let rows = out.len() / row;
            let first = start + block * TURNED_ROWS;
            for i in 0..row {
                let column = &from[first + i * step..][..rows];
                for (out, &x) in out[i..].iter_mut().step_by(row).zip(column) {
                    *out = x;
                }
            }
        }
        return;
    }
    for (index, out) in out.chunks_mut(row).enumerate() {
        let first = start + index * stride;
        let mut runs = out.chunks_mut(len);
        walk.rows(|[at]| {
            let Some(out) = runs.next() else { return };
            if step == 1 {
                out.copy_from_slice(&from[first + at..][..len]);
            } else {
                let column = from[first + at..].iter().step_by(step);
                out.iter_mut().zip(column).for_each(|(out, &x)| *out = x);
            }
        });
    }
}

pub(super) fn slice(
    shape: Shape,
    x: &Tensor,
    axis: usize,
    range: Range<usize>,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let (blocks, size, inner) = around(x.shape(), axis);
    word!(x.dtype(), W => {
        let mut out = run.room(shape.elements())?;
        if shape.elements() > 0 {
            let from = words::<W>(x);
            for block in 0..blocks {
                let start = block * size * inner;
                let part = start + range.start * inner..start + range.end * inner;
                out.extend_from_slice(&from[part]);
            }
        }
        tensor(x.dtype(), shape, out)
    })
}

pub(super) fn concat(
    shape: Shape,
    parts: &[&Tensor],
    axis: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let dtype = parts.first().map_or(DType::Bytes, |part| part.dtype());
    let blocks: usize = shape.dims()[..axis].iter().product();
    word!(dtype, W => {
        let mut out = run.room(shape.elements())?;
        if shape.elements() > 0 {
            // A part without elements adds nothing, and would cost a step for every block.
            let parts = parts.iter().filter(|part| part.shape().elements() > 0);
            let parts: Vec<_> = parts.map(|part| words::<W>(part)).collect();
            for block in 0..blocks {
                for part in &parts {
                    let len = part.len() / blocks;
                    out.extend_from_slice(&part[block * len..(block + 1) * len]);
                }
            }
        }
        tensor(dtype, shape, out)
    })
}

pub(super) fn gather(
    shape: Shape,
    data: &Tensor,
    indices: &Tensor,
    axis: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    match indices.dtype() {
        DType::Int32 => gather_by::<i32>(shape, data, &elements(indices)?, axis, run),
        _ => gather_by::<i64>(shape, data, &elements(indices)?, axis, run),
    }
}

fn gather_by<I: Element + Into<i64>>(
    shape: Shape,
    data: &Tensor,
    indices: &[I],
    axis: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let (blocks, size, inner) = around(data.shape(), axis);
    if let Some(wrong) = indices.iter().find(|&&index| position(index, size) >= size) {
        let wrong: i64 = (*wrong).into();
        return Err(OpError::InvalidArgument(format!(
            "gather: index {wrong} is not in dimension {axis} of {}: it must be from -{size} to \
             {size} (excluded)",
            data.shape()
        )));
    }
    word!(data.dtype(), W => {
        let mut out = run.room(shape.elements())?;
        if shape.elements() > 0 {
            let from = words::<W>(data);
            for block in 0..blocks {
                for &index in indices {
                    let start = (block * size + position(index, size)) * inner;
                    out.extend_from_slice(&from[start..start + inner]);
                }
            }
        }
        tensor(data.dtype(), shape, out)
    })
}

/// Where `index` points among `size` positions; at `size` or beyond when it is out of range.
fn position(index: impl Into<i64>, size: usize) -> usize {
    let index = index.into();
    // A shape's sizes fit into an i64, so that adding one to a negative number does not overflow.
    let index = if index < 0 { index + size as i64 } else { index };
    usize::try_from(index).unwrap_or(usize::MAX)
}
