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
    let op = Move::SpaceToDepth { block: block(node)? };
    Ok(vec![m.emit(Op::Move(op), &[operand(inputs, 0)?])?])
}

fn reverse_sequence(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = Move::ReverseSequence {
        batch_axis: node.int("batch_axis", 1)?,
        time_axis: node.int("time_axis", 0)?,
    };
    Ok(vec![m.emit(Op::Move(op), &[operand(inputs, 0)?, operand(inputs, 1)?])?])
}
