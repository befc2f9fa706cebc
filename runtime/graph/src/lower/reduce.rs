//! Operators that work over dimensions.

use innkeeper_kernels::{Binary, Op, Order, Reduce, Unary};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, axes, cast, ints_at, operand, reshape, scalar};
use crate::error::Fail;
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceSumSquare" | "ReduceL1"
        | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceProd" => reduce,
        "Softmax" | "LogSoftmax" => softmax,
        _ => return None,
    })
}

fn reduce(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let list = ints_at(m, node, inputs, 1, "axes")?.unwrap_or_default();
    if list.is_empty() && node.flag("noop_with_empty_axes", false)? {
        return noop(m, node, x);
    }
    let axes: Vec<i64> = axes(&list, m.rank(x))?.into_iter().map(|at| at as i64).collect();
    let keep_dims = node.flag("keepdims", true)?;
    let over = |op| Op::Reduce { op, axes: axes.clone(), keep_dims };
    let result = match node.op_type.as_str() {
        "ReduceSum" => m.emit(over(Reduce::Sum), &[x])?,
        "ReduceProd" => m.emit(over(Reduce::Product), &[x])?,
        "ReduceMean" => m.emit(over(Reduce::Mean), &[x])?,
        "ReduceMax" | "ReduceMin" => extreme(m, node, x, &axes, keep_dims)?,
        "ReduceL1" => {
            let x = m.emit(Op::Unary(Unary::Abs), &[x])?;
            m.emit(over(Reduce::Sum), &[x])?
        }
        "ReduceLogSum" => {
            let sum = m.emit(over(Reduce::Sum), &[x])?;
            m.emit(Op::Unary(Unary::Ln), &[sum])?
        }
        "ReduceLogSumExp" => log_sum_exp(m, x, &axes, keep_dims)?,
        name => {
            let x = m.emit(Op::Binary(Binary::Mul), &[x, x])?;
            let sum = m.emit(over(Reduce::Sum), &[x])?;
            match name {
                "ReduceL2" => m.emit(Op::Unary(Unary::Sqrt), &[sum])?,
                _ => sum,
            }
        }
    };
    Ok(vec![result])
}

/// The largest or smallest; of no elements the lowest or highest there is.
fn extreme(
    m: &mut Machine<'_>,
    node: &Node,
    x: Val,
    axes: &[i64],
    keep_dims: bool,
) -> Result<Val, Fail> {
    let axes = axes.to_vec();
    let largest = node.op_type == "ReduceMax";
    if m.dtype(x) == DType::Bool {
        let op = match largest {
            true => Order::Any { axes, keep_dims },
            false => Order::All { axes, keep_dims },
        };
        return m.emit(Op::Order(op), &[x]);
    }
    if m.shape(x).elements() == 0 && m.dtype(x).is_float() {
        // The sum of nothing has the shape that is wanted.
        let sum = m.emit(Op::Reduce { op: Reduce::Sum, axes, keep_dims }, &[x])?;
        let value = if largest { f64::NEG_INFINITY } else { f64::INFINITY };
        let end = scalar(m, m.dtype(x), value)?;
        return m.emit(Op::Binary(Binary::Add), &[sum, end]);
    }
    let op = if largest { Reduce::Max } else { Reduce::Min };
    m.emit(Op::Reduce { op, axes, keep_dims }, &[x])
}

/// Over no axes: only what is done to each element.
fn noop(m: &mut Machine<'_>, node: &Node, x: Val) -> Lowered {
    Ok(vec![match node.op_type.as_str() {
        "ReduceL1" | "ReduceL2" => m.emit(Op::Unary(Unary::Abs), &[x])?,
        "ReduceLogSum" => m.emit(Op::Unary(Unary::Ln), &[x])?,
        "ReduceSumSquare" => m.emit(Op::Binary(Binary::Mul), &[x, x])?,
        _ => x,
    }])
}

/// ln(sum(e^x)), the largest x taken out first.
fn log_sum_exp(m: &mut Machine<'_>, x: Val, axes: &[i64], keep_dims: bool) -> Result<Val, Fail> {
    let over = |op, keep_dims| Op::Reduce { op, axes: axes.to_vec(), keep_dims };
    if m.shape(x).elements() == 0 {
        let sum = m.emit(over(Reduce::Sum, keep_dims), &[x])?;
        return m.emit(Op::Unary(Unary::Ln), &[sum]);
    }
    let max = m.emit(over(Reduce::Max, true), &[x])?;
    // An infinite largest one would make NaN of itself.
    let (dtype, bound) = (m.dtype(max), f64::from(f32::MAX));
    let (low, high) = (scalar(m, dtype, -bound)?, scalar(m, dtype, bound)?);
    let max = m.emit(Op::Binary(Binary::Maximum), &[max, low])?;
    let max = m.emit(Op::Binary(Binary::Minimum), &[max, high])?;
    let less = m.emit(Op::Binary(Binary::Sub), &[x, max])?;
    let exp = m.emit(Op::Unary(Unary::Exp), &[less])?;
    let sum = m.emit(over(Reduce::Sum, true), &[exp])?;
    let log = m.emit(Op::Unary(Unary::Ln), &[sum])?;
    let result = m.emit(Op::Binary(Binary::Add), &[log, max])?;
    if keep_dims {
        return Ok(result);
    }
    let gone = super::axes(axes, m.rank(x))?;
    let kept = |at: &usize| !(gone.is_empty() || gone.contains(at));
    let dims: Vec<usize> = (0..m.rank(x)).filter(kept).map(|at| m.dims(x)[at]).collect();
    reshape(m, result, &dims)
}

/// A softmax or its logarithm; half precision is computed in FP32.
pub(super) fn softmax_of(m: &mut Machine<'_>, x: Val, op: Op) -> Result<Val, Fail> {
    let dtype = m.dtype(x);
    let wide = if dtype == DType::Fp64 { x } else { cast(m, x, DType::Fp32)? };
    let result = m.emit(op, &[wide])?;
    cast(m, result, dtype)
}

fn softmax(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    if !m.dtype(x).is_float() {
        return Err(Fail::Unsupported(format!("{} of {}", node.op_type, m.dtype(x))));
    }
    let op = |axis| match node.op_type.as_str() {
        "Softmax" => Op::Softmax { axis },
        _ => Op::LogSoftmax { axis },
    };
    if node.version >= 13 {
        return Ok(vec![softmax_of(m, x, op(node.int("axis", -1)?))?]);
    }
    // Before: over all dimensions from the axis on, as one.
    let rank = m.rank(x);
    let at = super::axis(node.int("axis", 1)?, rank.max(1))?.min(rank);
    if at + 1 == rank {
        return Ok(vec![softmax_of(m, x, op(-1))?]);
    }
    let dims = m.dims(x).to_vec();
    let (before, after) = dims.split_at(at);
    let flat = reshape(m, x, &[before.iter().product(), after.iter().product()])?;
    let result = softmax_of(m, flat, op(-1))?;
    Ok(vec![reshape(m, result, &dims)?])
}
