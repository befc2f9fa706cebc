//! The import `quantised`: numbers of few bits.

use innkeeper_kernels::{Op, Quant};
use wasmtime::component::Resource;

use super::layers::activation;
use super::{HostError, HostTensor, State, dtype_from_wit};
use crate::bindings::innkeeper::model::layers::Activation;
use crate::bindings::innkeeper::model::quantised;
use crate::bindings::innkeeper::model::types::Dtype;

type Handle = Resource<HostTensor>;
type Answer = Result<Handle, HostError>;

impl quantised::Host for State {
    fn dynamic_quantise(&mut self, x: Handle) -> Result<(Handle, Handle, Handle), HostError> {
        self.run_all(&Op::Quant(Quant::Dynamic), &[&x]).map(|[q, scale, zero]| (q, scale, zero))
    }

    fn quantise(
        &mut self,
        x: Handle,
        scale: Handle,
        zero: Option<Handle>,
        to: Dtype,
        axis: i32,
    ) -> Answer {
        let (to, axis, zero_point) = (dtype_from_wit(to), axis.into(), zero.is_some());
        let op = Op::Quant(Quant::Quantize { to, axis, zero_point });
        self.run_some(&op, &[Some(&x), Some(&scale), zero.as_ref()])
    }

    fn dequantise(&mut self, x: Handle, scale: Handle, zero: Option<Handle>, axis: i32) -> Answer {
        let op = Op::Quant(Quant::Dequantize { axis: axis.into(), zero_point: zero.is_some() });
        self.run_some(&op, &[Some(&x), Some(&scale), zero.as_ref()])
    }

    fn matmul_integer(
        &mut self,
        a: Handle,
        b: Handle,
        a_zero: Option<Handle>,
        b_zero: Option<Handle>,
    ) -> Answer {
        let op = Quant::MatMul { a_zero: a_zero.is_some(), b_zero: b_zero.is_some() };
        self.run_some(&Op::Quant(op), &[Some(&a), Some(&b), a_zero.as_ref(), b_zero.as_ref()])
    }

    fn weight8(&mut self, weight: Handle) -> Result<(Handle, Handle), HostError> {
        self.run_all(&Op::Quant(Quant::Weight8), &[&weight]).map(|[q, scales]| (q, scales))
    }

    fn linear8(
        &mut self,
        x: Handle,
        weight: Handle,
        scales: Handle,
        bias: Option<Handle>,
        residual: Option<Handle>,
        apply: Activation,
    ) -> Answer {
        let op = Op::Quant(Quant::Linear8 {
            bias: bias.is_some(),
            residual: residual.is_some(),
            activation: activation(apply),
        });
        let added = [bias.as_ref(), residual.as_ref()];
        self.run_some(&op, &[Some(&x), Some(&weight), Some(&scales), added[0], added[1]])
    }

    fn weight4(&mut self, weight: Handle, group: u32) -> Result<(Handle, Handle), HostError> {
        let op = Op::Quant(Quant::Weight4 { group: group as usize });
        self.run_all(&op, &[&weight]).map(|[q, scales]| (q, scales))
    }

    fn linear4(
        &mut self,
        x: Handle,
        weight: Handle,
        scales: Handle,
        group: u32,
        bias: Option<Handle>,
        residual: Option<Handle>,
        apply: Activation,
    ) -> Answer {
        let op = Op::Quant(Quant::Linear4 {
            group: group as usize,
            bias: bias.is_some(),
            residual: residual.is_some(),
            activation: activation(apply),
        });
        let added = [bias.as_ref(), residual.as_ref()];
        self.run_some(&op, &[Some(&x), Some(&weight), Some(&scales), added[0], added[1]])
    }
}
