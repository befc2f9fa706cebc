//! Backward passes that are slow or inexact when put together from forward operations.

use super::Attention;

/// The derivative of an operation, given dy, the derivative of the loss by its result. FP32, FP64; sums over rows are
/// accumulated in FP64 where they decide the last digits.
///
/// An operation that has several operands answers the derivative by each of them, in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Grad {
    /// dy, z of the same shape: dy f'(x). z is the result y of relu, sigmoid and tanh, whose derivative it shows, and
    /// the operand x of the others.
    Slope(Slope),
    /// dy, y: y (dy - sum(dy y)) along `axis`, y being the result of [`Op::Softmax`](crate::Op::Softmax).
    Softmax {
        /// The dimension along which y sums to 1.
        axis: i64,
    },
    /// dy, y: dy - e^y sum(dy) along `axis`, y being the result of [`Op::LogSoftmax`](crate::Op::LogSoftmax).
    LogSoftmax {
        /// The dimension along which e to y sums to 1.
        axis: i64,
    },
    /// dy, x, scale `[x's dimensions from axis on]`: dx, dscale and with `bias` dbias of
    /// (x - mean) / sqrt(variance + epsilon) * scale + bias over the dimensions from `axis` on. ONNX
    /// LayerNormalization; Ba et al. 2016, *Layer Normalization*.
    LayerNorm {
        /// The first of the dimensions that are normalised together.
        axis: i64,
        /// What is added to the variance.
        epsilon: f64,
        /// Whether there is a bias, so that its derivative is wanted.
        bias: bool,
    },
    /// dy, x, scale: dx, dscale of x / sqrt(mean(x^2) + epsilon) * scale over the dimensions from `axis` on. ONNX
    /// RMSNormalization; Zhang and Sennrich 2019, *Root Mean Square Layer Normalization*.
    RmsNorm {
        /// The first of the dimensions that are normalised together.
        axis: i64,
        /// What is added to the mean of the squares.
        epsilon: f64,
    },
    /// dy, x `[n, c, ..]`, scale `[c]`: dx, dscale, dbias of batch normalisation as training does it, with the mean and
    /// the variance (divided by the number of elements) of this batch. Ioffe and Szegedy 2015, *Batch Normalization*.
    BatchNorm {
        /// What is added to the variance.
        epsilon: f64,
    },
    /// dy, indices: zeros of `shape`, to which each row of dy is added where [`Op::Gather`](crate::Op::Gather) along
    /// `axis` took it from. An index out of range is an error at the run. An embedding's derivative.
    Gather {
        /// The dimension that indices picked from.
        axis: i64,
        /// The shape of what they picked from.
        shape: Vec<usize>,
    },
    /// dy: summed to `shape`, which broadcasts to dy's. The derivative of broadcasting.
    SumTo {
        /// The shape of the operand that was repeated.
        shape: Vec<usize>,
    },
    /// dy `[.., out]`, x `[.., in]`, weight `[out, in]`: with `input` dx = dy W, then dW = dy^T x, then with `bias`
    /// dbias, the sum of dy over all but the last dimension. The derivatives of [`Op::Linear`](crate::Op::Linear).
    Linear {
        /// Whether dx is wanted; the data that a network starts from has none.
        input: bool,
        /// Whether there is a bias, so that its derivative is wanted.
        bias: bool,
    },
    /// dy `[n, m, o..]`, x `[n, c, i..]`, weight `[m, c / groups, k..]`: with `input` dx, then dW, then with `bias`
    /// dbias of the convolution with these attributes, in one to three spatial dimensions. ONNX Conv.
    Conv {
        /// The attributes of the convolution.
        window: Window,
        /// In how many groups channels are split.
        groups: usize,
        /// Whether dx is wanted.
        input: bool,
        /// Whether there is a bias, so that its derivative is wanted.
        bias: bool,
    },
    /// dy `[n, c, o..]`, x `[n, c, i..]`: dy goes to the first largest element of each window. ONNX MaxPool.
    MaxPool {
        /// How long a window is in each spatial dimension.
        kernel: Vec<usize>,
        /// Where windows are.
        window: Window,
    },
    /// dy `[n, c, o..]`, x: dy is shared equally by the elements of each window. ONNX AveragePool.
    AveragePool {
        /// How long a window is in each spatial dimension.
        kernel: Vec<usize>,
        /// Where windows are.
        window: Window,
        /// Whether what is padded counts when the mean is taken.
        count_include_pad: bool,
    },
    /// dy and the operands of [`Op::Attention`](crate::Op::Attention), in FP32 or FP64: dq, dk and dv, or the derivative by
    /// the one operand that has them all; the mask has none. Scores are made again, and need no memory of their size.
    /// Dao et al. 2022, *FlashAttention*.
    Attention(Attention),
    /// x: each element 0 with probability `rate`, else divided by 1 - rate. Which, `seed` and the element's place
    /// decide, the same on every backend: the derivative is the same operation on dy, and no mask is kept. Srivastava
    /// et al. 2014, *Dropout*; the places are drawn by SplitMix64 (Steele et al. 2014).
    Dropout {
        /// From 0 (included) to 1 (excluded).
        rate: f64,
        /// What decides which elements are dropped.
        seed: u64,
    },
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slope {
    /// max(x, 0); at 0 the derivative is 0.
    Relu,
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. Hendrycks and Gimpel 2016, *Gaussian Error Linear Units*.
    GeluTanh,
    /// x sigmoid(x).
    Silu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

/// Where windows lie over spatial dimensions, with one number for each; an empty list stands for all 1, and for pads
/// all 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window {
    /// From one window to the next.
    pub strides: Vec<usize>,
    /// Elements put before the first, in each dimension, then those after the last.
    pub pads: Vec<usize>,
    /// From one element of a window to the next.
    pub dilations: Vec<usize>,
    /// Whether a last window may go beyond the padded end (and is cut there), as pooling has it.
    pub ceil: bool,
}

impl Grad {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Grad::Slope(Slope::Relu) => "relu-gradient",
            Grad::Slope(Slope::Gelu) => "gelu-gradient",
            Grad::Slope(Slope::GeluTanh) => "gelu-tanh-gradient",
            Grad::Slope(Slope::Silu) => "silu-gradient",
            Grad::Slope(Slope::Sigmoid) => "sigmoid-gradient",
            Grad::Slope(Slope::Tanh) => "tanh-gradient",
            Grad::Softmax { .. } => "softmax-gradient",
            Grad::LogSoftmax { .. } => "log-softmax-gradient",
            Grad::LayerNorm { .. } => "layer-norm-gradient",
            Grad::RmsNorm { .. } => "rms-norm-gradient",
            Grad::BatchNorm { .. } => "batch-norm-gradient",
            Grad::Gather { .. } => "gather-gradient",
            Grad::SumTo { .. } => "sum-to",
            Grad::Linear { .. } => "linear-gradient",
            Grad::Conv { .. } => "conv-gradient",
            Grad::MaxPool { .. } => "max-pool-gradient",
            Grad::AveragePool { .. } => "average-pool-gradient",
            Grad::Attention(_) => "attention-gradient",
            Grad::Dropout { .. } => "dropout",
        }
    }
}
