//! MiniLM written by hand on the kernels' fused operations: what the graph executor and the guests are held against.
//!
//! Its weights are the asset of `plugins/minilm`.

use std::collections::BTreeMap;

use innkeeper_kernels::{Activation, Attention, Backend, Binary, Norm, Op, Run};
use innkeeper_tensor::{Named, Tensor};

use crate::Result;

const LAYERS: usize = 6;
const HEADS: usize = 12;
const EPSILON: f64 = 1e-12;

pub(crate) struct MiniLm {
    weights: BTreeMap<String, Tensor>,
}

/// The network in the middle of a run.
struct Step<'a> {
    weights: &'a BTreeMap<String, Tensor>,
    backend: &'a dyn Backend,
    run: &'a Run<'a>,
}

impl MiniLm {
    pub(crate) fn new(weights: BTreeMap<String, Tensor>) -> MiniLm {
        let constant = |(name, tensor): (String, Tensor)| (name, tensor.constant());
        MiniLm { weights: weights.into_iter().map(constant).collect() }
    }

    /// Of `input_ids`, without a mask: all tokens are there.
    pub(crate) fn run(
        &self,
        backend: &dyn Backend,
        inputs: &[Named],
        run: &Run<'_>,
    ) -> Result<Vec<Named>> {
        let ids = inputs.iter().find(|input| &*input.name == "input_ids");
        let ids = &ids.ok_or("input_ids are missing")?.tensor;
        let step = Step { weights: &self.weights, backend, run };
        let length = *ids.shape().dims().last().ok_or("input_ids have no length")? as i64;
        let positions = Op::Slice { axis: 0, start: 0, end: length };
        let positions = step.one(&positions, &[step.weight("positions")?])?;
        let words = step.one(&Op::Gather { axis: 0 }, &[step.weight("words")?, ids])?;
        let x = step.one(&Op::Binary(Binary::Add), &[&words, &positions])?;
        let mut x = step.norm("norm", x, None)?;
        for layer in 0..LAYERS {
            x = step.layer(&format!("layer{layer}"), x)?;
        }
        Ok(vec![Named { name: "last_hidden_state".into(), tensor: x }])
    }
}

impl Step<'_> {
    fn layer(&self, name: &str, x: Tensor) -> Result<Tensor> {
        let qkv = self.linear(&format!("{name}.qkv"), &x, Activation::None)?;
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
        let out = self.linear(&format!("{name}.out"), &mixed, Activation::None)?;
        self.run.recycle(mixed);
        let x = self.norm(&format!("{name}.norm1"), out, Some(x))?;
        let wide = self.linear(&format!("{name}.widen"), &x, Activation::Gelu)?;
        let narrow = self.linear(&format!("{name}.narrow"), &wide, Activation::None)?;
        self.run.recycle(wide);
        self.norm(&format!("{name}.norm2"), narrow, Some(x))
    }

    fn linear(&self, name: &str, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let op = Op::Linear { bias: true, residual: false, activation };
        let (weight, bias) = self.weight_and_bias(name)?;
        self.one(&op, &[x, weight, bias])
    }

    fn norm(&self, name: &str, x: Tensor, residual: Option<Tensor>) -> Result<Tensor> {
        let norm = Norm::Layer {
            axis: -1,
            epsilon: EPSILON,
            bias: true,
            residual: residual.is_some(),
            keep_sum: false,
        };
        let (weight, bias) = self.weight_and_bias(name)?;
        let operands = [Some(&x), residual.as_ref(), Some(weight), Some(bias)];
        let operands: Vec<&Tensor> = operands.into_iter().flatten().collect();
        let result = self.one(&Op::Norm(norm), &operands)?;
        for gone in [Some(x), residual].into_iter().flatten() {
            self.run.recycle(gone);
        }
        Ok(result)
    }

    fn one(&self, op: &Op, operands: &[&Tensor]) -> Result<Tensor> {
        Ok(self.backend.run_one(op, operands, self.run)?)
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        Ok(self.weights.get(name).ok_or_else(|| format!("the weights have no {name}"))?)
    }

    fn weight_and_bias(&self, name: &str) -> Result<(&Tensor, &Tensor)> {
        Ok((self.weight(&format!("{name}.weight"))?, self.weight(&format!("{name}.bias"))?))
    }
}
