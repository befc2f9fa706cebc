//! What a product does to each element before it is written.

/// A function of one element that a product applies as it writes its result, which saves a pass over memory.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// a.
    #[default]
    None,
    /// max(a, 0), NaN for NaN. ONNX Relu.
    Relu,
    /// a * (1 + erf(a / sqrt 2)) / 2. ONNX Gelu, approximate = "none".
    Gelu,
    /// a * (1 + tanh(sqrt(2 / pi) * (a + 0.044715 a^3))) / 2. ONNX Gelu, approximate = "tanh".
    GeluTanh,
    /// a * sigmoid(a). ONNX Swish with alpha = 1.
    Silu,
    /// 1 / (1 + e^-a). ONNX Sigmoid.
    Sigmoid,
    /// The hyperbolic tangent. ONNX Tanh.
    Tanh,
    /// a * max(0, min(1, a / 6 + 1 / 2)). ONNX HardSwish.
    HardSwish,
    /// a where it is not below 0, else this times a. ONNX LeakyRelu.
    LeakyRelu(f32),
    /// The nearest number that is neither below `min` nor above `max`, NaN for NaN; `max` if they cross. ONNX Clip.
    Clip {
        /// The least result.
        min: f32,
        /// The largest result.
        max: f32,
    },
}
