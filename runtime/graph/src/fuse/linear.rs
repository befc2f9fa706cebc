//! Products with constant weights: transposed once, with bias, residual and activation in their epilogue.

use innkeeper_kernels::{Activation, Binary, Curve, Op, Unary};

use super::{Rewriter, compute};
use crate::machine::Val;

/// x w with a constant matrix w is a linear layer of its transpose.
pub(super) fn product(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let (Op::MatMul, [x, weight]) = (&step.op, &step.inputs[..]) else { return None };
    let (x, weight) = (*x, *weight);
    if r.dims(weight).len() != 2 || r.dims(x).is_empty() {
        return None;
    }
    let transpose = Op::Transpose { permutation: vec![1, 0] };
    let weight = r.derive("transposed", &[weight], |from| compute(&transpose, from))?;
    r.replace(index, linear(false, false), vec![x, weight])
}

fn linear(bias: bool, residual: bool) -> Op {
    Op::Linear { bias, residual, activation: Activation::None }
}

/// Two operands, each as the first once.
fn both(a: Val, b: Val) -> [(Val, Val); 2] {
    [(a, b), (b, a)]
}

pub(super) fn addition(r: &Rewriter<'_>, index: usize) -> Option<[(Val, Val); 2]> {
    let step = r.step(index)?;
    match (&step.op, &step.inputs[..]) {
        (Op::Binary(Binary::Add), [a, b]) => Some(both(*a, *b)),
        _ => None,
    }
}

/// A constant row that is added.
pub(super) fn bias(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    addition(r, index)?.into_iter().find_map(|(product, bias)| {
        let (_, made) = r.only(product)?;
        let Op::Linear { bias: false, residual: false, activation: Activation::None } = made.op
        else {
            return None;
        };
        let [x, weight] = made.inputs[..] else { return None };
        let count = *r.dims(weight).first()?;
        let (last, before) = r.dims(bias).split_last()?;
        if *last != count || before.iter().any(|&dim| dim != 1) {
            return None;
        }
        let row = match before {
            [] => bias,
            _ => {
                let op = Op::Reshape { shape: vec![count as i64] };
                r.derive("row", &[bias], |from| compute(&op, from))?
            }
        };
        r.replace(index, linear(true, false), vec![x, weight, row])
    })
}

/// Another tensor that is added.
pub(super) fn residual(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    addition(r, index)?.into_iter().find_map(|(product, other)| {
        let (made_at, made) = r.only(product)?;
        let Op::Linear { bias, residual: false, activation: Activation::None } = made.op else {
            return None;
        };
        if r.dims(product) != r.dims(other) || product == other {
            return None;
        }
        let _ = made_at;
        let mut inputs = made.inputs.clone();
        inputs.push(other);
        r.replace(index, linear(bias, true), inputs)
    })
}

/// The activation that an operation is.
pub(super) fn activation_of(op: &Op) -> Option<Activation> {
    Some(match op {
        Op::Unary(Unary::Relu) => Activation::Relu,
        Op::Unary(Unary::Gelu) => Activation::Gelu,
        Op::Unary(Unary::GeluTanh) => Activation::GeluTanh,
        Op::Unary(Unary::Silu) => Activation::Silu,
        Op::Unary(Unary::Sigmoid) => Activation::Sigmoid,
        Op::Unary(Unary::Tanh) => Activation::Tanh,
        Op::Unary(Unary::HardSwish) => Activation::HardSwish,
        Op::Curve(Curve::LeakyRelu { alpha }) => Activation::LeakyRelu(*alpha as f32),
        Op::Curve(Curve::Clip { min, max }) => Activation::Clip {
            min: min.map_or(f32::NEG_INFINITY, |min| min as f32),
            max: max.map_or(f32::INFINITY, |max| max as f32),
        },
        _ => return None,
    })
}

pub(super) fn activation(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    let step = r.step(index)?;
    let activation = activation_of(&step.op)?;
    let (_, made) = r.only(*step.inputs.first()?)?;
    let Op::Linear { bias, residual, activation: Activation::None } = made.op else { return None };
    let inputs = made.inputs.clone();
    r.replace(index, Op::Linear { bias, residual, activation }, inputs)
}
