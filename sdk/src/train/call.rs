//! What training asks of the host, as data: the two hosts differ below this.

use super::{Reduction, Slope};
use crate::host::layers::{AttentionOptions, Window};

/// A loss with its gradient, or a backward pass; operands come at the call.
#[derive(Clone, Debug)]
pub(crate) enum Backward {
    /// prediction, target: loss, gradient.
    MeanSquaredError(Reduction),
    /// logits, labels: loss, gradient.
    CrossEntropy { ignore: Option<i64>, smoothing: f64, reduction: Reduction },
    /// logits, targets: loss, gradient.
    BinaryCrossEntropy(Reduction),
    /// dy, x or y: dx.
    Slope(Slope),
    /// dy, y: dx.
    Softmax { axis: i32 },
    /// dy, y: dx.
    LogSoftmax { axis: i32 },
    /// dy, x, scale: dx, dscale, dbias.
    LayerNorm { axis: i32, epsilon: f64 },
    /// dy, q, k, v and a mask if there is one: dq, dk, dv. Packed: dy, qkv and a mask: dqkv.
    Attention { options: AttentionOptions, mask: bool, packed: bool },
    /// dy, x, scale: dx, dscale.
    RmsNorm { axis: i32, epsilon: f64 },
    /// dy, x, scale: dx, dscale, dbias.
    BatchNorm { epsilon: f64 },
    /// dy, indices: ddata.
    Gather { axis: i32, shape: Vec<u32> },
    /// dy: its sum over what was repeated.
    SumTo { shape: Vec<u32> },
    /// dy, x, weight: dx if wanted, dweight, dbias if wanted.
    Linear { input: bool, bias: bool },
    /// dy, x, weight: dx if wanted, dweight, dbias if wanted.
    Conv { window: Window, groups: u32, input: bool, bias: bool },
    /// dy, x: dx.
    MaxPool { kernel: Vec<u32>, window: Window, ceil: bool },
    /// dy, x: dx.
    AveragePool { kernel: Vec<u32>, window: Window, ceil: bool, count_include_pad: bool },
    /// x: some elements dropped.
    Dropout { rate: f64, seed: u64 },
}

/// A step of an optimiser.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// parameters, and velocities with momentum.
    Sgd { lr: f64, momentum: f64, weight_decay: f64, nesterov: bool },
    /// parameters, first and second moments.
    Adam { lr: f64, betas: [f64; 2], epsilon: f64, weight_decay: f64, decoupled: bool, step: u64 },
}
