//! Convolution.

mod plain;

pub(super) use plain::for_taps;

use innkeeper_tensor::{DType, Tensor};

use crate::cpu::dispatch::float;
use crate::cpu::{activation, create};
use crate::error::invalid;
use crate::infer::conv::Filter;
use crate::op::{Conv, ConvTranspose};
use crate::{OpError, Run};

/// Operands of a convolution.
struct Operands<'a> {
    x: &'a Tensor,
    weight: &'a Tensor,
    bias: Option<&'a Tensor>,
    residual: Option<&'a Tensor>,
}

pub(super) fn conv(conv: &Conv, inputs: &[&Tensor], run: &Run<'_>) -> Result<Tensor, OpError> {
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let (filter, shape) = Filter::of_conv(conv, &operands)?;
    let [x, weight, rest @ ..] = inputs else {
        return Err(invalid("conv", "takes operands"));
    };
    if matches!(x.dtype(), DType::Fp16 | DType::Bf16) {
        return through_fp32(inputs, |inputs| self::conv(conv, inputs, run));
    }
    let (bias, residual) = rest.split_at(usize::from(conv.bias));
    let (bias, residual) = (bias.first().copied(), residual.first().copied());
    let operands = Operands { x, weight, bias, residual };
    float!(x.dtype(), T => {
        let mut out = plain::conv::<T>(&filter, &operands, shape.elements(), run)?;
        activation::apply(conv.activation, &mut out);
        crate::cpu::memory::tensor(x.dtype(), shape, out)
    })
}

pub(super) fn transpose(
    conv: &ConvTranspose,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let (filter, shape) = Filter::of_transpose(conv, &operands)?;
    let [x, weight, bias @ ..] = inputs else {
        return Err(invalid("conv-transpose", "takes operands"));
    };
    if matches!(x.dtype(), DType::Fp16 | DType::Bf16) {
        return through_fp32(inputs, |inputs| transpose(conv, inputs, run));
    }
    float!(x.dtype(), T => {
        let bias = bias.first().copied();
        let out = plain::transpose::<T>(&filter, x, weight, bias, shape.elements(), run)?;
        crate::cpu::memory::tensor(x.dtype(), shape, out)
    })
}

/// What `compute` gives for the operands in FP32, rounded to their dtype.
pub(super) fn through_fp32(
    inputs: &[&Tensor],
    compute: impl FnOnce(&[&Tensor]) -> Result<Tensor, OpError>,
) -> Result<Tensor, OpError> {
    let wide: Vec<Tensor> =
        inputs.iter().map(|x| create::cast(x, DType::Fp32)).collect::<Result<_, _>>()?;
    let result = compute(&wide.iter().collect::<Vec<_>>())?;
    match inputs.first() {
        Some(x) => create::cast(&result, x.dtype()),
        None => Ok(result),
    }
}
