//! Losses, which models exported for training carry.

use innkeeper_kernels::{Binary, Compare, Index, Op, Reduce, Unary};

use super::{Lower, Lowered, operand, optional, reshape, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "NegativeLogLikelihoodLoss" => likelihood,
        "SoftmaxCrossEntropyLoss" => cross_entropy,
        _ => return None,
    })
}

/// -log of the probability of each target.
fn likelihood(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (logs, target) = (operand(inputs, 0)?, operand(inputs, 1)?);
    Ok(vec![of_targets(m, node, logs, target, optional(inputs, 2))?])
}

/// The same of scores, whose logarithms of probabilities are a second result.
fn cross_entropy(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (scores, target) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let logs = super::reduce::softmax_of(m, scores, Op::LogSoftmax { axis: 1 })?;
    Ok(vec![of_targets(m, node, logs, target, optional(inputs, 2))?, logs])
}

/// logs `[n, classes, d..]`, target `[n, d..]`, what a class counts `[classes]`.
fn of_targets(
    m: &mut Machine<'_>,
    node: &Node,
    logs: Val,
    target: Val,
    weight: Option<Val>,
) -> Result<Val, Fail> {
    let dims = m.dims(target).to_vec();
    let (mut class, mut counted) = (target, None);
    if let Some(ignored) = node.int_if("ignore_index")? {
        let of = m.dtype(target);
        let (ignored, zero) = (scalar(m, of, ignored as f64)?, scalar(m, of, 0.0)?);
        let counts = m.emit(Op::Compare(Compare::NotEqual), &[target, ignored])?;
        class = m.emit(Op::Select, &[counts, target, zero])?;
        counted = Some(counts);
    }
    let mut column = dims.clone();
    column.insert(1.min(dims.len()), 1);
    let column = reshape(m, class, &column)?;
    let picked = m.emit(Op::Index(Index::GatherElements { axis: 1 }), &[logs, column])?;
    let picked = reshape(m, picked, &dims)?;
    let mut loss = m.emit(Op::Unary(Unary::Neg), &[picked])?;
    let mut weights = match weight {
        Some(weight) => Some(m.emit(Op::Gather { axis: 0 }, &[weight, class])?),
        None => None,
    };
    if let Some(counted) = counted {
        let (one, zero) = (scalar(m, m.dtype(logs), 1.0)?, scalar(m, m.dtype(logs), 0.0)?);
        weights = Some(m.emit(Op::Select, &[counted, weights.unwrap_or(one), zero])?);
    }
    if let Some(weights) = weights {
        loss = m.emit(Op::Binary(Binary::Mul), &[loss, weights])?;
    }
    let over = |op| Op::Reduce { op, axes: Vec::new(), keep_dims: false };
    match (node.text("reduction", "mean")?, weights) {
        ("none", _) => Ok(loss),
        ("sum", _) => m.emit(over(Reduce::Sum), &[loss]),
        ("mean", None) => m.emit(over(Reduce::Mean), &[loss]),
        ("mean", Some(weights)) => {
            let sum = m.emit(over(Reduce::Sum), &[loss])?;
            let of = m.emit(over(Reduce::Sum), &[weights])?;
            m.emit(Op::Binary(Binary::Div), &[sum, of])
        }
        (other, _) => Err(invalid(format_args!("reduction is {other:?}"))),
    }
}
