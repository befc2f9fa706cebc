//! Operations of training.

use innkeeper_kernels::{Attention, Grad, Loss, LossOf, Op, Optim, Reduction, Slope};

use super::ops::window;
use crate::source::Source;

/// The next operation of training.
pub(super) fn op(from: &mut Source<'_>) -> Op {
    match from.byte() % 4 {
        0 => Op::Loss(loss(from)),
        1 => Op::Optim(optim(from)),
        _ => Op::Grad(grad(from)),
    }
}

fn loss(from: &mut Source<'_>) -> Loss {
    let of = match from.byte() % 3 {
        0 => LossOf::MeanSquaredError,
        1 => LossOf::CrossEntropy {
            ignore: from.flag().then(|| from.axis()),
            smoothing: from.number(),
        },
        _ => LossOf::BinaryCrossEntropy,
    };
    let reduction = from.pick(&[Reduction::Mean, Reduction::Sum]);
    Loss { of, reduction, gradient: from.flag() }
}

fn optim(from: &mut Source<'_>) -> Optim {
    match from.byte() % 3 {
        0 => Optim::Sgd {
            lr: from.number(),
            momentum: from.number(),
            weight_decay: from.number(),
            nesterov: from.flag(),
        },
        1 => Optim::Adam {
            lr: from.number(),
            beta1: from.number(),
            beta2: from.number(),
            epsilon: from.number(),
            weight_decay: from.number(),
            decoupled: from.flag(),
            step: from.pick(&[1, 2, 0, u64::MAX]),
        },
        _ => Optim::ClipNorm { norm_max: from.number() },
    }
}

fn grad(from: &mut Source<'_>) -> Grad {
    use Slope::*;
    match from.byte() % 14 {
        0 => Grad::Slope(from.pick(&[Relu, Gelu, GeluTanh, Silu, Sigmoid, Tanh])),
        1 => Grad::Softmax { axis: from.axis() },
        2 => Grad::LogSoftmax { axis: from.axis() },
        3 => Grad::LayerNorm { axis: from.axis(), epsilon: from.number(), bias: from.flag() },
        4 => Grad::RmsNorm { axis: from.axis(), epsilon: from.number() },
        5 => Grad::BatchNorm { epsilon: from.number() },
        6 => Grad::Gather { axis: from.axis(), shape: from.sizes() },
        7 => Grad::SumTo { shape: from.sizes() },
        8 => Grad::Linear { input: from.flag(), bias: from.flag() },
        9 => Grad::Conv {
            window: window(from),
            groups: from.size(),
            input: from.flag(),
            bias: from.flag(),
        },
        10 => Grad::MaxPool { kernel: from.sizes(), window: window(from) },
        11 => Grad::AveragePool {
            kernel: from.sizes(),
            window: window(from),
            count_include_pad: from.flag(),
        },
        12 => {
            let (causal, packed, heads_first) = (from.flag(), from.flag(), from.flag());
            let (heads, kv_heads) = (from.size(), from.size());
            let (scale, mask) = (None, false);
            Grad::Attention(Attention { heads, kv_heads, scale, causal, mask, packed, heads_first })
        }
        _ => Grad::Dropout { rate: from.number(), seed: from.word() },
    }
}
