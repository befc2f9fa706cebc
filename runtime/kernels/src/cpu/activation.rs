//! Activations, one element at a time.

use innkeeper_tensor::DType;

use crate::Activation;
use crate::cpu::number::Float;
use crate::cpu::vector;

/// Replaces each element by `activation` of it.
pub(super) fn apply<T: Float>(activation: Activation, elements: &mut [T]) {
    if T::DTYPE == DType::Fp32 {
        return vector::activate(activation, bytemuck::cast_slice_mut(elements));
    }
    match activation {
        Activation::None => {}
        Activation::Relu => each(elements, T::relu),
        Activation::Gelu => each(elements, T::gelu),
        Activation::GeluTanh => each(elements, gelu_tanh),
        Activation::Silu => each(elements, T::silu),
        Activation::Sigmoid => each(elements, T::sigmoid),
        Activation::Tanh => each(elements, T::tanh),
        Activation::HardSwish => each(elements, hard_swish),
        Activation::LeakyRelu(alpha) => {
            let alpha = T::narrow(alpha.into());
            each(elements, |a| if a < T::default() { a.mul(alpha) } else { a });
        }
        Activation::Clip { min, max } => {
            let (min, max) = (T::narrow(min.into()), T::narrow(max.into()));
            each(elements, |a| {
                let a = if a < min { min } else { a };
                if a > max { max } else { a }
            });
        }
    }
}

fn each<T: Copy>(elements: &mut [T], f: impl Fn(T) -> T) {
    elements.iter_mut().for_each(|element| *element = f(*element));
}

fn gelu_tanh<T: Float>(a: T) -> T {
    let cubic = a.mul(a).mul(a).mul(T::narrow(0.044715)).add(a);
    // sqrt(2 / pi)
    let bent = cubic.mul(T::narrow(0.797_884_560_802_865_4)).tanh();
    a.mul(bent.add(T::narrow(1.0))).mul(T::narrow(0.5))
}

fn hard_swish<T: Float>(a: T) -> T {
    let gate = a.mul(T::narrow(1.0 / 6.0)).add(T::narrow(0.5));
    let gate = if gate < T::default() { T::default() } else { gate };
    a.mul(if gate > T::narrow(1.0) { T::narrow(1.0) } else { gate })
}
