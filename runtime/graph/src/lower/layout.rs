//! Operators that move elements.

use innkeeper_kernels::{Depth, Move, Op, Pad};

use super::create::sizes;
use super::{Lower, Lowered, all, axes, axis, ints_at, operand, optional, reshape};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "Reshape" => reshaped,
        "Flatten" => flatten,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Transpose" => transpose,
        "Concat" => concat,
        "Gather" => gather,
        "Slice" => slice,
        "Split" => split,
        "Pad" => pad,
        "Expand" => expand,
        "Tile" => tile,
        "Trilu" => trilu,
        "DepthToSpace" => depth_to_space,
        "SpaceToDepth" => space_to_depth,
        "ReverseSequence" => reverse_sequence,
        "CenterCropPad" => center,
        "Col2Im" => columns_to_image,
        "TensorScatter" => tensor_scatter,
        _ => return None,
    })
}

fn reshaped(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let mut shape = m.ints(operand(inputs, 1)?)?;
    if !node.flag("allowzero", false)? {
        for (index, size) in shape.iter_mut().enumerate().filter(|(_, size)| **size == 0) {
            let dim = m.dims(x).get(index).ok_or_else(|| {
                invalid(format_args!(
                    "size {index} is 0, which stands for the operand's, but it has none"
                ))
            })?;
            *size = *dim as i64;
        }
    }
    // With nothing to go by, as ONNX Runtime has it: no elements leave nothing for the free size.
    if m.shape(x).elements() == 0 && shape.contains(&-1) {
        shape.iter_mut().filter(|size| **size == -1).for_each(|size| *size = 0);
        if !shape.contains(&0) {
            return Err(invalid("the free size cannot be worked out"));
        }
    }
    if shape.iter().zip(m.dims(x)).all(|(a, b)| *a == *b as i64) && shape.len() == m.rank(x) {
        return Ok(vec![x]);
    }
    Ok(vec![m.emit(Op::Reshape { shape }, &[x])?])
}

fn flatten(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let (at, rank) = (node.int("axis", 1)?, m.rank(x));
    let at = if at == rank as i64 { rank } else { axis(at, rank)? };
    let (before, after) = m.dims(x).split_at(at);
    let dims = [before.iter().product(), after.iter().product()];
    Ok(vec![reshape(m, x, &dims)?])
}

fn squeeze(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let dims = m.dims(x).to_vec();
    let gone = match ints_at(m, node, inputs, 1, "axes")? {
        Some(list) => axes(&list, dims.len())?,
        None => (0..dims.len()).filter(|&at| dims[at] == 1).collect(),
    };
    if let Some(&at) = gone.iter().find(|&&at| dims[at] != 1) {
        return Err(invalid(format_args!("dimension {at} is {}, and only 1 can go", dims[at])));
    }
    let kept: Vec<usize> =
        (0..dims.len()).filter(|at| !gone.contains(at)).map(|at| dims[at]).collect();
    Ok(vec![reshape(m, x, &kept)?])
}

fn unsqueeze(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let list = ints_at(m, node, inputs, 1, "axes")?.ok_or_else(|| invalid("axes are missing"))?;
    let rank = m.rank(x) + list.len();
    if rank > innkeeper_tensor::RANK_MAX {
        return Err(invalid(format_args!("the result would have {rank} dimensions")));
    }
    let mut new = vec![false; rank];
    for at in axes(&list, rank)? {
        if std::mem::replace(&mut new[at], true) {
            return Err(invalid(format_args!("axis {at} is given twice")));
        }
    }
    let mut old = m.dims(x).iter();
    let dims: Vec<usize> =
        new.iter().map(|&new| if new { 1 } else { old.next().copied().unwrap_or(1) }).collect();
    Ok(vec![reshape(m, x, &dims)?])
}

fn transpose(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let rank = m.rank(x);
    let permutation = match node.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(list) => axes(list, rank)?,
    };
    if permutation.iter().enumerate().all(|(at, &from)| at == from) && permutation.len() == rank {
        return Ok(vec![x]);
    }
    Ok(vec![m.emit(Op::Transpose { permutation }, &[x])?])
}

fn concat(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let parts = all(inputs)?;
    let axis = node.int_if("axis")?.ok_or_else(|| invalid("the attribute axis is missing"))?;
    match parts[..] {
        [part] => {
            super::axis(axis, m.rank(part))?;
            Ok(vec![part])
        }
        _ => Ok(vec![m.emit(Op::Concat { axis }, &parts)?]),
    }
}

fn gather(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let axis = node.int("axis", 0)?;
    Ok(vec![m.emit(Op::Gather { axis }, &[operand(inputs, 0)?, operand(inputs, 1)?])?])
}

fn slice(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let mut x = operand(inputs, 0)?;
    let get = |index, name| ints_at(m, node, inputs, index, name);
    let starts = get(1, "starts")?.ok_or_else(|| invalid("starts are missing"))?;
    let ends = get(2, "ends")?.ok_or_else(|| invalid("ends are missing"))?;
    let list = get(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = match optional(inputs, 4) {
        Some(val) => m.ints(val)?,
        None => vec![1; starts.len()],
    };
    if [ends.len(), list.len(), steps.len()].iter().any(|&len| len != starts.len()) {
        return Err(invalid("starts, ends, axes and steps must be equally many"));
    }
    if steps.iter().any(|&step| step != 1) {
        let op = Move::Strided { axes: list, starts, ends, steps };
        return Ok(vec![m.emit(Op::Move(op), &[x])?]);
    }
    for ((&start, &end), &axis) in starts.iter().zip(&ends).zip(&list) {
        x = m.emit(Op::Slice { axis, start, end }, &[x])?;
    }
    Ok(vec![x])
}

fn split(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let at = axis(node.int("axis", 0)?, m.rank(x))?;
    let size = m.dims(x)[at];
    let sizes = match ints_at(m, node, inputs, 1, "split")? {
        Some(list) => list
            .iter()
            .map(|&part| {
                usize::try_from(part).map_err(|_| invalid(format_args!("a part's size is {part}")))
            })
            .collect::<Result<_, _>>()?,
        None => {
            let count = node.int("num_outputs", node.outputs.len() as i64)?.max(1) as usize;
            if count > node.outputs.len() {
                return Err(invalid("num_outputs is more than there are results"));
            }
            // The last part is the smaller one.
            let part = size.div_ceil(count);
            (0..count).map(|i| part.min(size.saturating_sub(i * part))).collect()
        }
    };
    m.emit_all(Op::Move(Move::Split { axis: at as i64, sizes }), &[x])
}

fn pad(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let rank = m.rank(x);
    let pads = ints_at(m, node, inputs, 1, "pads")?.ok_or_else(|| invalid("pads are missing"))?;
    let along = match optional(inputs, 3) {
        Some(list) => axes(&m.ints(list)?, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * along.len() {
        return Err(invalid(format_args!("{} pads for {} dimensions", pads.len(), along.len())));
    }
    let (mut begins, mut ends) = (vec![0; rank], vec![0; rank]);
    for (i, &at) in along.iter().enumerate() {
        (begins[at], ends[at]) = (pads[i], pads[i + along.len()]);
    }
    let mode = match node.text("mode", "constant")? {
        "constant" => Pad::Constant(match optional(inputs, 2) {
            Some(value) => m.one_number(value)?,
            None => f64::from(node.float("value", 0.0)?),
        }),
        "reflect" => Pad::Reflect,
        "edge" => Pad::Edge,
        "wrap" => Pad::Wrap,
        other => return Err(invalid(format_args!("mode is {other:?}"))),
    };
    Ok(vec![m.emit(Op::Move(Move::Pad { mode, begins, ends }), &[x])?])
}

fn expand(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, shape) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let shape = sizes(m, shape)?;
    // Every size is there already, or is 1.
    let rank = m.rank(x);
    let whole = shape.len() <= rank
        && shape.iter().rev().zip(m.dims(x).iter().rev()).all(|(a, b)| *a == 1 || a == b);
    if whole {
        return Ok(vec![x]);
    }
    Ok(vec![m.emit(Op::Move(Move::Expand { shape }), &[x])?])
}

fn tile(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, repeats) = (operand(inputs, 0)?, sizes(m, operand(inputs, 1)?)?);
    Ok(vec![m.emit(Op::Move(Move::Tile { repeats }), &[x])?])
}

fn trilu(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let diagonal = optional(inputs, 1).map_or(Ok(0), |k| m.one_int(k))?;
    let op = Move::Trilu { upper: node.flag("upper", true)?, diagonal };
    Ok(vec![m.emit(Op::Move(op), &[operand(inputs, 0)?])?])
}

fn block(node: &Node) -> Result<usize, Fail> {
    usize::try_from(node.int("blocksize", 0)?).map_err(|_| invalid("blocksize must be 1 or more"))
}

fn depth_to_space(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let order = match node.text("mode", "DCR")? {
        "DCR" => Depth::DepthColumnRow,
        "CRD" => Depth::ColumnRowDepth,
        other => return Err(invalid(format_args!("mode is {other:?}"))),
    };
    let op = Move::DepthToSpace { block: block(node)?, order };
    Ok(vec![m.emit(Op::Move(op), &[operand(inputs, 0)?])?])
}

fn space_to_depth(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, block) = (operand(inputs, 0)?, block(node)?);
    match node.text("mode", "DCR")? {
        "DCR" => {}
        "CRD" => return by_channels(m, x, block),
        other => return Err(invalid(format_args!("mode is {other:?}"))),
    }
    Ok(vec![m.emit(Op::Move(Move::SpaceToDepth { block }), &[x])?])
}

/// Squares of pixels become channels, those of one channel of x side by side.
fn by_channels(m: &mut Machine<'_>, x: Val, block: usize) -> Lowered {
    let [n, c, h, w] = *m.dims(x) else { return Err(invalid("wants four dimensions")) };
    if block == 0 || h % block != 0 || w % block != 0 {
        return Err(invalid(format_args!("{h} by {w} pixels are no squares of {block}")));
    }
    let (h, w) = (h / block, w / block);
    let x = reshape(m, x, &[n, c, h, block, w, block])?;
    let x = m.emit(Op::Transpose { permutation: vec![0, 1, 3, 5, 2, 4] }, &[x])?;
    Ok(vec![reshape(m, x, &[n, c * block * block, h, w])?])
}

fn reverse_sequence(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = Move::ReverseSequence {
        batch_axis: node.int("batch_axis", 1)?,
        time_axis: node.int("time_axis", 0)?,
    };
    Ok(vec![m.emit(Op::Move(op), &[operand(inputs, 0)?, operand(inputs, 1)?])?])
}

/// The middle of x, or x in the middle of zeros.
fn center(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, wanted) = (operand(inputs, 0)?, sizes(m, operand(inputs, 1)?)?);
    let rank = m.rank(x);
    let along = match node.ints("axes")? {
        Some(list) => axes(list, rank)?,
        None => (0..rank).collect(),
    };
    if along.len() != wanted.len() {
        return Err(invalid(format_args!("{} sizes for {} axes", wanted.len(), along.len())));
    }
    let (mut begins, mut ends) = (vec![0i64; rank], vec![0i64; rank]);
    for (&at, &size) in along.iter().zip(&wanted) {
        let more = size as i64 - m.dims(x)[at] as i64;
        // What cannot be halved is more at the end, whether it comes or goes.
        begins[at] = if more < 0 { -(-more / 2) } else { more / 2 };
        ends[at] = more - begins[at];
    }
    let mode = Pad::Constant(0.0);
    Ok(vec![m.emit(Op::Move(Move::Pad { mode, begins, ends }), &[x])?])
}

/// x `[n, c * block.., positions]`, the image's size, the block's: blocks added up where they lie in the image. That is a
/// transposed convolution with a weight that puts each element of a block in its place.
fn columns_to_image(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let (image, kernel) = (sizes(m, operand(inputs, 1)?)?, sizes(m, operand(inputs, 2)?)?);
    let rank = image.len();
    let list = |name: &str, default: usize, count: usize| match node.ints(name)? {
        None => Ok(vec![default; count]),
        Some(list) if list.len() == count => list
            .iter()
            .map(|&one| usize::try_from(one).ok())
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Fail::Unsupported(format!("{name} below zero"))),
        Some(list) => Err(invalid(format_args!("{name} has {} elements", list.len()))),
    };
    let (strides, dilations) = (list("strides", 1, rank)?, list("dilations", 1, rank)?);
    let pads = list("pads", 0, 2 * rank)?;
    let [n, width, positions] = *m.dims(x) else { return Err(invalid("wants three dimensions")) };
    let block = kernel.iter().try_fold(1usize, |all, &size| all.checked_mul(size)).unwrap_or(0);
    if kernel.len() != rank || block == 0 || width % block != 0 || strides.contains(&0) {
        return Err(invalid(format_args!("{width} columns are no blocks of {kernel:?}")));
    }
    let (mut dims, mut output_pads) = (vec![n, width], Vec::with_capacity(rank));
    for at in 0..rank {
        let whole = image[at].saturating_add(pads[at]).saturating_add(pads[at + rank]);
        let reach = kernel[at].saturating_sub(1).saturating_mul(dilations[at]).saturating_add(1);
        let steps = whole.checked_sub(reach).ok_or_else(|| invalid("a block leaves the image"))?;
        dims.push(steps / strides[at] + 1);
        output_pads.push(steps % strides[at]);
    }
    if dims[2..].iter().product::<usize>() != positions {
        return Err(invalid(format_args!("{positions} positions do not fill {:?}", &dims[2..])));
    }
    let x = reshape(m, x, &dims)?;
    let dtype = m.dtype(x);
    let eye = Op::Order(innkeeper_kernels::Order::Eye {
        dtype,
        rows: block,
        columns: block,
        diagonal: 0,
    });
    let eye = m.emit(eye, &[])?;
    let weight = m.emit(Op::Move(Move::Tile { repeats: vec![width / block, 1] }), &[eye])?;
    let weight = reshape(m, weight, &[&[width, 1], &kernel[..]].concat())?;
    let window = innkeeper_kernels::Window { strides, pads, dilations, ceil: false };
    let groups = width / block;
    let op = innkeeper_kernels::ConvTranspose { window, output_pads, groups, bias: false };
    Ok(vec![m.emit(Op::ConvTranspose(op), &[x, weight])?])
}

/// A cache, what comes into it, where that begins for each item of the batch.
fn tensor_scatter(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (cache, update) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let rank = m.rank(cache);
    let at = axis(node.int("axis", -2)?, rank)?;
    let dims = m.dims(update).to_vec();
    if m.rank(update) != rank || at == 0 || dims[0] != m.dims(cache)[0] {
        return Err(invalid("what comes must be of the cache's rank and batch"));
    }
    let mut shape = vec![1; rank];
    shape[at] = dims[at];
    let (dtype, start, step) = (innkeeper_tensor::DType::Int64, 0.0, 1.0);
    let steps = m.emit(Op::Arange { dtype, start, step, count: dims[at] }, &[])?;
    let steps = reshape(m, steps, &shape)?;
    let mut places = steps;
    if let Some(starts) = optional(inputs, 2) {
        let starts = super::cast(m, starts, innkeeper_tensor::DType::Int64)?;
        let mut column = vec![1; rank];
        column[0] = dims[0];
        let starts = reshape(m, starts, &column)?;
        places = m.emit(Op::Binary(innkeeper_kernels::Binary::Add), &[starts, steps])?;
    }
    match node.text("mode", "linear")? {
        "linear" => {}
        "circular" => {
            let value = m.dims(cache)[at] as f64;
            let op = innkeeper_kernels::Binary::Mod;
            places = m.emit(Op::Scalar { op, value }, &[places])?;
        }
        other => return Err(invalid(format_args!("mode is {other:?}"))),
    }
    let places = m.emit(Op::Move(Move::Expand { shape: dims }), &[places])?;
    let reduction = innkeeper_kernels::Scatter::Replace;
    let op = innkeeper_kernels::Index::ScatterElements { axis: at as i64, reduction };
    Ok(vec![m.emit(Op::Index(op), &[cache, places, update])?])
}
