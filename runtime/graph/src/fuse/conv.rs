//! Convolutions with what follows them.

use innkeeper_kernels::{Activation, Binary, Conv, Norm, Op, Unary};
use innkeeper_tensor::{DType, Tensor};

use super::{Rewriter, compute, linear};

/// A batch normalisation with constant parameters goes into the weights.
pub(super) fn batch_norm(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let Op::Norm(Norm::Batch { epsilon }) = step.op else { return None };
    let [x, scale, bias, mean, variance] = step.inputs[..] else { return None };
    let (_, made) = r.only(x)?;
    let Op::Conv(conv) = &made.op else { return None };
    if conv.residual || conv.activation != Activation::None || r.dtype(x) != DType::Fp32 {
        return None;
    }
    let conv = Conv { bias: true, ..conv.clone() };
    let inputs = made.inputs.clone();
    let (image, weight) = (*inputs.first()?, *inputs.get(1)?);
    let key = format!("bn weight {epsilon:e}");
    let folded = r.derive(&key, &[weight, scale, variance], |from| {
        let [weight, scale, variance] = *from else { return None };
        let factor = factor(scale, variance, epsilon)?;
        let mut dims = vec![1i64; weight.shape().rank()];
        *dims.first_mut()? = -1;
        let factor = compute(&Op::Reshape { shape: dims }, &[&factor])?;
        compute(&Op::Binary(Binary::Mul), &[weight, &factor])
    })?;
    let of: Vec<_> =
        [scale, bias, mean, variance].into_iter().chain(inputs.get(2).copied()).collect();
    let key = format!("bn bias {epsilon:e}");
    let row = r.derive(&key, &of, |from| {
        let [scale, bias, mean, variance, old @ ..] = from else { return None };
        let factor = factor(scale, variance, epsilon)?;
        let less = match old {
            [old] => compute(&Op::Binary(Binary::Sub), &[old, mean])?,
            _ => compute(&Op::Unary(Unary::Neg), &[mean])?,
        };
        let less = compute(&Op::Binary(Binary::Mul), &[&less, &factor])?;
        compute(&Op::Binary(Binary::Add), &[&less, bias])
    })?;
    r.replace(index, Op::Conv(conv), vec![image, folded, row])
}

/// scale / sqrt(variance + epsilon).
fn factor(scale: &Tensor, variance: &Tensor, epsilon: f64) -> Option<Tensor> {
    let sum = compute(&Op::Scalar { op: Binary::Add, value: epsilon }, &[variance])?;
    let root = compute(&Op::Unary(Unary::Sqrt), &[&sum])?;
    compute(&Op::Binary(Binary::Div), &[scale, &root])
}

pub(super) fn residual(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    linear::addition(r, index)?.into_iter().find_map(|(product, other)| {
        let (_, made) = r.only(product)?;
        let Op::Conv(conv) = &made.op else { return None };
        if conv.residual || conv.activation != Activation::None || product == other {
            return None;
        }
        let conv = Conv { residual: true, ..conv.clone() };
        let mut inputs = made.inputs.clone();
        inputs.push(other);
        r.replace(index, Op::Conv(conv), inputs)
    })
}

pub(super) fn activation(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let activation = linear::activation_of(&step.op)?;
    let (_, made) = r.only(*step.inputs.first()?)?;
    let Op::Conv(conv) = &made.op else { return None };
    if conv.activation != Activation::None {
        return None;
    }
    let (conv, inputs) = (Conv { activation, ..conv.clone() }, made.inputs.clone());
    r.replace(index, Op::Conv(conv), inputs)
}
