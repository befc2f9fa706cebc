//! Operators that pick, place and order elements.

use innkeeper_kernels::{Index, Op, Order, Scatter};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, axis, cast, operand, optional, reshape};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "GatherElements" => gather_elements,
        "GatherND" => gather_nd,
        "Scatter" | "ScatterElements" => scatter_elements,
        "ScatterND" => scatter_nd,
        "OneHot" => one_hot,
        "NonZero" => non_zero,
        "Compress" => compress,
        "Unique" => unique,
        "ArgMax" | "ArgMin" => arg,
        "CumSum" => cumulative,
        "TopK" => top_k,
        "Hardmax" => hardmax,
        _ => return None,
    })
}

fn two(m: &mut Machine<'_>, op: Index, inputs: &[Option<Val>]) -> Lowered {
    Ok(vec![m.emit(Op::Index(op), &[operand(inputs, 0)?, operand(inputs, 1)?])?])
}

fn gather_elements(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    two(m, Index::GatherElements { axis: node.int("axis", 0)? }, inputs)
}

fn gather_nd(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let batch_dims = usize::try_from(node.int("batch_dims", 0)?)
        .map_err(|_| invalid("batch_dims must not be negative"))?;
    two(m, Index::GatherNd { batch_dims }, inputs)
}

fn reduction(node: &Node) -> Result<Scatter, Fail> {
    Ok(match node.text("reduction", "none")? {
        "none" => Scatter::Replace,
        "add" => Scatter::Add,
        "mul" => Scatter::Mul,
        "min" => Scatter::Min,
        "max" => Scatter::Max,
        other => return Err(invalid(format_args!("reduction is {other:?}"))),
    })
}

fn three(m: &mut Machine<'_>, op: Index, inputs: &[Option<Val>]) -> Lowered {
    let operands = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    Ok(vec![m.emit(Op::Index(op), &operands)?])
}

fn scatter_elements(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (axis, reduction) = (node.int("axis", 0)?, reduction(node)?);
    three(m, Index::ScatterElements { axis, reduction }, inputs)
}

fn scatter_nd(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    three(m, Index::ScatterNd { reduction: reduction(node)? }, inputs)
}

/// Indices of any dtype, those below zero counted from the end.
fn one_hot(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let depth = m.one_number(operand(inputs, 1)?)?;
    if !(depth >= 0.0 && depth <= f64::from(u32::MAX)) {
        return Err(invalid(format_args!("the depth is {depth}")));
    }
    let indices = cast(m, operand(inputs, 0)?, DType::Int64)?;
    let (axis, depth) = (node.int("axis", -1)?, depth as usize);
    let op = Index::OneHot { axis, depth };
    Ok(vec![m.emit(Op::Index(op), &[indices, operand(inputs, 2)?])?])
}

/// What came first of `count` along the axis, after it was counted.
fn cut(m: &mut Machine<'_>, x: Val, axis: i64, count: Val) -> Result<Val, Fail> {
    let end = m.one_int(count)?;
    m.emit(Op::Slice { axis, start: 0, end }, &[x])
}

fn non_zero(m: &mut Machine<'_>, _: &Node, inputs: &[Option<Val>]) -> Lowered {
    let mut x = operand(inputs, 0)?;
    if m.rank(x) == 0 {
        x = reshape(m, x, &[1])?;
    }
    let results = m.emit_all(Op::Index(Index::NonZero), &[x])?;
    let [found, count] = results[..] else { return Err(invalid("wants two results")) };
    Ok(vec![cut(m, found, 1, count)?])
}

fn compress(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let axis = node.int_if("axis")?;
    let op = Op::Index(Index::Compress { axis });
    let results = m.emit_all(op, &[operand(inputs, 0)?, operand(inputs, 1)?])?;
    let [found, count] = results[..] else { return Err(invalid("wants two results")) };
    Ok(vec![cut(m, found, axis.unwrap_or(0), count)?])
}

fn unique(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    if node.has("axis") && m.rank(x) != 1 {
        return Err(Fail::Unsupported("different slices along an axis".into()));
    }
    let sorted = node.flag("sorted", true)?;
    let results = m.emit_all(Op::Index(Index::Unique { sorted }), &[x])?;
    let [values, first, which, often, count] = results[..] else {
        return Err(invalid("wants five results"));
    };
    let [values, first, often] = [values, first, often].map(|x| cut(m, x, 0, count));
    Ok(vec![values?, first?, which, often?])
}

fn arg(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = Order::Arg {
        smallest: node.op_type == "ArgMin",
        last: node.flag("select_last_index", false)?,
        axis: node.int("axis", 0)?,
        keep_dims: node.flag("keepdims", true)?,
    };
    Ok(vec![m.emit(Op::Order(op), &[operand(inputs, 0)?])?])
}

fn cumulative(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let op = Order::CumSum {
        axis: m.one_int(operand(inputs, 1)?)?,
        exclusive: node.flag("exclusive", false)?,
        reverse: node.flag("reverse", false)?,
    };
    Ok(vec![m.emit(Op::Order(op), &[operand(inputs, 0)?])?])
}

fn top_k(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let k = match optional(inputs, 1) {
        Some(k) => m.one_int(k)?,
        None => node.int("k", 1)?,
    };
    let k = usize::try_from(k).map_err(|_| invalid(format_args!("k is {k}")))?;
    let (axis, largest) = (node.int("axis", -1)?, node.flag("largest", true)?);
    m.emit_all(Op::Order(Order::TopK { axis, k, largest }), &[operand(inputs, 0)?])
}

/// One where the first largest element is, else zero.
fn hardmax(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let (dims, dtype) = (m.dims(x).to_vec(), m.dtype(x));
    let at = axis(node.int("axis", if node.version >= 13 { -1 } else { 1 })?, dims.len())?;
    let (x, at, depth) = match node.version {
        13.. => (x, at, dims[at]),
        _ => {
            let (before, after) = dims.split_at(at);
            let depth = after.iter().product();
            (reshape(m, x, &[before.iter().product(), depth])?, 1, depth)
        }
    };
    let axis = at as i64;
    let largest = m.emit(Op::ArgMax { axis, keep_dims: false }, &[x])?;
    let values = m.list(&[2], vec![0.0f64, 1.0])?;
    let values = cast(m, values, dtype)?;
    let result = m.emit(Op::Index(Index::OneHot { axis, depth }), &[largest, values])?;
    Ok(vec![reshape(m, result, &dims)?])
}
