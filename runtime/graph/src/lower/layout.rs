//! Operators that move elements.

use innkeeper_kernels::Op;

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
        return Err(Fail::Unsupported("steps other than 1".into()));
    }
    for ((&start, &end), &axis) in starts.iter().zip(&ends).zip(&list) {
        x = m.emit(Op::Slice { axis, start, end }, &[x])?;
    }
    Ok(vec![x])
}
