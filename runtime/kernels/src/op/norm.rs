//! Normalisation.

/// Elements brought to a common size. FP16, BF16, FP32, FP64; what is summed is accumulated in at least FP32, and half
/// precision is rounded once.
///
/// Operands come in the order in which they are named.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// x, with `residual` then one of x's shape, scale, with `bias` then bias, both `[x's dimensions from axis on]`:
    /// (s - mean) / sqrt(variance + epsilon) * scale + bias, where s is x + residual, over the dimensions from `axis`
    /// on. With `keep_sum` s is a second result. ONNX LayerNormalization; Ba et al. 2016, *Layer Normalization*.
    Layer {
        /// The first of the dimensions that are normalised together.
        axis: i64,
        /// What is added to the variance.
        epsilon: f64,
        /// Whether there is a bias.
        bias: bool,
        /// Whether an operand is added to x first.
        residual: bool,
        /// Whether that sum is a result too.
        keep_sum: bool,
    },
    /// x, with `residual` then one of x's shape, scale `[x's dimensions from axis on]`:
    /// s / sqrt(mean(s^2) + epsilon) * scale, where s is x + residual. With `keep_sum` s is a second result. ONNX
    /// RMSNormalization; Zhang and Sennrich 2019, *Root Mean Square Layer Normalization*.
    Rms {
        /// The first of the dimensions that are normalised together.
        axis: i64,
        /// What is added to the mean of the squares.
        epsilon: f64,
        /// Whether an operand is added to x first.
        residual: bool,
        /// Whether that sum is a result too.
        keep_sum: bool,
    },
    /// x `[n, c, ..]`, scale, bias, mean and variance `[c]`: (x - mean) / sqrt(variance + epsilon) * scale + bias for
    /// each channel, as it is used after training. ONNX BatchNormalization with training_mode = 0; Ioffe and Szegedy
    /// 2015, *Batch Normalization*.
    Batch {
        /// What is added to the variance.
        epsilon: f64,
    },
    /// x `[n, c, ..]`, scale and bias `[c]`: as [`Norm::Layer`] over each of `groups` groups of neighbouring channels.
    /// ONNX GroupNormalization (opset 21); Wu and He 2018, *Group Normalization*.
    Group {
        /// How many groups the channels make.
        groups: usize,
        /// What is added to the variance.
        epsilon: f64,
    },
    /// x `[n, c, ..]`, scale and bias `[c]`: as [`Norm::Layer`] over each channel. ONNX InstanceNormalization; Ulyanov
    /// et al. 2016, *Instance Normalization*.
    Instance {
        /// What is added to the variance.
        epsilon: f64,
    },
    /// x: x / (the sum of |x|^p along `axis`)^(1/p); 0 where that is 0. ONNX LpNormalization.
    Lp {
        /// The dimension along which the norm is taken.
        axis: i64,
        /// 1 or 2.
        p: u32,
    },
}

impl Norm {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Norm::Layer { .. } => "layer-norm",
            Norm::Rms { .. } => "rms-norm",
            Norm::Batch { .. } => "batch-norm",
            Norm::Group { .. } => "group-norm",
            Norm::Instance { .. } => "instance-norm",
            Norm::Lp { .. } => "lp-norm",
        }
    }
}
