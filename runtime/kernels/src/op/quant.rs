//! Operations on numbers of few bits.

use innkeeper_tensor::DType;

use crate::Activation;

/// Quantised numbers, and products of them. A quantised x stands for `(q - zero point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quant {
    /// x (FP32): UINT8 of its shape, their scale (FP32 `[]`) and zero point (UINT8 `[]`), such that all of x and 0 are
    /// in range. ONNX DynamicQuantizeLinear.
    Dynamic,
    /// x (FP32), scale (FP32), with `zero_point` one of dtype `to`: `saturate(round(x / scale) + zero point)`, rounding
    /// to nearest, ties to even. Scale and zero point have one element, or one for each position along `axis`. UINT8,
    /// INT8. ONNX QuantizeLinear.
    Quantize {
        /// The dtype of the result.
        to: DType,
        /// Along which dimension scales differ.
        axis: i64,
        /// Whether there is a third operand.
        zero_point: bool,
    },
    /// x (UINT8, INT8, INT32), scale (FP32), with `zero_point` one of x's dtype: `(x - zero point) * scale`, FP32. Scale
    /// and zero point as for [`Quant::Quantize`]. ONNX DequantizeLinear.
    Dequantize {
        /// Along which dimension scales differ.
        axis: i64,
        /// Whether there is a third operand.
        zero_point: bool,
    },
    /// a `[.., m, k]` and b `[k, n]`, each UINT8 or INT8, with `a_zero` a zero point of a's dtype (one element, or m of
    /// them where a is one matrix), with `b_zero` one of b's (one element or n of them): the product of
    /// `a - zero point` and `b - zero point`, INT32 `[.., m, n]`, wrapping around. ONNX MatMulInteger.
    MatMul {
        /// Whether a's zero point is an operand.
        a_zero: bool,
        /// Whether b's zero point is an operand.
        b_zero: bool,
    },
    /// x (FP32 `[.., in]`), weight (INT8 `[out, in]`), scales (FP32 `[out]`), with `bias` then FP32 `[out]`, with
    /// `residual` then FP32 of the result's shape: activation(x (weight * scales)^T + bias + residual), FP32 `[.., out]`.
    /// Every row of x is quantised to 8 bits by its own range; sums are exact. LLM.int8's vector-wise scheme, Dettmers
    /// et al. (2022), with a zero point.
    Linear8 {
        /// Whether an operand is added to every row.
        bias: bool,
        /// Whether an operand is added element by element.
        residual: bool,
        /// What is done to each sum.
        activation: Activation,
    },
    /// x (FP32 `[.., in]`), weight (UINT8 `[out, in / 2]`: two numbers in a byte, the even one in the low four bits),
    /// scales (FP32 `[out, in / group]`), bias and residual as for [`Quant::Linear8`]: activation(x W^T + bias +
    /// residual), FP32 `[.., out]`, where W is `(weight - 8) * scale` with a scale for each group of a row. x is not
    /// quantised. ONNX Runtime's MatMulNBits of 4 bits without zero points has the same bytes.
    Linear4 {
        /// How many numbers of a row share a scale: 16, 32, 64, 128 or 256; they divide `in`.
        group: usize,
        /// Whether an operand is added to every row.
        bias: bool,
        /// Whether an operand is added element by element.
        residual: bool,
        /// What is done to each sum.
        activation: Activation,
    },
    /// weight (FP32 `[out, in]`): UINT8 `[out, in / 2]` and scales (FP32 `[out, in / group]`) as [`Quant::Linear4`] takes
    /// them: each group divided by an eighth of its number of the largest absolute value, negated, rounded to nearest.
    Weight4 {
        /// As in [`Quant::Linear4`].
        group: usize,
    },
    /// weight (FP32 `[out, in]`): INT8 of its shape and scales (FP32 `[out]`): each row divided by its largest absolute
    /// value / 127, rounded to nearest.
    Weight8,
}

impl Quant {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Quant::Dynamic => "dynamic-quantize",
            Quant::Quantize { .. } => "quantize",
            Quant::Dequantize { .. } => "dequantize",
            Quant::MatMul { .. } => "matmul-integer",
            Quant::Linear8 { .. } => "linear-int8",
            Quant::Linear4 { .. } => "linear-int4",
            Quant::Weight4 { .. } => "quantize-weight-int4",
            Quant::Weight8 => "quantize-weight-int8",
        }
    }
}
