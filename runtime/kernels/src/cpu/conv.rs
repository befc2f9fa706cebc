//! Convolution.

mod depthwise;
mod plain;
mod planes;
mod windows;

pub(super) use plain::for_taps;

use innkeeper_tensor::{DType, Shape, Tensor};

use crate::cpu::dispatch::float;
use crate::cpu::memory::{elements, tensor};
use crate::cpu::{activation, create};
use crate::error::invalid;
use crate::infer::conv::Filter;
use crate::op::{Conv, ConvTranspose};
use crate::{OpError, Run};
use depthwise::Depthwise;
use planes::Layout;
use windows::Product;

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
        return through_fp32(inputs, run, |inputs| self::conv(conv, inputs, run));
    }
    let (bias, residual) = rest.split_at(usize::from(conv.bias));
    let (bias, residual) = (bias.first().copied(), residual.first().copied());
    let operands = Operands { x, weight, bias, residual };
    let some = filter.depth > 0 && filter.slide.plane() > 0;
    if let (DType::Fp32, true, Some(layout)) = (x.dtype(), some, Layout::new(&filter.slide)) {
        return fp32(conv, &filter, layout, &operands, shape, run);
    }
    float!(x.dtype(), T => {
        let mut out = plain::conv::<T>(&filter, &operands, shape.elements(), run)?;
        activation::apply(conv.activation, &mut out);
        tensor(x.dtype(), shape, out)
    })
}

fn fp32(
    conv: &Conv,
    filter: &Filter,
    layout: Layout,
    operands: &Operands<'_>,
    shape: Shape,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let (x, weight) = (&*elements::<f32>(operands.x)?, &*elements::<f32>(operands.weight)?);
    let bias = operands.bias.map(elements::<f32>).transpose()?;
    let residual = operands.residual.map(elements::<f32>).transpose()?;
    let (bias, residual) = (bias.as_deref(), residual.as_deref());
    let activation = conv.activation;
    let mut out = run.scratch::<f32>(shape.elements())?;
    if out.is_empty() {
        return tensor(DType::Fp32, shape, out);
    }
    if filter.depth == 1 {
        Depthwise { filter, layout, x, weight, bias, residual, activation }.run(run, &mut out)?;
    } else {
        Product { filter, layout, x, weight, bias, residual, activation }.run(run, &mut out)?;
    }
    tensor(DType::Fp32, shape, out)
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
        return through_fp32(inputs, run, |inputs| transpose(conv, inputs, run));
    }
    float!(x.dtype(), T => {
        let bias = bias.first().copied();
        let out = plain::transpose::<T>(&filter, x, weight, bias, shape.elements(), run)?;
        tensor(x.dtype(), shape, out)
    })
}

/// What `compute` gives for the operands in FP32, rounded to their dtype.
pub(super) fn through_fp32(
    inputs: &[&Tensor],
    run: &Run<'_>,
    compute: impl FnOnce(&[&Tensor]) -> Result<Tensor, OpError>,
) -> Result<Tensor, OpError> {
    let wide: Vec<Tensor> =
        inputs.iter().map(|x| create::cast(x, DType::Fp32, run)).collect::<Result<_, _>>()?;
    let result = compute(&wide.iter().collect::<Vec<_>>())?;
    match inputs.first() {
        Some(x) => create::cast(&result, x.dtype(), run),
        None => Ok(result),
    }
}
