//! Operands of backward passes.

pub(crate) mod window;

use innkeeper_tensor::{DType, Shape};

use crate::OpError;
use crate::error::invalid;
use crate::infer::attention::Plan;
use crate::infer::dtypes::{self, Class};
use crate::infer::{Operand, axes, layout, matmul, operands, result_shape};
use crate::op::Grad;

type Results = Vec<(DType, Shape)>;

pub(crate) fn grad(grad: &Grad, inputs: &[Operand<'_>]) -> Result<Results, OpError> {
    let op = grad.name();
    match grad {
        Grad::Slope(_) => {
            let (dtype, [dy, z]) = floats(op, inputs)?;
            same_shape(op, "dy", dy, z)?;
            Ok(vec![(dtype, dy.clone())])
        }
        Grad::Softmax { axis } | Grad::LogSoftmax { axis } => {
            let (dtype, [dy, y]) = floats(op, inputs)?;
            same_shape(op, "dy", dy, y)?;
            axes::axis(op, *axis, dy.rank())?;
            Ok(vec![(dtype, dy.clone())])
        }
        Grad::LayerNorm { axis, epsilon, bias } => {
            norm(op, inputs, *axis, *epsilon, 1 + usize::from(*bias))
        }
        Grad::RmsNorm { axis, epsilon } => norm(op, inputs, *axis, *epsilon, 1),
        Grad::BatchNorm { epsilon } => batch_norm(op, inputs, *epsilon),
        Grad::Gather { axis, shape } => gather(op, inputs, *axis, shape),
        Grad::SumTo { shape } => {
            let (dtype, [dy]) = floats(op, inputs)?;
            let shape = result_shape(op, shape)?;
            let spread = axes::pair(op, dy, &shape)?;
            same_shape(op, "what the shape broadcasts to", &spread, dy)?;
            Ok(vec![(dtype, shape)])
        }
        Grad::Linear { input, bias } => linear(op, inputs, *input, *bias),
        Grad::Conv { window, groups, input, bias } => {
            let (dtype, [dy, x, weight]) = floats(op, inputs)?;
            window::conv(op, window, *groups, [dy, x, weight])?;
            let dbias = bias.then(|| result_shape(op, &weight.dims()[..1])).transpose()?;
            let shapes = input.then(|| x.clone()).into_iter().chain([weight.clone()]).chain(dbias);
            Ok(shapes.map(|shape| (dtype, shape)).collect())
        }
        Grad::MaxPool { kernel, window } | Grad::AveragePool { kernel, window, .. } => {
            let (dtype, [dy, x]) = floats(op, inputs)?;
            window::pool(op, window, kernel, dy, x)?;
            Ok(vec![(dtype, x.clone())])
        }
        Grad::Attention(attention) => {
            let [(dtype, dy), operands @ ..] = inputs else {
                return Err(invalid(op, "takes dy and the operands of attention, got none"));
            };
            let plan = Plan::new(attention, operands)?;
            Class::Float.check(op, *dtype)?;
            same_shape(op, "dy", dy, &plan.result)?;
            let (sequences, _) = operands.split_at(operands.len() - usize::from(attention.mask));
            for (other, _) in sequences {
                dtypes::same(op, *dtype, *other)?;
            }
            Ok(sequences.iter().map(|&(dtype, shape)| (dtype, shape.clone())).collect())
        }
        Grad::Dropout { rate, .. } => {
            let (dtype, [x]) = floats(op, inputs)?;
            if !(0.0..1.0).contains(rate) {
                let text = format_args!("the rate must be from 0 to below 1, got {rate}");
                return Err(invalid(op, text));
            }
            Ok(vec![(dtype, x.clone())])
        }
    }
}

/// Exactly `N` operands of one dtype, FP32 or FP64.
fn floats<'a, const N: usize>(
    op: &str,
    inputs: &[Operand<'a>],
) -> Result<(DType, [&'a Shape; N]), OpError> {
    let operands: [Operand<'a>; N] = operands(op, inputs)?;
    let dtype = operands.first().map_or(DType::Fp32, |(dtype, _)| *dtype);
    for (other, _) in operands {
        dtypes::same(op, dtype, other)?;
    }
    Class::Float.check(op, dtype)?;
    Ok((dtype, operands.map(|(_, shape)| shape)))
}

fn same_shape(op: &str, what: &str, got: &Shape, wanted: &Shape) -> Result<(), OpError> {
    if got == wanted {
        return Ok(());
    }
    Err(invalid(op, format_args!("{what} must be {wanted}, got {got}")))
}

fn epsilon(op: &str, epsilon: f64) -> Result<(), OpError> {
    if epsilon >= 0.0 && epsilon.is_finite() {
        return Ok(());
    }
    Err(invalid(op, format_args!("epsilon must be 0 or more and finite, got {epsilon}")))
}

/// dx, and `extra` results of the scale's shape.
fn norm(
    op: &str,
    inputs: &[Operand<'_>],
    axis: i64,
    eps: f64,
    extra: usize,
) -> Result<Results, OpError> {
    let (dtype, [dy, x, scale]) = floats(op, inputs)?;
    epsilon(op, eps)?;
    same_shape(op, "dy", dy, x)?;
    let axis = axes::axis(op, axis, x.rank())?;
    same_shape(op, "scale", scale, &result_shape(op, &x.dims()[axis..])?)?;
    let scales = std::iter::repeat_n((dtype, scale.clone()), extra);
    Ok(std::iter::once((dtype, x.clone())).chain(scales).collect())
}

fn batch_norm(op: &str, inputs: &[Operand<'_>], eps: f64) -> Result<Results, OpError> {
    let (dtype, [dy, x, scale]) = floats(op, inputs)?;
    epsilon(op, eps)?;
    same_shape(op, "dy", dy, x)?;
    let [_, channels, ..] = *x.dims() else {
        return Err(invalid(op, format_args!("x must be [n,c,..], got {x}")));
    };
    same_shape(op, "scale", scale, &result_shape(op, &[channels])?)?;
    Ok(vec![(dtype, x.clone()), (dtype, scale.clone()), (dtype, scale.clone())])
}

fn gather(
    op: &str,
    inputs: &[Operand<'_>],
    axis: i64,
    shape: &[usize],
) -> Result<Results, OpError> {
    let [(dtype, dy), (index, indices)] = operands(op, inputs)?;
    Class::Float.check(op, dtype)?;
    dtypes::index(op, index)?;
    let data = result_shape(op, shape)?;
    same_shape(op, "dy", dy, &layout::gather(op, &data, indices, axis)?)?;
    Ok(vec![(dtype, data)])
}

fn linear(op: &str, inputs: &[Operand<'_>], input: bool, bias: bool) -> Result<Results, OpError> {
    let (dtype, [dy, x, weight]) = floats(op, inputs)?;
    let product = matmul::linear(op, x, weight, None, None)?;
    same_shape(op, "dy", dy, &product.shape)?;
    let dbias = bias.then(|| result_shape(op, &[product.n])).transpose()?;
    let shapes = input.then(|| x.clone()).into_iter().chain([weight.clone()]).chain(dbias);
    Ok(shapes.map(|shape| (dtype, shape)).collect())
}
