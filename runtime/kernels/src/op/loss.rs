//! What training minimises.

/// A loss, with the gradient that its backward pass starts from.
///
/// The result is a scalar `[]`; with `gradient` a second result, of the prediction's shape, is the scalar's derivative
/// by the prediction: working it out along the way costs one pass instead of three. FP32, FP64; sums are accumulated
/// in FP64 and rounded once. Of no elements (or no label that counts) the mean is NaN, and the gradient 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// What is worked out for each element.
    pub of: LossOf,
    /// How the elements become one number.
    pub reduction: Reduction,
    /// Whether the derivative by the first operand is a second result.
    pub gradient: bool,
}

/// What a loss works out for each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LossOf {
    /// prediction, target of the same shape: (prediction - target)^2. PyTorch's `mse_loss`.
    MeanSquaredError,
    /// logits `[.., classes]`, labels `[..]` (INT32 or INT64, 0 to classes - 1): -ln softmax(logits)\[label\], the
    /// sparse categorical cross-entropy, computed without overflow. With `smoothing` s the label weighs 1 - s, and s is
    /// spread over all classes (Szegedy et al. 2016, *Rethinking the Inception Architecture*, section 7). The mean is
    /// over the labels that count. A label out of range is an error at the run. PyTorch's `cross_entropy`, with the
    /// classes last; ONNX SoftmaxCrossEntropyLoss.
    CrossEntropy {
        /// A label that is passed over: it costs nothing, and its gradient is 0.
        ignore: Option<i64>,
        /// How much of the weight is spread over all classes, from 0 to 1.
        smoothing: f64,
    },
    /// logits, targets (from 0 to 1) of the same shape: max(x, 0) - x t + ln(1 + e^-|x|), which is
    /// -t ln sigmoid(x) - (1 - t) ln(1 - sigmoid(x)). PyTorch's `binary_cross_entropy_with_logits`.
    BinaryCrossEntropy,
}

/// How the elements of a loss become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
}

impl Loss {
    pub(crate) fn name(&self) -> &'static str {
        match self.of {
            LossOf::MeanSquaredError => "mse",
            LossOf::CrossEntropy { .. } => "cross-entropy",
            LossOf::BinaryCrossEntropy => "binary-cross-entropy",
        }
    }
}
