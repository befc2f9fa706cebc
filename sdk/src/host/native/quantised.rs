//! The functions that wit-bindgen makes of the interface `quantised`, on the kernels.

use innkeeper_kernels::{Activation, Op, Quant};

use super::Handle;
use super::handle::run_many;
use super::layers::{some, two};
use crate::{DType, Error, Result};

pub(crate) fn dynamic_quantise(x: &Handle) -> Result<(Handle, Handle, Handle)> {
    let three = <[Handle; 3]>::try_from(run_many(Op::Quant(Quant::Dynamic), &[x])?);
    let three = three.map_err(|_| Error::Internal("dynamic-quantise has three results".into()))?;
    Ok(three.into())
}

pub(crate) fn quantise(
    x: &Handle,
    scale: &Handle,
    zero: Option<&Handle>,
    to: DType,
    axis: i32,
) -> Result<Handle> {
    let op = Quant::Quantize { to, axis: axis.into(), zero_point: zero.is_some() };
    some(&[Some(x), Some(scale), zero], Op::Quant(op))
}

pub(crate) fn dequantise(
    x: &Handle,
    scale: &Handle,
    zero: Option<&Handle>,
    axis: i32,
) -> Result<Handle> {
    let op = Quant::Dequantize { axis: axis.into(), zero_point: zero.is_some() };
    some(&[Some(x), Some(scale), zero], Op::Quant(op))
}

pub(crate) fn matmul_integer(
    a: &Handle,
    b: &Handle,
    a_zero: Option<&Handle>,
    b_zero: Option<&Handle>,
) -> Result<Handle> {
    let op = Quant::MatMul { a_zero: a_zero.is_some(), b_zero: b_zero.is_some() };
    some(&[Some(a), Some(b), a_zero, b_zero], Op::Quant(op))
}

pub(crate) fn weight8(weight: &Handle) -> Result<(Handle, Handle)> {
    two(&[Some(weight)], Op::Quant(Quant::Weight8))
}

pub(crate) fn linear8(
    x: &Handle,
    weight: &Handle,
    scales: &Handle,
    bias: Option<&Handle>,
    residual: Option<&Handle>,
    activation: Activation,
) -> Result<Handle> {
    let op = Quant::Linear8 { bias: bias.is_some(), residual: residual.is_some(), activation };
    some(&[Some(x), Some(weight), Some(scales), bias, residual], Op::Quant(op))
}

pub(crate) fn weight4(weight: &Handle, group: u32) -> Result<(Handle, Handle)> {
    two(&[Some(weight)], Op::Quant(Quant::Weight4 { group: group as usize }))
}

pub(crate) fn linear4(
    x: &Handle,
    weight: &Handle,
    scales: &Handle,
    group: u32,
    bias: Option<&Handle>,
    residual: Option<&Handle>,
    activation: Activation,
) -> Result<Handle> {
    let (group, there) = (group as usize, [bias.is_some(), residual.is_some()]);
    let op = Quant::Linear4 { group, bias: there[0], residual: there[1], activation };
    some(&[Some(x), Some(weight), Some(scales), bias, residual], Op::Quant(op))
}
