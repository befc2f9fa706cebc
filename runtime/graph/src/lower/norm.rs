//! Normalisations.

use innkeeper_kernels::{Binary, Op, Reduce, Unary};

use super::{Lower, Lowered, axis, cast, operand, optional, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "LayerNormalization" => layer,
        _ => return None,
    })
}

/// (x - mean) / sqrt(variance + epsilon) over the dimensions from the axis on, with mean and 1 / sqrt as further
/// results.
fn layer(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let from = axis(node.int("axis", -1)?, m.rank(x))?;
    let epsilon = f64::from(node.float("epsilon", 1e-5)?);
    let dtype = m.dtype(x);
    let stash = match node.int("stash_type", 1)? {
        1 if dtype != innkeeper_tensor::DType::Fp64 => innkeeper_tensor::DType::Fp32,
        _ => dtype,
    };
    let axes: Vec<i64> = (from as i64..m.rank(x) as i64).collect();
    let wide = cast(m, x, stash)?;
    let (normal, mean, inverse) = standardized(m, wide, &axes, epsilon)?;
    let normal = cast(m, normal, dtype)?;
    let scale = operand(inputs, 1)?;
    let mut y = m.emit(Op::Binary(Binary::Mul), &[normal, scale])?;
    if let Some(bias) = optional(inputs, 2) {
        y = m.emit(Op::Binary(Binary::Add), &[y, bias])?;
    }
    if m.shape(y) != m.shape(x) {
        return Err(invalid("scale and bias must broadcast to the operand's shape"));
    }
    Ok(vec![y, mean, inverse])
}

/// The standardised x, its mean and 1 / its deviation, over these axes.
pub(super) fn standardized(
    m: &mut Machine<'_>,
    x: Val,
    axes: &[i64],
    epsilon: f64,
) -> Result<(Val, Val, Val), Fail> {
    let over = || Op::Reduce { op: Reduce::Mean, axes: axes.to_vec(), keep_dims: true };
    let mean = m.emit(over(), &[x])?;
    let less = m.emit(Op::Binary(Binary::Sub), &[x, mean])?;
    let square = m.emit(Op::Binary(Binary::Mul), &[less, less])?;
    let variance = m.emit(over(), &[square])?;
    let epsilon = scalar(m, m.dtype(x), epsilon)?;
    let variance = m.emit(Op::Binary(Binary::Add), &[variance, epsilon])?;
    let deviation = m.emit(Op::Unary(Unary::Sqrt), &[variance])?;
    let inverse = m.emit(Op::Unary(Unary::Reciprocal), &[deviation])?;
    let normal = m.emit(Op::Binary(Binary::Mul), &[less, inverse])?;
    Ok((normal, mean, inverse))
}
