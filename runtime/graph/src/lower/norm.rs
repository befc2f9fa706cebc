//! Normalisations.

use innkeeper_kernels::{Binary, Norm, Op, Reduce, Unary};
use innkeeper_tensor::DType;

use super::{Lower, Lowered, axis, cast, operand, optional, reshape, scalar};
use crate::error::{Fail, invalid};
use crate::ir::Node;
use crate::machine::{Machine, Val};

pub(super) fn find(op_type: &str) -> Option<Lower> {
    Some(match op_type {
        "LayerNormalization" => layer,
        "RMSNormalization" | "SimplifiedLayerNormalization" => rms,
        "BatchNormalization" => batch,
        "InstanceNormalization" => instance,
        "GroupNormalization" => group,
        "LpNormalization" => lp,
        "MeanVarianceNormalization" => mean_variance,
        _ => return None,
    })
}

fn epsilon(node: &Node) -> Result<f64, Fail> {
    Ok(f64::from(node.float("epsilon", 1e-5)?))
}

/// (x - mean) / sqrt(variance + epsilon) over the dimensions from the axis on, with mean and 1 / sqrt as further
/// results.
fn layer(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, scale, bias) = (operand(inputs, 0)?, operand(inputs, 1)?, optional(inputs, 2));
    let from = axis(node.int("axis", -1)?, m.rank(x))?;
    let epsilon = epsilon(node)?;
    let alone = node.outputs.iter().skip(1).all(Option::is_none);
    let row = m.dims(x)[from..].to_vec();
    if alone && m.dims(scale) == row && bias.is_none_or(|bias| m.dims(bias) == row) {
        let op = Norm::Layer {
            axis: from as i64,
            epsilon,
            bias: bias.is_some(),
            residual: false,
            keep_sum: false,
        };
        let operands: Vec<Val> = [x, scale].into_iter().chain(bias).collect();
        return Ok(vec![m.emit(Op::Norm(op), &operands)?]);
    }
    let dtype = m.dtype(x);
    let stash = match node.int("stash_type", 1)? {
        1 if dtype != DType::Fp64 => DType::Fp32,
        _ => dtype,
    };
    let axes: Vec<i64> = (from as i64..m.rank(x) as i64).collect();
    let wide = cast(m, x, stash)?;
    let (normal, mean, inverse) = standardized(m, wide, &axes, epsilon)?;
    let normal = cast(m, normal, dtype)?;
    let mut y = m.emit(Op::Binary(Binary::Mul), &[normal, scale])?;
    if let Some(bias) = bias {
        y = m.emit(Op::Binary(Binary::Add), &[y, bias])?;
    }
    if m.shape(y) != m.shape(x) {
        return Err(invalid("scale and bias must broadcast to the operand's shape"));
    }
    Ok(vec![y, mean, inverse])
}

/// The standardised x, its mean and 1 / its deviation, over these axes.
fn standardized(
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

fn rms(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let (x, scale) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let from = axis(node.int("axis", -1)?, m.rank(x))?;
    let row = m.dims(x)[from..].to_vec();
    let axis = from as i64;
    let op = |epsilon| Op::Norm(Norm::Rms { axis, epsilon, residual: false, keep_sum: false });
    let op = op(epsilon(node)?);
    if m.dims(scale) == row {
        return Ok(vec![m.emit(op, &[x, scale])?]);
    }
    let one = m.emit(Op::Full { dtype: m.dtype(x), shape: row, value: 1.0 }, &[])?;
    let normal = m.emit(op, &[x, one])?;
    let y = m.emit(Op::Binary(Binary::Mul), &[normal, scale])?;
    if m.shape(y) != m.shape(x) {
        return Err(invalid("the scale must broadcast to the operand's shape"));
    }
    Ok(vec![y])
}

fn batch(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    if node.flag("training_mode", false)? || node.outputs.len() > 1 && node.version >= 14 {
        return Err(Fail::Unsupported(
            "training_mode is set; export the model for inference (eval mode)".into(),
        ));
    }
    let x = operand(inputs, 0)?;
    let mut operands = vec![x];
    for index in 1..5 {
        operands.push(cast(m, operand(inputs, index)?, m.dtype(x))?);
    }
    Ok(vec![m.emit(Op::Norm(Norm::Batch { epsilon: epsilon(node)? }), &operands)?])
}

fn instance(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let operands = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    Ok(vec![m.emit(Op::Norm(Norm::Instance { epsilon: epsilon(node)? }), &operands)?])
}

/// With a scale for each channel since opset 21, and before for each group.
fn group(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let count = node.int("num_groups", 0)?;
    let groups = usize::try_from(count).ok().filter(|&groups| groups > 0);
    let groups = groups.ok_or_else(|| invalid(format_args!("num_groups is {count}")))?;
    let channels = *m.dims(x).get(1).ok_or_else(|| invalid("wants channels"))?;
    let mut operands = vec![x];
    for index in [1, 2] {
        let mut row = operand(inputs, index)?;
        if node.version < 21 {
            let each = channels / groups;
            row = reshape(m, row, &[groups, 1])?;
            let wide = innkeeper_kernels::Move::Expand { shape: vec![groups, each] };
            row = m.emit(Op::Move(wide), &[row])?;
            row = reshape(m, row, &[channels])?;
        }
        operands.push(row);
    }
    Ok(vec![m.emit(Op::Norm(Norm::Group { groups, epsilon: epsilon(node)? }), &operands)?])
}

fn lp(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let p = u32::try_from(node.int("p", 2)?).map_err(|_| invalid("p must be 1 or 2"))?;
    let op = Norm::Lp { axis: node.int("axis", -1)?, p };
    Ok(vec![m.emit(Op::Norm(op), &[operand(inputs, 0)?])?])
}

fn mean_variance(m: &mut Machine<'_>, node: &Node, inputs: &[Option<Val>]) -> Lowered {
    let x = operand(inputs, 0)?;
    let list = node.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes: Vec<i64> = super::axes(list, m.rank(x))?.into_iter().map(|at| at as i64).collect();
    let (normal, ..) = standardized(m, x, &axes, 1e-18)?;
    Ok(vec![normal])
}
