//! Products, softmax, normalisation and attention.

use std::rc::Rc;

use super::{sizes, sum_to};
use crate::layers::Attention;
use crate::tensor::attention_options as options;
use crate::train::Var;
use crate::train::call::Backward;
use crate::train::tape::{backward, backward_one};
use crate::{Error, Result, Tensor};

impl Var {
    /// [`Tensor::matmul`] of two values of at least two dimensions each.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn matmul(&self, rhs: &Var) -> Result<Var> {
        if self.shape().len() < 2 || rhs.shape().len() < 2 {
            return Err(Error::invalid_argument(format!(
                "matmul: both sides must have two dimensions or more to be differentiated, got {:?} and {:?}; \
                 reshape a vector to a row or a column",
                self.shape(),
                rhs.shape()
            )));
        }
        let (a, b) = (self.keep(), rhs.keep());
        let wanted = [self.is_tracked(), rhs.is_tracked()];
        let shapes = [sizes(self.shape()), sizes(rhs.shape())];
        Ok(Var::result(a.matmul(&b)?, [self, rhs], move |dy| {
            let da = || sum_to(dy.matmul(&turned(&b)?)?, &shapes[0]);
            let db = || sum_to(turned(&a)?.matmul(dy)?, &shapes[1]);
            Ok([wanted[0].then(da).transpose()?, wanted[1].then(db).transpose()?])
        }))
    }

    /// [`Tensor::linear`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn linear(&self, weight: &Var, bias: Option<&Var>) -> Result<Var> {
        let (x, w) = (self.keep(), weight.keep());
        let value = x.linear(&w, bias.map(Var::value))?;
        let input = self.is_tracked();
        let call = Backward::Linear { input, bias: bias.is_some() };
        let operands = [self, weight].into_iter().chain(bias).cloned().collect();
        Ok(Var::result_of(Rc::new(value), operands, move |dy| {
            let gradients = backward(&call, &[dy, &x, &w])?.into_iter().map(Some);
            Ok((!input).then_some(None).into_iter().chain(gradients).collect())
        }))
    }

    /// [`Tensor::softmax`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn softmax(&self, axis: i32) -> Result<Var> {
        let y = Rc::new(self.value().softmax(axis)?);
        self.one(y.clone(), move |dy| backward_one(&Backward::Softmax { axis }, &[dy, &y]))
    }

    /// [`Tensor::log_softmax`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn log_softmax(&self, axis: i32) -> Result<Var> {
        let y = Rc::new(self.value().log_softmax(axis)?);
        self.one(y.clone(), move |dy| backward_one(&Backward::LogSoftmax { axis }, &[dy, &y]))
    }

    /// (x - mean) / sqrt(variance + epsilon) * scale + bias over the dimensions from `axis` on, which scale and bias
    /// have. ONNX LayerNormalization; Ba et al. 2016, *Layer Normalization*.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn layer_norm(&self, scale: &Var, bias: &Var, axis: i32, epsilon: f64) -> Result<Var> {
        let x = self.keep();
        let value = x.layer_norm(scale.value(), Some(bias.value()), axis, epsilon)?;
        let scale_value = scale.keep();
        let call = Backward::LayerNorm { axis, epsilon };
        Ok(Var::result(value, [self, scale, bias], move |dy| three(&call, dy, &x, &scale_value)))
    }

    /// x / sqrt(mean(x^2) + epsilon) * scale over the dimensions from `axis` on, which scale has. ONNX
    /// RMSNormalization; Zhang and Sennrich 2019, *Root Mean Square Layer Normalization*.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn rms_norm(&self, scale: &Var, axis: i32, epsilon: f64) -> Result<Var> {
        let x = self.keep();
        let value = x.rms_norm(scale.value(), axis, epsilon)?;
        let scale_value = scale.keep();
        let call = Backward::RmsNorm { axis, epsilon };
        Ok(Var::result(value, [self, scale], move |dy| {
            let mut results = backward(&call, &[dy, &x, &scale_value])?.into_iter();
            Ok([results.next(), results.next()])
        }))
    }

    /// Batch normalisation as training does it: x `[n, c, ..]` with the mean and variance of this batch, scale and
    /// bias `[c]`. Ioffe and Szegedy 2015, *Batch Normalization*.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn batch_norm(&self, scale: &Var, bias: &Var, epsilon: f64) -> Result<Var> {
        let x = self.keep();
        if self.shape().len() < 2 {
            return Err(Error::invalid_argument(format!(
                "batch-norm: x must be [n,c,..], got {:?}",
                self.shape()
            )));
        }
        let rank = self.shape().len() as i32;
        let axes: Vec<i32> = (0..rank).filter(|&axis| axis != 1).collect();
        let (mean, variance) = (x.mean(&axes, false)?, x.variance(&axes, false, 0)?);
        let value = x.batch_norm(scale.value(), bias.value(), &mean, &variance, epsilon)?;
        let scale_value = scale.keep();
        let call = Backward::BatchNorm { epsilon };
        Ok(Var::result(value, [self, scale, bias], move |dy| three(&call, dy, &x, &scale_value)))
    }

    /// softmax(q k^T * scale + mask) v, where this is q `[b, heads, s, d]`, k `[b, heads, t, d]`, v `[b, heads, t,
    /// dv]`; the mask is added and broadcasts to `[b, heads, s, t]`. Vaswani et al. 2017, *Attention Is All You Need*.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn attention(
        &self,
        keys: &Var,
        values: &Var,
        mask: Option<&Tensor>,
        scale: f64,
    ) -> Result<Var> {
        let heads = |var: &Var| <[usize; 4]>::try_from(var.shape()).ok().map(|[b, h, ..]| [b, h]);
        let alike = heads(self).is_some() && [keys, values].iter().all(|v| heads(v) == heads(self));
        let added = mask.is_none_or(|mask| mask.dtype() == self.value().dtype());
        match alike && added {
            true => self.attend(keys, values, mask, scale, false),
            false => self.attention_by_parts(keys, values, mask, scale),
        }
    }

    /// [`Var::attention`] in which a query sees only keys that are not after it: query i of s sees the first t - s + i + 1
    /// of t keys. Half as much work as with a mask that says so.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn causal_attention(&self, keys: &Var, values: &Var, scale: f64) -> Result<Var> {
        self.attend(keys, values, None, scale, true)
    }

    fn attend(
        &self,
        keys: &Var,
        values: &Var,
        mask: Option<&Tensor>,
        scale: f64,
        causal: bool,
    ) -> Result<Var> {
        let heads = self.shape().get(1).copied().unwrap_or(0);
        let attention =
            Attention { scale: Some(scale), causal, heads_first: true, ..Attention::new(heads) };
        let [q, k, v] = [self, keys, values].map(Var::keep);
        let mask = mask.map(Tensor::share).transpose()?;
        let value = q.attention(&k, &v, mask.as_ref(), &attention)?;
        let options = options(&attention)?;
        let call = Backward::Attention { options, mask: mask.is_some(), packed: false };
        Ok(Var::result(value, [self, keys, values], move |dy| {
            let operands: Vec<&Tensor> = [dy, &q, &k, &v].into_iter().chain(&mask).collect();
            let mut results = backward(&call, &operands)?.into_iter();
            Ok([results.next(), results.next(), results.next()])
        }))
    }

    /// [`Tensor::attention_packed`]: of q, k and v joined along the last dimension.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn attention_packed(&self, mask: Option<&Tensor>, attention: &Attention) -> Result<Var> {
        let qkv = self.keep();
        let mask = mask.map(Tensor::share).transpose()?;
        let value = qkv.attention_packed(mask.as_ref(), attention)?;
        let options = options(attention)?;
        let call = Backward::Attention { options, mask: mask.is_some(), packed: true };
        Ok(Var::result(value, [self], move |dy| {
            let operands: Vec<&Tensor> = [dy, &qkv].into_iter().chain(&mask).collect();
            Ok([Some(backward_one(&call, &operands)?)])
        }))
    }

    /// [`Var::attention`] of operands that broadcast, operation by operation.
    fn attention_by_parts(
        &self,
        keys: &Var,
        values: &Var,
        mask: Option<&Tensor>,
        scale: f64,
    ) -> Result<Var> {
        let scores = self.mul_scalar(scale)?.matmul(&keys.swap_axes(-1, -2)?)?;
        let scores = match mask {
            Some(mask) => scores.add(&Var::constant(mask.share()?))?,
            None => scores,
        };
        scores.softmax(-1)?.matmul(values)
    }
}

fn three(call: &Backward, dy: &Tensor, x: &Tensor, scale: &Tensor) -> Result<[Option<Tensor>; 3]> {
    let mut results = backward(call, &[dy, x, scale])?.into_iter();
    Ok([results.next(), results.next(), results.next()])
}

/// The last two dimensions exchanged.
fn turned(x: &Tensor) -> Result<Tensor> {
    let mut permutation: Vec<usize> = (0..x.shape().len()).collect();
    let last = permutation.len().saturating_sub(1);
    permutation.swap(last, last.saturating_sub(1));
    x.transpose(&permutation)
}
