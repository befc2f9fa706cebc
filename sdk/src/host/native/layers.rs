//! Layers: the functions that wit-bindgen makes of the interface `layers`, on the kernels.

use innkeeper_kernels::{Attention, Conv, ConvTranspose, Norm, Op, PoolKind, Pooling, Rope};

pub(crate) use innkeeper_kernels::Activation;

use super::Handle;
use super::handle::{run, run_many, sizes};
use crate::{Result, layers};

type Two = (Handle, Handle);

/// As in the contract.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) strides: Vec<u32>,
    pub(crate) pads: Vec<u32>,
    pub(crate) dilations: Vec<u32>,
}

/// As in the contract.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionOptions {
    pub(crate) heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) scale: Option<f64>,
    pub(crate) causal: bool,
    pub(crate) heads_first: bool,
}

pub(crate) fn activation(activation: layers::Activation) -> Activation {
    match activation {
        layers::Activation::None => Activation::None,
        layers::Activation::Relu => Activation::Relu,
        layers::Activation::Gelu => Activation::Gelu,
        layers::Activation::GeluTanh => Activation::GeluTanh,
        layers::Activation::Silu => Activation::Silu,
        layers::Activation::Sigmoid => Activation::Sigmoid,
        layers::Activation::Tanh => Activation::Tanh,
        layers::Activation::HardSwish => Activation::HardSwish,
        layers::Activation::LeakyRelu(alpha) => Activation::LeakyRelu(alpha),
        layers::Activation::Clip { min, max } => Activation::Clip { min, max },
    }
}

pub(super) fn window(at: &Window, ceil: bool) -> innkeeper_kernels::Window {
    let (strides, pads) = (sizes(&at.strides), sizes(&at.pads));
    innkeeper_kernels::Window { strides, pads, dilations: sizes(&at.dilations), ceil }
}

pub(super) fn some(operands: &[Option<&Handle>], op: Op) -> Result<Handle> {
    run(op, &operands.iter().copied().flatten().collect::<Vec<_>>())
}

pub(super) fn two(operands: &[Option<&Handle>], op: Op) -> Result<Two> {
    let mut results = run_many(op, &operands.iter().copied().flatten().collect::<Vec<_>>())?;
    match (results.pop(), results.pop()) {
        (Some(second), Some(first)) => Ok((first, second)),
        _ => Err(crate::Error::Internal("an operation has two results".into())),
    }
}

pub(crate) fn linear(
    x: &Handle,
    weight: &Handle,
    bias: Option<&Handle>,
    residual: Option<&Handle>,
    activation: Activation,
) -> Result<Handle> {
    let op = Op::Linear { bias: bias.is_some(), residual: residual.is_some(), activation };
    some(&[Some(x), Some(weight), bias, residual], op)
}

pub(crate) fn layer_norm(
    x: &Handle,
    scale: &Handle,
    bias: Option<&Handle>,
    axis: i32,
    epsilon: f64,
) -> Result<Handle> {
    let (axis, there) = (axis.into(), bias.is_some());
    let norm = Norm::Layer { axis, epsilon, bias: there, residual: false, keep_sum: false };
    some(&[Some(x), Some(scale), bias], Op::Norm(norm))
}

pub(crate) fn add_layer_norm(
    x: &Handle,
    residual: &Handle,
    scale: &Handle,
    bias: Option<&Handle>,
    axis: i32,
    epsilon: f64,
) -> Result<Two> {
    let (axis, there) = (axis.into(), bias.is_some());
    let norm = Norm::Layer { axis, epsilon, bias: there, residual: true, keep_sum: true };
    two(&[Some(x), Some(residual), Some(scale), bias], Op::Norm(norm))
}

pub(crate) fn rms_norm(x: &Handle, scale: &Handle, axis: i32, epsilon: f64) -> Result<Handle> {
    let axis = axis.into();
    run(Op::Norm(Norm::Rms { axis, epsilon, residual: false, keep_sum: false }), &[x, scale])
}

pub(crate) fn add_rms_norm(
    x: &Handle,
    residual: &Handle,
    scale: &Handle,
    axis: i32,
    epsilon: f64,
) -> Result<Two> {
    let axis = axis.into();
    let norm = Norm::Rms { axis, epsilon, residual: true, keep_sum: true };
    two(&[Some(x), Some(residual), Some(scale)], Op::Norm(norm))
}

pub(crate) fn batch_norm(
    x: &Handle,
    scale: &Handle,
    bias: &Handle,
    mean: &Handle,
    variance: &Handle,
    epsilon: f64,
) -> Result<Handle> {
    run(Op::Norm(Norm::Batch { epsilon }), &[x, scale, bias, mean, variance])
}

pub(crate) fn group_norm(
    x: &Handle,
    scale: &Handle,
    bias: &Handle,
    groups: u32,
    epsilon: f64,
) -> Result<Handle> {
    run(Op::Norm(Norm::Group { groups: groups as usize, epsilon }), &[x, scale, bias])
}

pub(crate) fn lp_norm(x: &Handle, axis: i32, p: u32) -> Result<Handle> {
    run(Op::Norm(Norm::Lp { axis: axis.into(), p }), &[x])
}

pub(crate) fn conv(
    x: &Handle,
    weight: &Handle,
    bias: Option<&Handle>,
    residual: Option<&Handle>,
    at: &Window,
    groups: u32,
    activation: Activation,
) -> Result<Handle> {
    let op = Op::Conv(Conv {
        window: window(at, false),
        groups: groups as usize,
        bias: bias.is_some(),
        residual: residual.is_some(),
        activation,
    });
    some(&[Some(x), Some(weight), bias, residual], op)
}

pub(crate) fn conv_transpose(
    x: &Handle,
    weight: &Handle,
    bias: Option<&Handle>,
    at: &Window,
    output_pads: &[u32],
    groups: u32,
) -> Result<Handle> {
    let op = Op::ConvTranspose(ConvTranspose {
        window: window(at, false),
        output_pads: sizes(output_pads),
        groups: groups as usize,
        bias: bias.is_some(),
    });
    some(&[Some(x), Some(weight), bias], op)
}

fn pool(x: &Handle, kind: PoolKind, kernel: &[u32], at: &Window, ceil: bool) -> Result<Handle> {
    run(Op::Pool(Pooling { kind, kernel: sizes(kernel), window: window(at, ceil) }), &[x])
}

pub(crate) fn max_pool(x: &Handle, kernel: &[u32], at: &Window, ceil: bool) -> Result<Handle> {
    pool(x, PoolKind::Max { indices: false }, kernel, at, ceil)
}

pub(crate) fn max_pool_indices(x: &Handle, kernel: &[u32], at: &Window, ceil: bool) -> Result<Two> {
    let (kind, kernel) = (PoolKind::Max { indices: true }, sizes(kernel));
    two(&[Some(x)], Op::Pool(Pooling { kind, kernel, window: window(at, ceil) }))
}

pub(crate) fn average_pool(
    x: &Handle,
    kernel: &[u32],
    at: &Window,
    ceil: bool,
    count_include_pad: bool,
) -> Result<Handle> {
    pool(x, PoolKind::Average { count_include_pad }, kernel, at, ceil)
}

pub(crate) fn lp_pool(
    x: &Handle,
    kernel: &[u32],
    at: &Window,
    ceil: bool,
    p: u32,
) -> Result<Handle> {
    pool(x, PoolKind::Lp { p }, kernel, at, ceil)
}

pub(super) fn attention_of(options: AttentionOptions, mask: bool, packed: bool) -> Attention {
    Attention {
        heads: options.heads as usize,
        kv_heads: options.kv_heads as usize,
        scale: options.scale,
        causal: options.causal,
        mask,
        packed,
        heads_first: options.heads_first,
    }
}

pub(crate) fn attention(
    q: &Handle,
    k: &Handle,
    v: &Handle,
    mask: Option<&Handle>,
    options: AttentionOptions,
) -> Result<Handle> {
    let op = Op::Attention(attention_of(options, mask.is_some(), false));
    some(&[Some(q), Some(k), Some(v), mask], op)
}

pub(crate) fn attention_packed(
    qkv: &Handle,
    mask: Option<&Handle>,
    options: AttentionOptions,
) -> Result<Handle> {
    some(&[Some(qkv), mask], Op::Attention(attention_of(options, mask.is_some(), true)))
}

pub(crate) fn rope(
    x: &Handle,
    cos: &Handle,
    sin: &Handle,
    positions: Option<&Handle>,
    heads: u32,
    dims: u32,
    interleaved: bool,
) -> Result<Handle> {
    let (heads, dims) = (heads as usize, dims as usize);
    let op = Op::Rope(Rope { heads, dims, interleaved, positions: positions.is_some() });
    some(&[Some(x), Some(cos), Some(sin), positions], op)
}
