//! The interface `layers`, with this crate's words.

pub(crate) use super::bindings::innkeeper::model::layers::*;

use crate::layers;

pub(crate) fn activation(activation: layers::Activation) -> Activation {
    match activation {
        layers::Activation::None => Activation::None,
        layers::Activation::Relu => Activation::Relu,
        layers::Activation::Gelu => Activation::Gelu,
        layers::Activation::GeluTanh => Activation::GeluTanh,
        layers::Activation::Silu => Activation::Silu,
        layers::Activation::Sigmoid => Activation::Sigmoid,
        layers::Activation::Tanh => Activation::Tanh,
        layers::Activation::HardSwish => Activation::HardSwish,
        layers::Activation::LeakyRelu(alpha) => Activation::LeakyRelu(alpha),
        layers::Activation::Clip { min, max } => Activation::Clip((min, max)),
    }
}
