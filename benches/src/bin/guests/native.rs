//! MiniLM on the kernels, natively, by the very operations that `plugins/minilm` asks its host for: what a guest adds is
//! what it takes longer than this.

use std::collections::BTreeMap;

use innkeeper_kernels::{Activation, Attention, Backend, Binary, Cpu, Norm, Op, OpError, Run};
use innkeeper_tensor::Tensor;

const LAYERS: usize = 6;
const HEADS: usize = 12;
const EPSILON: f64 = 1e-12;

/// The network's weights.
pub(crate) struct Native(pub(crate) BTreeMap<String, Tensor>);

/// The network in the middle of a run.
struct Step<'a> {
    weights: &'a BTreeMap<String, Tensor>,
    backend: Cpu,
    run: &'a Run<'a>,
}

impl Native {
    /// Of token ids `[rows, length]`, all of which are there.
    pub(crate) fn encode(&self, ids: &Tensor, run: &Run<'_>) -> Result<Tensor, OpError> {
        let step = Step { weights: &self.0, backend: Cpu::new(), run };
        let length = ids.shape().dims().last().map_or(0, |&length| length as i64);
        let slice = Op::Slice { axis: 0, start: 0, end: length };
        let positions = step.one(&slice, &[step.weight("positions")])?;
        let words = step.one(&Op::Gather { axis: 0 }, &[step.weight("words"), ids])?;
        let x = step.one(&Op::Binary(Binary::Add), &[&words, &positions])?;
        let mut x = step.norm("norm", x)?;
        for layer in 0..LAYERS {
            x = step.layer(&format!("layer{layer}"), x)?;
        }
        Ok(x)
    }
}

impl Step<'_> {
    fn layer(&self, name: &str, x: Tensor) -> Result<Tensor, OpError> {
        let qkv = self.linear(&format!("{name}.qkv"), &x, None, Activation::None)?;
        let attention = Op::Attention(Attention {
            heads: HEADS,
            kv_heads: HEADS,
            scale: None,
            causal: false,
            mask: false,
            packed: true,
            heads_first: false,
        });
        let mixed = self.one(&attention, &[&qkv])?;
        self.run.recycle(qkv);
        let out = self.linear(&format!("{name}.out"), &mixed, Some(&x), Activation::None)?;
        self.run.recycle(mixed);
        self.run.recycle(x);
        let x = self.norm(&format!("{name}.norm1"), out)?;
        let wide = self.linear(&format!("{name}.widen"), &x, None, Activation::Gelu)?;
        let narrow = self.linear(&format!("{name}.narrow"), &wide, Some(&x), Activation::None)?;
        self.run.recycle(wide);
        self.run.recycle(x);
        self.norm(&format!("{name}.norm2"), narrow)
    }

    fn linear(
        &self,
        name: &str,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor, OpError> {
        let op = Op::Linear { bias: true, residual: residual.is_some(), activation };
        let (weight, bias) = self.weight_and_bias(name);
        let operands: Vec<&Tensor> = [x, weight, bias].into_iter().chain(residual).collect();
        self.one(&op, &operands)
    }

    fn norm(&self, name: &str, x: Tensor) -> Result<Tensor, OpError> {
        let (residual, keep_sum) = (false, false);
        let op = Norm::Layer { axis: -1, epsilon: EPSILON, bias: true, residual, keep_sum };
        let (weight, bias) = self.weight_and_bias(name);
        let result = self.one(&Op::Norm(op), &[&x, weight, bias])?;
        self.run.recycle(x);
        Ok(result)
    }

    fn one(&self, op: &Op, operands: &[&Tensor]) -> Result<Tensor, OpError> {
        self.backend.run_one(op, operands, self.run)
    }

    fn weight(&self, name: &str) -> &Tensor {
        self.weights.get(name).expect("the weights are those of plugins/minilm")
    }

    fn weight_and_bias(&self, name: &str) -> (&Tensor, &Tensor) {
        (self.weight(&format!("{name}.weight")), self.weight(&format!("{name}.bias")))
    }
}
