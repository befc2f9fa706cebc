//! Products with constant weights: transposed once, with bias, residual and activation in their epilogue.

use innkeeper_kernels::{Activation, Binary, Curve, Op, Quant, Unary};

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
    r.replace(index, Layer::Plain.op(After::NOTHING), vec![x, weight])
}

/// The layers with a constant weight: which they are tells how their first operands are kept.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Layer {
    /// x and a weight.
    Plain,
    /// x, a weight of 8 bits and its scales.
    Bytes,
}

/// What a layer does after its product.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct After {
    pub(super) bias: bool,
    pub(super) residual: bool,
    pub(super) activation: Activation,
}

impl After {
    pub(super) const NOTHING: After =
        After { bias: false, residual: false, activation: Activation::None };
}

impl Layer {
    pub(super) fn of(op: &Op) -> Option<(Layer, After)> {
        match *op {
            Op::Linear { bias, residual, activation } => {
                Some((Layer::Plain, After { bias, residual, activation }))
            }
            Op::Quant(Quant::Linear8 { bias, residual, activation }) => {
                Some((Layer::Bytes, After { bias, residual, activation }))
            }
            _ => None,
        }
    }

    pub(super) fn op(self, after: After) -> Op {
        let After { bias, residual, activation } = after;
        match self {
            Layer::Plain => Op::Linear { bias, residual, activation },
            Layer::Bytes => Op::Quant(Quant::Linear8 { bias, residual, activation }),
        }
    }

    /// How many operands come before the bias.
    pub(super) fn operands(self) -> usize {
        match self {
            Layer::Plain => 2,
            Layer::Bytes => 3,
        }
    }
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
        let (layer, after) = Layer::of(&made.op)?;
        if after != After::NOTHING {
            return None;
        }
        let mut inputs = made.inputs.clone();
        let count = *r.dims(*inputs.get(1)?).first()?;
        let (last, before) = r.dims(bias).split_last()?;
        if *last != count || before.iter().any(|&dim| dim != 1) {
            return None;
        }
        inputs.push(match before {
            [] => bias,
            _ => {
                let op = Op::Reshape { shape: vec![count as i64] };
                r.derive("row", &[bias], |from| compute(&op, from))?
            }
        });
        r.replace(index, layer.op(After { bias: true, ..after }), inputs)
    })
}

/// Another tensor that is added.
pub(super) fn residual(r: &mut Rewriter<'_>, index: usize) -> Option<()> {
    addition(r, index)?.into_iter().find_map(|(product, other)| {
        let (_, made) = r.only(product)?;
        let (layer, after) = Layer::of(&made.op)?;
        if after != (After { bias: after.bias, ..After::NOTHING })
            || r.dims(product) != r.dims(other)
            || product == other
        {
            return None;
        }
        let mut inputs = made.inputs.clone();
        inputs.push(other);
        r.replace(index, layer.op(After { residual: true, ..after }), inputs)
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
    let (layer, after) = Layer::of(&made.op)?;
    if after.activation != Activation::None {
        return None;
    }
    let inputs = made.inputs.clone();
    r.replace(index, layer.op(After { activation, ..after }), inputs)
}
