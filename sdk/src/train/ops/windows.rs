//! Convolution and pooling.

use std::rc::Rc;

use super::sizes;
use crate::layers::{Activation, Conv, Pool};
use crate::tensor::{size, window};
use crate::train::Var;
use crate::train::call::Backward;
use crate::train::tape::{backward, backward_one};
use crate::{Error, Result};

impl Var {
    /// [`Tensor::conv`](crate::Tensor::conv) without a residual; an activation is an operation of its own here.
    ///
    /// # Errors
    /// See [`Tensor`](crate::Tensor); [`Error::InvalidArgument`] for an activation.
    pub fn conv(&self, weight: &Var, bias: Option<&Var>, conv: &Conv) -> Result<Var> {
        if conv.activation != Activation::None {
            return Err(Error::invalid_argument(
                "conv: an activation is not differentiated with it; apply it to the result",
            ));
        }
        let (x, w) = (self.keep(), weight.keep());
        let value = x.conv(&w, bias.map(Var::value), None, conv)?;
        let input = self.is_tracked();
        let (window, groups) = (window(&conv.window)?, size(conv.groups)?);
        let call = Backward::Conv { window, groups, input, bias: bias.is_some() };
        let operands = [self, weight].into_iter().chain(bias).cloned().collect();
        Ok(Var::result_of(Rc::new(value), operands, move |dy| {
            let gradients = backward(&call, &[dy, &x, &w])?.into_iter().map(Some);
            Ok((!input).then_some(None).into_iter().chain(gradients).collect())
        }))
    }

    /// [`Tensor::max_pool`](crate::Tensor::max_pool).
    ///
    /// # Errors
    /// See [`Tensor`](crate::Tensor).
    pub fn max_pool(&self, pool: &Pool) -> Result<Var> {
        let x = self.keep();
        let value = x.max_pool(pool)?;
        let (kernel, window) = (self.kernel(pool), window(&pool.window)?);
        let call = Backward::MaxPool { kernel, window, ceil: pool.ceil };
        self.one(value, move |dy| backward_one(&call, &[dy, &x]))
    }

    /// [`Tensor::average_pool`](crate::Tensor::average_pool).
    ///
    /// # Errors
    /// See [`Tensor`](crate::Tensor).
    pub fn average_pool(&self, pool: &Pool, count_include_pad: bool) -> Result<Var> {
        let x = self.keep();
        let value = x.average_pool(pool, count_include_pad)?;
        let (kernel, window) = (self.kernel(pool), window(&pool.window)?);
        let call = Backward::AveragePool { kernel, window, ceil: pool.ceil, count_include_pad };
        self.one(value, move |dy| backward_one(&call, &[dy, &x]))
    }

    /// How long windows are: as long as everything where the pool does not say it.
    fn kernel(&self, pool: &Pool) -> Vec<u32> {
        let all = self.shape().get(2..).unwrap_or_default();
        sizes(if pool.kernel.is_empty() { all } else { &pool.kernel })
    }
}
