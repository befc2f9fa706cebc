//! Operations that move or repeat elements.

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::copy::{Copy, Dim, Segment};
use crate::cpu::create;
use crate::cpu::dispatch::{refused, word};
use crate::cpu::memory::{indices, tensor, words};
use crate::cpu::pieces::fill_by;
use crate::cpu::walk::{around, strides};
use crate::error::invalid;
use crate::infer::movement::{Cut, cuts, kept, sequence_axes, split};
use crate::{Depth, Move, OpError, Pad, Run};

/// All results of an operation that was checked.
pub(super) fn movement(
    op: &Move,
    results: Vec<(DType, Shape)>,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let name = op.name();
    if let (Move::Split { axis, sizes }, [x]) = (op, inputs) {
        let axis = split(name, x.shape(), *axis, sizes)?;
        return parts(x, axis, sizes, run);
    }
    let Some((_, shape)) = results.into_iter().next() else {
        return Err(invalid(name, "has no result"));
    };
    let result = match (op, inputs) {
        (Move::Strided { axes, starts, ends, steps }, [x]) => {
            sliced(x, &cuts(name, x.shape(), axes, starts, ends, steps)?, run)
        }
        (Move::Pad { mode, begins, ends }, [x]) => padded(shape, x, *mode, begins, ends, run),
        (Move::Expand { .. }, [x]) => expanded(shape, x, run),
        (Move::Tile { repeats }, [x]) => tiled(shape, x, repeats, run),
        (Move::Trilu { upper, diagonal }, [x]) => triangle(shape, x, *upper, *diagonal, run),
        (Move::DepthToSpace { block, order }, [x]) => depth_to_space(shape, x, *block, *order, run),
        (Move::SpaceToDepth { block }, [x]) => space_to_depth(shape, x, *block, run),
        (Move::ReverseSequence { batch_axis, time_axis }, [x, lengths]) => {
            let axes = sequence_axes(name, x.shape(), lengths.shape(), *batch_axis, *time_axis)?;
            reversed(x, lengths, axes, run)
        }
        _ => Err(invalid(name, "wrong number of operands")),
    }?;
    Ok(vec![result])
}

/// The parts of those sizes along an axis.
fn parts(x: &Tensor, axis: usize, sizes: &[usize], run: &Run<'_>) -> Result<Vec<Tensor>, OpError> {
    let mut start = 0;
    let part = |&len: &usize| {
        let mut cuts: Vec<Cut> =
            x.shape().dims().iter().map(|&len| Cut { start: 0, step: 1, len }).collect();
        cuts[axis] = Cut { start, step: 1, len };
        start += len;
        sliced(x, &cuts, run)
    };
    sizes.iter().map(part).collect()
}

fn copied(shape: Shape, x: &Tensor, dims: Vec<Dim>, run: &Run<'_>) -> Result<Tensor, OpError> {
    word!(x.dtype(), W => {
        let out = Copy::new(dims).elements(&words::<W>(x), W::default(), run)?;
        tensor(x.dtype(), shape, out)
    })
}

/// The part that the cuts leave.
fn sliced(x: &Tensor, cuts: &[Cut], run: &Run<'_>) -> Result<Tensor, OpError> {
    let sizes: Vec<usize> = cuts.iter().map(|cut| cut.len).collect();
    let shape = crate::infer::result_shape("slice", &sizes)?;
    if let Some(view) = view(x, &shape, cuts, run) {
        return Ok(view);
    }
    let strides = strides(x.shape());
    let dim = |(cut, &stride): (&Cut, &usize)| {
        Dim::new(vec![Segment { from: Some(cut.start), step: cut.step, len: cut.len }], stride)
    };
    copied(shape, x, cuts.iter().zip(&strides).map(dim).collect(), run)
}

/// The part as a view, where the run allows it and it is one run of memory that lies aligned.
fn view(x: &Tensor, shape: &Shape, cuts: &[Cut], run: &Run<'_>) -> Option<Tensor> {
    let size = x.dtype().size()?;
    let strides = strides(x.shape());
    let dims = x.shape().dims();
    let cut = cuts.iter().zip(dims).rposition(|(cut, &dim)| cut.len != dim || cut.step != 1);
    let start = match cut {
        None => 0,
        Some(_) if !run.shares() => return None,
        Some(axis) => {
            let outer = &cuts[..axis];
            if outer.iter().any(|cut| cut.len != 1) || cuts[axis].step != 1 {
                return None;
            }
            cuts.iter().zip(&strides).map(|(cut, stride)| cut.start * stride).sum::<usize>() * size
        }
    };
    let data = x.data().slice(start..start + shape.elements() * size)?;
    if !(data.as_bytes().as_ptr() as usize).is_multiple_of(size) {
        return None;
    }
    Tensor::new(x.dtype(), shape.clone(), data).ok()
}

fn expanded(shape: Shape, x: &Tensor, run: &Run<'_>) -> Result<Tensor, OpError> {
    let strides = strides(x.shape());
    let missing = shape.rank() - x.shape().rank();
    let dims = shape.dims().iter().enumerate().map(|(axis, &size)| {
        let own = axis.checked_sub(missing).map(|axis| (x.shape().dims()[axis], strides[axis]));
        match own {
            Some((own, stride)) if own == size => Dim::whole(size, stride),
            _ => Dim::repeated(size),
        }
    });
    copied(shape.clone(), x, dims.collect(), run)
}

fn tiled(shape: Shape, x: &Tensor, repeats: &[usize], run: &Run<'_>) -> Result<Tensor, OpError> {
    let strides = strides(x.shape());
    let sizes = x.shape().dims().iter().zip(&strides);
    let dims = sizes
        .zip(repeats)
        .flat_map(|((&size, &stride), &times)| [Dim::repeated(times), Dim::whole(size, stride)])
        // Once is not at all, and would part what is one run of memory.
        .filter(|dim| !dim.is_once());
    copied(shape, x, dims.collect(), run)
}

fn padded(
    shape: Shape,
    x: &Tensor,
    mode: Pad,
    begins: &[i64],
    ends: &[i64],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let strides = strides(x.shape());
    let mut dims = Vec::new();
    for (axis, &size) in x.shape().dims().iter().enumerate() {
        let (begin, end) = (begins[axis], ends[axis]);
        let (start, len) = kept(size, begin, end).ok_or_else(|| invalid("pad", "cuts too much"))?;
        let segments = around_of(mode, start, len, begin.max(0) as usize, end.max(0) as usize);
        dims.push(Dim::new(segments, strides[axis]));
    }
    let fill = match mode {
        Pad::Constant(value) => value,
        _ => 0.0,
    };
    let fill = create::scalar(x.dtype(), fill)?;
    word!(x.dtype(), W => {
        let fill = words::<W>(&fill).first().copied().unwrap_or_default();
        let out = Copy::new(dims).elements(&words::<W>(x), fill, run)?;
        tensor(x.dtype(), shape, out)
    })
}

/// `before` positions, the `len` from `start` on, and `after` positions.
fn around_of(mode: Pad, start: usize, len: usize, before: usize, after: usize) -> Vec<Segment> {
    let segment = |from: usize, step, len| Segment { from: Some(from), step, len };
    let middle = segment(start, 1, len);
    // Lengths of 0 are left out, and their positions never looked at.
    match mode {
        Pad::Constant(_) => {
            let fill = |len| Segment { from: None, step: 0, len };
            vec![fill(before), middle, fill(after)]
        }
        Pad::Edge => {
            let last = start + len.saturating_sub(1);
            vec![segment(start, 0, before), middle, segment(last, 0, after)]
        }
        Pad::Reflect => vec![
            segment(start + before, -1, before),
            middle,
            segment((start + len).saturating_sub(2), -1, after),
        ],
        Pad::Wrap => {
            vec![segment(start + len - before, 1, before), middle, segment(start, 1, after)]
        }
    }
}

fn triangle(
    shape: Shape,
    x: &Tensor,
    upper: bool,
    diagonal: i64,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let &[.., rows, columns] = shape.dims() else {
        return Err(refused(x.dtype()));
    };
    // The first column of row i that is kept (upper) or not kept any more.
    let edge = |row: usize| {
        let edge = (row as i64).saturating_add(diagonal).saturating_add(i64::from(!upper));
        usize::try_from(edge.max(0)).unwrap_or(0).min(columns)
    };
    word!(x.dtype(), W => {
        let from = words::<W>(x);
        let size = columns.max(1).saturating_mul((1usize << 15).div_ceil(columns.max(1)));
        let out = fill_by::<W>(run, from.len(), size, |start, out| {
            let lines = out.chunks_mut(columns).zip(from[start..].chunks(columns));
            for (index, (out, from)) in lines.enumerate() {
                let edge = edge((start / columns + index) % rows);
                let kept = if upper { edge..columns } else { 0..edge };
                out.fill(W::default());
                out[kept.clone()].copy_from_slice(&from[kept]);
            }
            Ok(())
        })?;
        tensor(x.dtype(), shape, out)
    })
}

fn depth_to_space(
    shape: Shape,
    x: &Tensor,
    block: usize,
    order: Depth,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let &[n, c, h, w] = x.shape().dims() else {
        return Err(refused(x.dtype()));
    };
    let channels = c / (block * block);
    let picture = h * w;
    // Of one step in the channel, in the block's row and in its column.
    let (channel, row, column) = match order {
        Depth::DepthColumnRow => (1, block * channels, channels),
        Depth::ColumnRowDepth => (block * block, block, 1),
    };
    let dims = vec![
        Dim::whole(n, c * picture),
        Dim::whole(channels, channel * picture),
        Dim::whole(h, w),
        Dim::whole(block, row * picture),
        Dim::whole(w, 1),
        Dim::whole(block, column * picture),
    ];
    copied(shape, x, dims, run)
}

fn space_to_depth(
    shape: Shape,
    x: &Tensor,
    block: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let &[n, c, h, w] = x.shape().dims() else {
        return Err(refused(x.dtype()));
    };
    let dims = vec![
        Dim::whole(n, c * h * w),
        Dim::whole(block, w),
        Dim::whole(block, 1),
        Dim::whole(c, h * w),
        Dim::whole(h / block, block * w),
        Dim::whole(w / block, block),
    ];
    copied(shape, x, dims, run)
}

fn reversed(
    x: &Tensor,
    lengths: &Tensor,
    (batch, time): (usize, usize),
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let steps = x.shape().dims()[time];
    let lengths: Vec<usize> = indices(lengths)?
        .iter()
        .map(|&length| match usize::try_from(length) {
            Ok(length) if length <= steps => Ok(length),
            _ => Err(invalid(
                "reverse-sequence",
                format_args!("length {length} is an index beyond {steps}, the steps of x"),
            )),
        })
        .collect::<Result<_, _>>()?;
    let (outer, inner) = (batch.min(time), batch.max(time));
    let (_, size, between) = around(x.shape(), outer);
    let (_, inner_size, block) = around(x.shape(), inner);
    let middle = between / (inner_size * block).max(1);
    // Row (outer position, middle, inner position) of `block` elements.
    let source = |row: usize| {
        let (at, rest) = (row / inner_size, row % inner_size);
        let (at, mid) = (at / middle, at % middle);
        let (before, here) = (at / size, at % size);
        let (b, t) = if batch < time { (here, rest) } else { (rest, here) };
        let t = if t < lengths[b] { lengths[b] - 1 - t } else { t };
        let (here, rest) = if batch < time { (b, t) } else { (t, b) };
        ((before * size + here) * middle + mid) * inner_size + rest
    };
    word!(x.dtype(), W => {
        let from = words::<W>(x);
        let rows = ((1usize << 15) / block.max(1)).max(1);
        let out = fill_by::<W>(run, from.len(), rows.saturating_mul(block), |start, out| {
            for (index, out) in out.chunks_mut(block).enumerate() {
                let at = source(start / block + index) * block;
                out.copy_from_slice(&from[at..at + block]);
            }
            Ok(())
        })?;
        tensor(x.dtype(), x.shape().clone(), out)
    })
}
