//! The import `random`: seeded random tensors.

use innkeeper_kernels::{Draw, Op, Random};
use wasmtime::component::Resource;

use super::layers::sizes;
use super::{HostError, HostTensor, State, dtype_from_wit};
use crate::bindings::innkeeper::model::random::{self, Key};
use crate::bindings::innkeeper::model::types::Dtype;

type Handle = Resource<HostTensor>;
type Answer = Result<Handle, HostError>;

impl State {
    fn draw(&mut self, draw: Draw, key: Key, operands: &[&Handle]) -> Answer {
        self.run(&Op::Random(Random { seed: key.seed, stream: key.stream, draw }), operands)
    }
}

impl random::Host for State {
    fn uniform(&mut self, dtype: Dtype, shape: Vec<u32>, low: f64, high: f64, key: Key) -> Answer {
        let (dtype, shape) = (dtype_from_wit(dtype), sizes(&shape));
        self.draw(Draw::Uniform { dtype, shape, low, high }, key, &[])
    }

    fn normal(
        &mut self,
        dtype: Dtype,
        shape: Vec<u32>,
        mean: f64,
        deviation: f64,
        key: Key,
    ) -> Answer {
        let (dtype, shape) = (dtype_from_wit(dtype), sizes(&shape));
        self.draw(Draw::Normal { dtype, shape, mean, deviation }, key, &[])
    }

    fn integers(&mut self, dtype: Dtype, shape: Vec<u32>, low: i64, high: i64, key: Key) -> Answer {
        let (dtype, shape) = (dtype_from_wit(dtype), sizes(&shape));
        self.draw(Draw::Integers { dtype, shape, low, high }, key, &[])
    }

    fn bernoulli(&mut self, probabilities: Handle, dtype: Dtype, key: Key) -> Answer {
        self.draw(Draw::Bernoulli { dtype: dtype_from_wit(dtype) }, key, &[&probabilities])
    }

    fn permutation(&mut self, count: u32, key: Key) -> Answer {
        self.draw(Draw::Permutation { count: count as usize }, key, &[])
    }

    fn multinomial(&mut self, logits: Handle, dtype: Dtype, samples: u32, key: Key) -> Answer {
        let (dtype, samples) = (dtype_from_wit(dtype), samples as usize);
        self.draw(Draw::Multinomial { dtype, samples }, key, &[&logits])
    }
}
