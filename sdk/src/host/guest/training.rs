//! What the interface `training` does, by its functions.

use super::Handle;
use super::bindings::innkeeper::model::training as host;
use super::bindings::innkeeper::model::types;
use crate::train::call::{Backward, Step};
use crate::train::{Reduction, Slope};
use crate::{Error, Result};

/// Answers the results of a loss or a backward pass.
pub(crate) fn backward(call: &Backward, operands: &[&Handle]) -> Result<Vec<Handle>> {
    let one = |result: Result<Handle, types::Error>| Ok(vec![result?]);
    let two = |result: Result<(Handle, Handle), types::Error>| {
        let (a, b) = result?;
        Ok(vec![a, b])
    };
    let three = |result: Result<(Handle, Handle, Handle), types::Error>| {
        let (a, b, c) = result?;
        Ok(vec![a, b, c])
    };
    match (call, operands) {
        (Backward::MeanSquaredError(reduction), [x, target]) => {
            two(host::mean_squared_error(x, target, self::reduction(*reduction)))
        }
        (Backward::CrossEntropy { ignore, smoothing, reduction }, [x, labels]) => {
            let reduction = self::reduction(*reduction);
            two(host::cross_entropy(x, labels, *ignore, *smoothing, reduction))
        }
        (Backward::BinaryCrossEntropy(reduction), [x, target]) => {
            two(host::binary_cross_entropy(x, target, self::reduction(*reduction)))
        }
        (Backward::Slope(of), [dy, z]) => one(host::slope_gradient(slope(*of), dy, z)),
        (Backward::Softmax { axis }, [dy, y]) => one(host::softmax_gradient(dy, y, *axis)),
        (Backward::LogSoftmax { axis }, [dy, y]) => one(host::log_softmax_gradient(dy, y, *axis)),
        (Backward::LayerNorm { axis, epsilon }, [dy, x, scale]) => {
            three(host::layer_norm_gradient(dy, x, scale, *axis, *epsilon))
        }
        (Backward::Attention { options, packed: true, .. }, [dy, qkv, mask @ ..]) => {
            one(host::attention_packed_gradient(dy, qkv, mask.first().copied(), *options))
        }
        (Backward::Attention { options, .. }, [dy, q, k, v, mask @ ..]) => {
            three(host::attention_gradient(dy, q, k, v, mask.first().copied(), *options))
        }
        (Backward::RmsNorm { axis, epsilon }, [dy, x, scale]) => {
            two(host::rms_norm_gradient(dy, x, scale, *axis, *epsilon))
        }
        (Backward::BatchNorm { epsilon }, [dy, x, scale]) => {
            three(host::batch_norm_gradient(dy, x, scale, *epsilon))
        }
        (Backward::Gather { axis, shape }, [dy, indices]) => {
            one(host::gather_gradient(dy, indices, *axis, shape))
        }
        (Backward::SumTo { shape }, [dy]) => one(host::sum_to(dy, shape)),
        (Backward::Linear { input, bias }, [dy, x, weight]) => {
            Ok(host::linear_gradient(dy, x, weight, *input, *bias)?)
        }
        (Backward::Conv { window, groups, input, bias }, [dy, x, weight]) => {
            Ok(host::conv_gradient(dy, x, weight, window, *groups, *input, *bias)?)
        }
        (Backward::MaxPool { kernel, window, ceil }, [dy, x]) => {
            one(host::max_pool_gradient(dy, x, kernel, window, *ceil))
        }
        (Backward::AveragePool { kernel, window, ceil, count_include_pad }, [dy, x]) => {
            one(host::average_pool_gradient(dy, x, kernel, window, *ceil, *count_include_pad))
        }
        (Backward::Dropout { rate, seed }, [x]) => one(host::dropout(x, *rate, *seed)),
        _ => Err(Error::internal("a backward pass has other operands")),
    }
}

/// Takes a step of an optimiser; the handles in `changing` then stand for the new values.
pub(crate) fn step(
    step: &Step,
    changing: Vec<Vec<&mut Handle>>,
    gradients: &[&Handle],
) -> Result<()> {
    let groups: Vec<Vec<&Handle>> = changing
        .into_iter()
        .map(|group| group.into_iter().map(|handle| &*handle).collect())
        .collect();
    match (*step, &groups[..]) {
        (Step::Sgd { lr, momentum, weight_decay, nesterov }, [parameters, velocities @ ..]) => {
            let rule = host::Sgd { lr, momentum, weight_decay, nesterov };
            let velocities = velocities.first().map_or(&[][..], |group| group);
            Ok(host::sgd_step(parameters, velocities, gradients, rule)?)
        }
        (
            Step::Adam { lr, betas: [beta1, beta2], epsilon, weight_decay, decoupled, step },
            [parameters, first, second],
        ) => {
            let rule = host::Adam { lr, beta1, beta2, epsilon, weight_decay, decoupled, step };
            Ok(host::adam_step(parameters, first, second, gradients, rule)?)
        }
        _ => Err(Error::internal("an optimiser has other groups of tensors")),
    }
}

/// Scales gradients down to a norm; answers what it was.
pub(crate) fn clip_norm(gradients: Vec<&mut Handle>, norm_max: f64) -> Result<f64> {
    let gradients: Vec<&Handle> = gradients.into_iter().map(|handle| &*handle).collect();
    Ok(host::clip_norm(&gradients, norm_max)?)
}

fn reduction(reduction: Reduction) -> host::Reduction {
    match reduction {
        Reduction::Mean => host::Reduction::Mean,
        Reduction::Sum => host::Reduction::Sum,
    }
}

fn slope(slope: Slope) -> host::Slope {
    match slope {
        Slope::Relu => host::Slope::Relu,
        Slope::Gelu => host::Slope::Gelu,
        Slope::GeluTanh => host::Slope::GeluTanh,
        Slope::Silu => host::Slope::Silu,
        Slope::Sigmoid => host::Slope::Sigmoid,
        Slope::Tanh => host::Slope::Tanh,
    }
}
