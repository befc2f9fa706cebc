//! What networks are made of.
//!
//! They take FP16, BF16, FP32 and FP64 unless they say otherwise, all floating operands of one dtype.

use super::{handle, size, sizes};
use crate::host::layers;
use crate::layers::{Activation, Attention, Conv, Pool, Window};
use crate::{Result, Tensor};

pub(crate) fn window(at: &Window) -> Result<layers::Window> {
    Ok(layers::Window {
        strides: sizes(&at.strides)?,
        pads: sizes(&at.pads)?,
        dilations: sizes(&at.dilations)?,
    })
}

pub(crate) fn attention_options(attention: &Attention) -> Result<layers::AttentionOptions> {
    Ok(layers::AttentionOptions {
        heads: size(attention.heads)?,
        kv_heads: size(attention.kv_heads)?,
        scale: attention.scale,
        causal: attention.causal,
        heads_first: attention.heads_first,
    })
}

impl Tensor {
    /// activation(x W^T + bias + residual) in one pass: this is `[.., in]`, `weight` `[out, in]`, `bias` `[out]`,
    /// `residual` and the result `[.., out]`. FP32 and FP64.
    ///
    /// ```
    /// # use innkeeper_sdk::{Tensor, layers::Activation};
    /// let x = Tensor::from_slice(&[1, 2], &[1f32, 2.0])?;
    /// let weight = Tensor::from_slice(&[2, 2], &[1f32, 0.0, 0.0, -1.0])?;
    /// let y = x.linear_with(&weight, None, Some(&x), Activation::Relu)?;
    /// assert_eq!(y.to_vec::<f32>()?, [2.0, 0.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn linear_with(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        let activation = layers::activation(activation);
        let (bias, residual) = (handle(bias), handle(residual));
        Ok(Tensor(layers::linear(&self.0, &weight.0, bias, residual, activation)?))
    }

    /// (x - mean) / sqrt(variance + epsilon) * scale + bias over the dimensions from `axis` on, whose shape `scale` and
    /// `bias` have. ONNX LayerNormalization.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1, 2], &[1f32, 3.0])?;
    /// let scale = Tensor::from_slice(&[2], &[1f32, 2.0])?;
    /// assert_eq!(x.layer_norm(&scale, None, -1, 0.0)?.to_vec::<f32>()?, [-1.0, 2.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn layer_norm(
        &self,
        scale: &Tensor,
        bias: Option<&Tensor>,
        axis: i32,
        epsilon: f64,
    ) -> Result<Tensor> {
        Ok(Tensor(layers::layer_norm(&self.0, &scale.0, handle(bias), axis, epsilon)?))
    }

    /// [`layer_norm`](Tensor::layer_norm) of this plus `residual`, and that sum.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn add_layer_norm(
        &self,
        residual: &Tensor,
        scale: &Tensor,
        bias: Option<&Tensor>,
        axis: i32,
        epsilon: f64,
    ) -> Result<(Tensor, Tensor)> {
        let (x, bias) = (&self.0, handle(bias));
        let both = layers::add_layer_norm(x, &residual.0, &scale.0, bias, axis, epsilon)?;
        Ok((Tensor(both.0), Tensor(both.1)))
    }

    /// x / sqrt(mean(x^2) + epsilon) * scale over the dimensions from `axis` on. ONNX RMSNormalization.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn rms_norm(&self, scale: &Tensor, axis: i32, epsilon: f64) -> Result<Tensor> {
        Ok(Tensor(layers::rms_norm(&self.0, &scale.0, axis, epsilon)?))
    }

    /// [`rms_norm`](Tensor::rms_norm) of this plus `residual`, and that sum.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn add_rms_norm(
        &self,
        residual: &Tensor,
        scale: &Tensor,
        axis: i32,
        epsilon: f64,
    ) -> Result<(Tensor, Tensor)> {
        let both = layers::add_rms_norm(&self.0, &residual.0, &scale.0, axis, epsilon)?;
        Ok((Tensor(both.0), Tensor(both.1)))
    }

    /// (x - mean) / sqrt(variance + epsilon) * scale + bias for each channel: this is `[n, c, ..]`, the others `[c]`.
    /// ONNX BatchNormalization as it is used after training.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn batch_norm(
        &self,
        scale: &Tensor,
        bias: &Tensor,
        mean: &Tensor,
        variance: &Tensor,
        epsilon: f64,
    ) -> Result<Tensor> {
        let (scale, bias, mean, variance) = (&scale.0, &bias.0, &mean.0, &variance.0);
        Ok(Tensor(layers::batch_norm(&self.0, scale, bias, mean, variance, epsilon)?))
    }

    /// [`layer_norm`](Tensor::layer_norm) over each of `groups` groups of neighbouring channels: this is `[n, c, ..]`,
    /// `scale` and `bias` `[c]`. ONNX GroupNormalization.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn group_norm(
        &self,
        scale: &Tensor,
        bias: &Tensor,
        groups: usize,
        epsilon: f64,
    ) -> Result<Tensor> {
        let groups = size(groups)?;
        Ok(Tensor(layers::group_norm(&self.0, &scale.0, &bias.0, groups, epsilon)?))
    }

    /// x / (the sum of |x|^p along `axis`)^(1/p), 0 where that is 0; p is 1 or 2. ONNX LpNormalization.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn lp_norm(&self, axis: i32, p: u32) -> Result<Tensor> {
        Ok(Tensor(layers::lp_norm(&self.0, axis, p)?))
    }

    /// activation(x * weight + bias + residual), where * slides the weight over 1 to 3 spatial dimensions: this is
    /// `[n, c, i..]`, `weight` `[m, c / groups, k..]`, `bias` `[m]`, `residual` and the result `[n, m, o..]`. ONNX Conv.
    ///
    /// ```
    /// # use innkeeper_sdk::{Tensor, layers::Conv};
    /// let x = Tensor::from_slice(&[1, 1, 4], &[1f32, 2.0, 3.0, 4.0])?;
    /// let weight = Tensor::from_slice(&[1, 1, 2], &[1f32, 1.0])?;
    /// let y = x.conv(&weight, None, None, &Conv::default())?;
    /// assert_eq!(y.to_vec::<f32>()?, [3.0, 5.0, 7.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn conv(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        conv: &Conv,
    ) -> Result<Tensor> {
        let (at, groups) = (window(&conv.window)?, size(conv.groups)?);
        let activation = layers::activation(conv.activation);
        let (bias, residual) = (handle(bias), handle(residual));
        let y = layers::conv(&self.0, &weight.0, bias, residual, &at, groups, activation)?;
        Ok(Tensor(y))
    }

    /// What [`conv`](Tensor::conv) is the derivative of: this is `[n, c, i..]`, `weight` `[c, m / groups, k..]`, `bias`
    /// `[m]`; pads are taken off the result, and `output_pads` (none: 0) make it longer at the end. ONNX ConvTranspose.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn conv_transpose(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        at: &Window,
        output_pads: &[usize],
        groups: usize,
    ) -> Result<Tensor> {
        let (at, longer, groups) = (window(at)?, sizes(output_pads)?, size(groups)?);
        let y = layers::conv_transpose(&self.0, &weight.0, handle(bias), &at, &longer, groups)?;
        Ok(Tensor(y))
    }

    /// The largest of each window of `[n, c, i..]`, NaN if there is one; INT8 and UINT8 too. ONNX MaxPool.
    ///
    /// ```
    /// # use innkeeper_sdk::{Tensor, layers::{Pool, Window}};
    /// let x = Tensor::from_slice(&[1, 1, 4], &[1f32, 4.0, 3.0, 2.0])?;
    /// let window = Window { strides: vec![2], ..Window::default() };
    /// let pool = Pool { kernel: vec![2], window, ..Pool::default() };
    /// assert_eq!(x.max_pool(&pool)?.to_vec::<f32>()?, [4.0, 3.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn max_pool(&self, pool: &Pool) -> Result<Tensor> {
        let (kernel, at) = (sizes(&pool.kernel)?, window(&pool.window)?);
        Ok(Tensor(layers::max_pool(&self.0, &kernel, &at, pool.ceil)?))
    }

    /// [`max_pool`](Tensor::max_pool), and where each largest lies (INT64), counting from the first element; the first of
    /// several. ONNX MaxPool's second output.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn max_pool_indices(&self, pool: &Pool) -> Result<(Tensor, Tensor)> {
        let (kernel, at) = (sizes(&pool.kernel)?, window(&pool.window)?);
        let (largest, places) = layers::max_pool_indices(&self.0, &kernel, &at, pool.ceil)?;
        Ok((Tensor(largest), Tensor(places)))
    }

    /// The mean of each window; what is padded counts as zeros with `count_include_pad`, else not. ONNX AveragePool.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn average_pool(&self, pool: &Pool, count_include_pad: bool) -> Result<Tensor> {
        let (kernel, at) = (sizes(&pool.kernel)?, window(&pool.window)?);
        Ok(Tensor(layers::average_pool(&self.0, &kernel, &at, pool.ceil, count_include_pad)?))
    }

    /// (the sum of |x|^p)^(1/p) of each window. ONNX LpPool.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn lp_pool(&self, pool: &Pool, p: u32) -> Result<Tensor> {
        let (kernel, at) = (sizes(&pool.kernel)?, window(&pool.window)?);
        Ok(Tensor(layers::lp_pool(&self.0, &kernel, &at, pool.ceil, p)?))
    }

    /// softmax(scale q k^T + mask) v for each head: this is q `[b, s, heads * d]`, `k` `[b, t, kv_heads * d]`, `v`
    /// `[b, t, kv_heads * e]`; gives `[b, s, heads * e]`. A mask broadcasts to `[b, heads, s, t]` and is added, or is
    /// BOOL and says what to keep. A cache of keys and values is [`concat`](Tensor::concat) of what was and what comes.
    /// ONNX Attention.
    ///
    /// ```
    /// # use innkeeper_sdk::{Tensor, layers::Attention};
    /// let q = Tensor::from_slice(&[1, 1, 2], &[0f32, 0.0])?;
    /// let k = Tensor::from_slice(&[1, 2, 2], &[1f32, 0.0, 0.0, 1.0])?;
    /// let v = Tensor::from_slice(&[1, 2, 2], &[2f32, 0.0, 4.0, 2.0])?;
    /// let y = q.attention(&k, &v, None, &Attention::new(1))?;
    /// assert_eq!(y.to_vec::<f32>()?, [3.0, 1.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn attention(
        &self,
        k: &Tensor,
        v: &Tensor,
        mask: Option<&Tensor>,
        attention: &Attention,
    ) -> Result<Tensor> {
        let options = attention_options(attention)?;
        Ok(Tensor(layers::attention(&self.0, &k.0, &v.0, handle(mask), options)?))
    }

    /// [`attention`](Tensor::attention) where this is q, k and v joined along the last dimension.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn attention_packed(&self, mask: Option<&Tensor>, attention: &Attention) -> Result<Tensor> {
        Ok(Tensor(layers::attention_packed(&self.0, handle(mask), attention_options(attention)?)?))
    }

    /// Rotary position embedding: of each head the first `dims` elements (0: all) are pairs (x1, x2) that become
    /// (x1 cos - x2 sin, x1 sin + x2 cos); pairs are neighbours (`interleaved`), or halves. `cos` and `sin` are
    /// `[s, dims / 2]` or `[b, s, dims / 2]`, or with `positions` tables whose rows these name. ONNX RotaryEmbedding.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn rope(
        &self,
        [cos, sin]: [&Tensor; 2],
        positions: Option<&Tensor>,
        heads: usize,
        dims: usize,
        interleaved: bool,
    ) -> Result<Tensor> {
        let (heads, dims, positions) = (size(heads)?, size(dims)?, handle(positions));
        Ok(Tensor(layers::rope(&self.0, &cos.0, &sin.0, positions, heads, dims, interleaved)?))
    }
}
