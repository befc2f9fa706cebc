//! The import `layers`: what networks are made of.

use innkeeper_kernels::{
    Activation, Attention, Conv, ConvTranspose, Norm, Op, PoolKind, Pooling, Rope, Window,
};
use wasmtime::component::Resource;

use super::{HostError, HostTensor, State};
use crate::bindings::innkeeper::model::layers as wit;

type Handle = Resource<HostTensor>;
type Answer = Result<Handle, HostError>;
type Two = Result<(Handle, Handle), HostError>;

impl State {
    fn pool(
        &mut self,
        x: &Handle,
        kind: PoolKind,
        kernel: &[u32],
        at: &wit::Window,
        ceil: bool,
    ) -> Answer {
        let kernel = sizes(kernel);
        self.run(&Op::Pool(Pooling { kind, kernel, window: window(at, ceil) }), &[x])
    }
}

pub(super) fn sizes(numbers: &[u32]) -> Vec<usize> {
    numbers.iter().map(|&number| number as usize).collect()
}

pub(super) fn window(at: &wit::Window, ceil: bool) -> Window {
    let (strides, pads) = (sizes(&at.strides), sizes(&at.pads));
    Window { strides, pads, dilations: sizes(&at.dilations), ceil }
}

pub(super) fn activation(activation: wit::Activation) -> Activation {
    match activation {
        wit::Activation::None => Activation::None,
        wit::Activation::Relu => Activation::Relu,
        wit::Activation::Gelu => Activation::Gelu,
        wit::Activation::GeluTanh => Activation::GeluTanh,
        wit::Activation::Silu => Activation::Silu,
        wit::Activation::Sigmoid => Activation::Sigmoid,
        wit::Activation::Tanh => Activation::Tanh,
        wit::Activation::HardSwish => Activation::HardSwish,
        wit::Activation::LeakyRelu(alpha) => Activation::LeakyRelu(alpha),
        wit::Activation::Clip((min, max)) => Activation::Clip { min, max },
    }
}

pub(super) fn attention(options: wit::AttentionOptions, mask: bool, packed: bool) -> Attention {
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

impl wit::Host for State {
    fn linear(
        &mut self,
        x: Handle,
        weight: Handle,
        bias: Option<Handle>,
        residual: Option<Handle>,
        apply: wit::Activation,
    ) -> Answer {
        let op = Op::Linear {
            bias: bias.is_some(),
            residual: residual.is_some(),
            activation: activation(apply),
        };
        self.run_some(&op, &[Some(&x), Some(&weight), bias.as_ref(), residual.as_ref()])
    }

    fn layer_norm(
        &mut self,
        x: Handle,
        scale: Handle,
        bias: Option<Handle>,
        axis: i32,
        epsilon: f64,
    ) -> Answer {
        let (axis, bias_there) = (axis.into(), bias.is_some());
        let (residual, keep_sum) = (false, false);
        let op = Op::Norm(Norm::Layer { axis, epsilon, bias: bias_there, residual, keep_sum });
        self.run_some(&op, &[Some(&x), Some(&scale), bias.as_ref()])
    }

    fn add_layer_norm(
        &mut self,
        x: Handle,
        residual: Handle,
        scale: Handle,
        bias: Option<Handle>,
        axis: i32,
        epsilon: f64,
    ) -> Two {
        let (axis, there) = (axis.into(), bias.is_some());
        let op =
            Op::Norm(Norm::Layer { axis, epsilon, bias: there, residual: true, keep_sum: true });
        let operands = [Some(&x), Some(&residual), Some(&scale), bias.as_ref()];
        let operands: Vec<&Handle> = operands.into_iter().flatten().collect();
        self.run_all(&op, &operands).map(|[normal, sum]| (normal, sum))
    }

    fn rms_norm(&mut self, x: Handle, scale: Handle, axis: i32, epsilon: f64) -> Answer {
        let axis = axis.into();
        let op = Op::Norm(Norm::Rms { axis, epsilon, residual: false, keep_sum: false });
        self.run(&op, &[&x, &scale])
    }

    fn add_rms_norm(
        &mut self,
        x: Handle,
        residual: Handle,
        scale: Handle,
        axis: i32,
        epsilon: f64,
    ) -> Two {
        let axis = axis.into();
        let op = Op::Norm(Norm::Rms { axis, epsilon, residual: true, keep_sum: true });
        self.run_all(&op, &[&x, &residual, &scale]).map(|[normal, sum]| (normal, sum))
    }

    fn batch_norm(
        &mut self,
        x: Handle,
        scale: Handle,
        bias: Handle,
        mean: Handle,
        variance: Handle,
        epsilon: f64,
    ) -> Answer {
        self.run(&Op::Norm(Norm::Batch { epsilon }), &[&x, &scale, &bias, &mean, &variance])
    }

    fn group_norm(
        &mut self,
        x: Handle,
        scale: Handle,
        bias: Handle,
        groups: u32,
        epsilon: f64,
    ) -> Answer {
        let groups = groups as usize;
        self.run(&Op::Norm(Norm::Group { groups, epsilon }), &[&x, &scale, &bias])
    }

    fn lp_norm(&mut self, x: Handle, axis: i32, p: u32) -> Answer {
        self.run(&Op::Norm(Norm::Lp { axis: axis.into(), p }), &[&x])
    }

    fn conv(
        &mut self,
        x: Handle,
        weight: Handle,
        bias: Option<Handle>,
        residual: Option<Handle>,
        at: wit::Window,
        groups: u32,
        apply: wit::Activation,
    ) -> Answer {
        let op = Op::Conv(Conv {
            window: window(&at, false),
            groups: groups as usize,
            bias: bias.is_some(),
            residual: residual.is_some(),
            activation: activation(apply),
        });
        self.run_some(&op, &[Some(&x), Some(&weight), bias.as_ref(), residual.as_ref()])
    }

    fn conv_transpose(
        &mut self,
        x: Handle,
        weight: Handle,
        bias: Option<Handle>,
        at: wit::Window,
        output_pads: Vec<u32>,
        groups: u32,
    ) -> Answer {
        let op = Op::ConvTranspose(ConvTranspose {
            window: window(&at, false),
            output_pads: sizes(&output_pads),
            groups: groups as usize,
            bias: bias.is_some(),
        });
        self.run_some(&op, &[Some(&x), Some(&weight), bias.as_ref()])
    }

    fn max_pool(&mut self, x: Handle, kernel: Vec<u32>, at: wit::Window, ceil: bool) -> Answer {
        self.pool(&x, PoolKind::Max { indices: false }, &kernel, &at, ceil)
    }

    fn max_pool_indices(
        &mut self,
        x: Handle,
        kernel: Vec<u32>,
        at: wit::Window,
        ceil: bool,
    ) -> Two {
        let (kind, kernel) = (PoolKind::Max { indices: true }, sizes(&kernel));
        let op = Op::Pool(Pooling { kind, kernel, window: window(&at, ceil) });
        self.run_all(&op, &[&x]).map(|[largest, places]| (largest, places))
    }

    fn average_pool(
        &mut self,
        x: Handle,
        kernel: Vec<u32>,
        at: wit::Window,
        ceil: bool,
        count_include_pad: bool,
    ) -> Answer {
        self.pool(&x, PoolKind::Average { count_include_pad }, &kernel, &at, ceil)
    }

    fn lp_pool(
        &mut self,
        x: Handle,
        kernel: Vec<u32>,
        at: wit::Window,
        ceil: bool,
        p: u32,
    ) -> Answer {
        self.pool(&x, PoolKind::Lp { p }, &kernel, &at, ceil)
    }

    fn attention(
        &mut self,
        q: Handle,
        k: Handle,
        v: Handle,
        mask: Option<Handle>,
        options: wit::AttentionOptions,
    ) -> Answer {
        let op = Op::Attention(attention(options, mask.is_some(), false));
        self.run_some(&op, &[Some(&q), Some(&k), Some(&v), mask.as_ref()])
    }

    fn attention_packed(
        &mut self,
        qkv: Handle,
        mask: Option<Handle>,
        options: wit::AttentionOptions,
    ) -> Answer {
        let op = Op::Attention(attention(options, mask.is_some(), true));
        self.run_some(&op, &[Some(&qkv), mask.as_ref()])
    }

    fn rope(
        &mut self,
        x: Handle,
        cos: Handle,
        sin: Handle,
        positions: Option<Handle>,
        heads: u32,
        dims: u32,
        interleaved: bool,
    ) -> Answer {
        let (heads, dims) = (heads as usize, dims as usize);
        let op = Op::Rope(Rope { heads, dims, interleaved, positions: positions.is_some() });
        self.run_some(&op, &[Some(&x), Some(&cos), Some(&sin), positions.as_ref()])
    }
}
