//! Convolution and pooling.

use crate::{Activation, Window};

/// Operands x `[n, c, i..]`, weight `[m, c / groups, k..]`, with `bias` then `[m]`, with `residual` then one of the
/// result's shape: activation(x * weight + bias + residual), `[n, m, o..]`, where * slides the weight over 1 to 3
/// spatial dimensions as `window` says (without `ceil`) and group g of the m results sees only group g of the channels.
/// FP16, BF16, FP32, FP64. ONNX Conv.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Where windows are.
    pub window: Window,
    /// In how many groups channels are split.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether an operand is added element by element.
    pub residual: bool,
    /// What is done to each sum.
    pub activation: Activation,
}

/// Operands x `[n, c, i..]`, weight `[c, m / groups, k..]`, with `bias` then `[m]`: what [`Conv`] is the derivative of,
/// `[n, m, (i - 1) * stride + (k - 1) * dilation + 1 - pads + output_pads..]`: each element of x adds the weight, times
/// itself, to the result. FP16, BF16, FP32, FP64. ONNX ConvTranspose.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose {
    /// Where windows of the result are; `pads` are taken off.
    pub window: Window,
    /// How much longer each spatial dimension is; none for nothing.
    pub output_pads: Vec<usize>,
    /// In how many groups channels are split.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

/// Operand x `[n, c, i..]` with 1 to 3 spatial dimensions: what `kind` says of each window, `[n, c, o..]`. FP16, BF16,
/// FP32, FP64, and INT8 and UINT8 for the largest.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooling {
    /// What is worked out.
    pub kind: PoolKind,
    /// How long a window is in each spatial dimension; none for one window over everything.
    pub kernel: Vec<usize>,
    /// Where windows are.
    pub window: Window,
}

/// What is worked out of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest, NaN if there is one; of a window in the padding alone the lowest value. ONNX MaxPool.
    Max {
        /// Whether a second result (INT64) says where it lies in x, counting from x's first element; the first of
        /// several.
        indices: bool,
    },
    /// The mean. ONNX AveragePool.
    Average {
        /// Whether what is padded counts, as zeros.
        count_include_pad: bool,
    },
    /// The sum of |x|^p, to the power of 1 / p. ONNX LpPool.
    Lp {
        /// 1 or more.
        p: u32,
    },
}

impl Pooling {
    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max { .. } => "max-pool",
            PoolKind::Average { .. } => "average-pool",
            PoolKind::Lp { .. } => "lp-pool",
        }
    }
}
