//! Numbers of few bits, and products of them.

use super::{handle, size};
use crate::host::{self, layers, quantised};
use crate::layers::Activation;
use crate::{DType, Result, Tensor};

/// # Quantised numbers
///
/// A quantised x stands for (q - zero point) * scale.
impl Tensor {
    /// This (FP32) as UINT8, with the scale (FP32 `[]`) and zero point (UINT8 `[]`) by which all of it and 0 are in range.
    /// ONNX DynamicQuantizeLinear.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn dynamic_quantise(&self) -> Result<(Tensor, Tensor, Tensor)> {
        let (quantised, scale, zero_point) = quantised::dynamic_quantise(&self.0)?;
        Ok((Tensor(quantised), Tensor(scale), Tensor(zero_point)))
    }

    /// saturate(round(x / scale) + zero point), rounding halves to even: this and `scale` are FP32, the result and
    /// `zero_point` (0 when there is none) `to`, UINT8 or INT8. Scale and zero point have one element, or one for each
    /// position along `axis`. ONNX QuantizeLinear.
    ///
    /// ```
    /// # use innkeeper_sdk::{DType, Tensor};
    /// let x = Tensor::from_slice(&[3], &[-1f32, 0.5, 200.0])?;
    /// let scale = Tensor::from_slice(&[], &[0.5f32])?;
    /// let q = x.quantise(&scale, None, DType::Int8, 0)?;
    /// assert_eq!(q.to_vec::<i8>()?, [-2, 1, 127]);
    /// assert_eq!(q.dequantise(&scale, None, 0)?.to_vec::<f32>()?, [-1.0, 0.5, 63.5]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn quantise(
        &self,
        scale: &Tensor,
        zero_point: Option<&Tensor>,
        to: DType,
        axis: i32,
    ) -> Result<Tensor> {
        let (zero_point, to) = (handle(zero_point), host::dtype(to));
        Ok(Tensor(quantised::quantise(&self.0, &scale.0, zero_point, to, axis)?))
    }

    /// (x - zero point) * scale, FP32: this is UINT8, INT8 or INT32, `zero_point` of that dtype; scale and zero point as
    /// for [`quantise`](Tensor::quantise). ONNX DequantizeLinear.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn dequantise(
        &self,
        scale: &Tensor,
        zero_point: Option<&Tensor>,
        axis: i32,
    ) -> Result<Tensor> {
        Ok(Tensor(quantised::dequantise(&self.0, &scale.0, handle(zero_point), axis)?))
    }

    /// The product of this less `zero` `[.., m, k]` and `rhs` less `rhs_zero` `[k, n]`, each UINT8 or INT8: INT32
    /// `[.., m, n]`, wrapping around. A zero point has one element, or m and n. ONNX MatMulInteger.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn matmul_integer(
        &self,
        rhs: &Tensor,
        zero: Option<&Tensor>,
        rhs_zero: Option<&Tensor>,
    ) -> Result<Tensor> {
        Ok(Tensor(quantised::matmul_integer(&self.0, &rhs.0, handle(zero), handle(rhs_zero))?))
    }

    /// This weight (FP32 `[out, in]`) as [`linear8`](Tensor::linear8) takes it: INT8 of its shape and scales (FP32
    /// `[out]`), each row divided by its largest absolute value / 127.
    ///
    /// ```
    /// # use innkeeper_sdk::{Tensor, layers::Activation};
    /// let x = Tensor::from_slice(&[1, 2], &[1f32, 2.0])?;
    /// let weight = Tensor::from_slice(&[1, 2], &[0.5f32, -1.0])?;
    /// let (weight, scales) = weight.weight8()?;
    /// // It is used for every request: what the kernels make of it is kept.
    /// let weight = weight.constant()?;
    /// let y = x.linear8(&weight, &scales, None, None, Activation::None)?;
    /// assert!((y.to_vec::<f32>()?[0] + 1.5).abs() < 0.05);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn weight8(&self) -> Result<(Tensor, Tensor)> {
        let (weight, scales) = quantised::weight8(&self.0)?;
        Ok((Tensor(weight), Tensor(scales)))
    }

    /// activation(x (weight * scales)^T + bias + residual): this is FP32 `[.., in]`, `weight` INT8 `[out, in]`, `scales`
    /// and `bias` FP32 `[out]`, `residual` and the result FP32 `[.., out]`. Every row of this is quantised to 8 bits by
    /// its own range; sums are exact. Dettmers et al. 2022, *LLM.int8*, with a zero point.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn linear8(
        &self,
        weight: &Tensor,
        scales: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        let (bias, residual) = (handle(bias), handle(residual));
        let activation = layers::activation(activation);
        let y = quantised::linear8(&self.0, &weight.0, &scales.0, bias, residual, activation)?;
        Ok(Tensor(y))
    }

    /// This weight (FP32 `[out, in]`) as [`linear4`](Tensor::linear4) takes it: UINT8 `[out, in / 2]` and scales (FP32
    /// `[out, in / group]`).
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn weight4(&self, group: usize) -> Result<(Tensor, Tensor)> {
        let (weight, scales) = quantised::weight4(&self.0, size(group)?)?;
        Ok((Tensor(weight), Tensor(scales)))
    }

    /// activation(x W^T + bias + residual), where W is (weight - 8) * scale with one scale for each `group` numbers of a
    /// row: this is FP32 `[.., in]`, `weight` UINT8 `[out, in / 2]` (the even number of two in the low bits), `scales` FP32
    /// `[out, in / group]`. `group` is 16, 32, 64, 128 or 256 and divides `in`. ONNX Runtime's MatMulNBits of 4 bits.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn linear4(
        &self,
        [weight, scales]: [&Tensor; 2],
        group: usize,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        let (x, group) = (&self.0, size(group)?);
        let (bias, residual) = (handle(bias), handle(residual));
        let activation = layers::activation(activation);
        let y = quantised::linear4(x, &weight.0, &scales.0, group, bias, residual, activation)?;
        Ok(Tensor(y))
    }
}
