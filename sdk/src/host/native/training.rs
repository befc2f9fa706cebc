//! What the interface `training` does, on the kernels.

use innkeeper_kernels::{Backend, Grad, Loss, LossOf, Op, Optim};
use innkeeper_tensor::Tensor;

use super::handle::{CPU, Handle, lent, sizes};
use super::layers::{attention_of, window};
use crate::train::call::{Backward, Step};
use crate::train::{Reduction, Slope};
use crate::{Error, Result};

/// Answers the results of a loss or a backward pass.
pub(crate) fn backward(call: &Backward, operands: &[&Handle]) -> Result<Vec<Handle>> {
    let tensors: Vec<&Tensor> = operands.iter().map(|handle| &handle.0).collect();
    let results = CPU.run(&op(call), &tensors, &lent())?;
    Ok(results.into_iter().map(Handle).collect())
}

/// Takes a step of an optimiser; the handles in `changing` then stand for the new values.
pub(crate) fn step(
    step: &Step,
    mut changing: Vec<Vec<&mut Handle>>,
    gradients: &[&Handle],
) -> Result<()> {
    let optim = match *step {
        Step::Sgd { lr, momentum, weight_decay, nesterov } => {
            Optim::Sgd { lr, momentum, weight_decay, nesterov }
        }
        Step::Adam { lr, betas: [beta1, beta2], epsilon, weight_decay, decoupled, step } => {
            Optim::Adam { lr, beta1, beta2, epsilon, weight_decay, decoupled, step }
        }
    };
    let read: Vec<&Tensor> = gradients.iter().map(|handle| &handle.0).collect();
    update(&optim, changing.iter_mut().flatten().map(|handle| &mut **handle), &read).map(drop)
}

/// Scales gradients down to a norm; answers what it was.
pub(crate) fn clip_norm(gradients: Vec<&mut Handle>, norm_max: f64) -> Result<f64> {
    let clip = Optim::ClipNorm { norm_max };
    let norm =
        update(&clip, gradients.into_iter(), &[])?.map(|norm| crate::Tensor(Handle(norm)).item());
    norm.unwrap_or(Ok(0.0))
}

/// The kernels may use the memory of `changing` again, so nothing else of this handle may hold it meanwhile.
fn update<'a>(
    optim: &Optim,
    changing: impl Iterator<Item = &'a mut Handle>,
    read: &[&Tensor],
) -> Result<Option<Tensor>> {
    let empty = Tensor::from_vec::<f32>(&[0], Vec::new())
        .map_err(|error| Error::internal(error.to_string()))?;
    let mut places: Vec<&mut Handle> = changing.collect();
    let mut tensors: Vec<Tensor> =
        places.iter_mut().map(|place| std::mem::replace(&mut place.0, empty.clone())).collect();
    let result = CPU.update(optim, &mut tensors, read, &lent());
    places.into_iter().zip(tensors).for_each(|(place, tensor)| place.0 = tensor);
    Ok(result?)
}

fn op(call: &Backward) -> Op {
    let loss = |of, reduction| {
        let reduction = match reduction {
            Reduction::Mean => innkeeper_kernels::Reduction::Mean,
            Reduction::Sum => innkeeper_kernels::Reduction::Sum,
        };
        Op::Loss(Loss { of, reduction, gradient: true })
    };
    Op::Grad(match call {
        Backward::MeanSquaredError(reduction) => {
            return loss(LossOf::MeanSquaredError, *reduction);
        }
        Backward::CrossEntropy { ignore, smoothing, reduction } => {
            let of = LossOf::CrossEntropy { ignore: *ignore, smoothing: *smoothing };
            return loss(of, *reduction);
        }
        Backward::BinaryCrossEntropy(reduction) => {
            return loss(LossOf::BinaryCrossEntropy, *reduction);
        }
        Backward::Slope(slope) => Grad::Slope(match slope {
            Slope::Relu => innkeeper_kernels::Slope::Relu,
            Slope::Gelu => innkeeper_kernels::Slope::Gelu,
            Slope::GeluTanh => innkeeper_kernels::Slope::GeluTanh,
            Slope::Silu => innkeeper_kernels::Slope::Silu,
            Slope::Sigmoid => innkeeper_kernels::Slope::Sigmoid,
            Slope::Tanh => innkeeper_kernels::Slope::Tanh,
        }),
        Backward::Softmax { axis } => Grad::Softmax { axis: i64::from(*axis) },
        Backward::LogSoftmax { axis } => Grad::LogSoftmax { axis: i64::from(*axis) },
        Backward::LayerNorm { axis, epsilon } => {
            Grad::LayerNorm { axis: i64::from(*axis), epsilon: *epsilon, bias: true }
        }
        Backward::RmsNorm { axis, epsilon } => {
            Grad::RmsNorm { axis: i64::from(*axis), epsilon: *epsilon }
        }
        Backward::Attention { options, mask, packed } => {
            Grad::Attention(attention_of(*options, *mask, *packed))
        }
        Backward::BatchNorm { epsilon } => Grad::BatchNorm { epsilon: *epsilon },
        Backward::Gather { axis, shape } => {
            Grad::Gather { axis: i64::from(*axis), shape: sizes(shape) }
        }
        Backward::SumTo { shape } => Grad::SumTo { shape: sizes(shape) },
        Backward::Linear { input, bias } => Grad::Linear { input: *input, bias: *bias },
        Backward::Conv { window, groups, input, bias } => {
            let (window, groups) = (self::window(window, false), *groups as usize);
            Grad::Conv { window, groups, input: *input, bias: *bias }
        }
        Backward::MaxPool { kernel, window, ceil } => {
            Grad::MaxPool { kernel: sizes(kernel), window: self::window(window, *ceil) }
        }
        Backward::AveragePool { kernel, window, ceil, count_include_pad } => Grad::AveragePool {
            kernel: sizes(kernel),
            window: self::window(window, *ceil),
            count_include_pad: *count_include_pad,
        },
        Backward::Dropout { rate, seed } => Grad::Dropout { rate: *rate, seed: *seed },
    })
}
