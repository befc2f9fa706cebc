//! The functions that wit-bindgen makes of the interface `random`, on the kernels.

use innkeeper_kernels::{Draw, Op, Random};

pub(crate) use crate::tensor::Key;

use super::Handle;
use super::handle::{run, sizes};
use crate::{DType, Result};

/// The contract's key is this crate's.
pub(crate) fn key(key: Key) -> Key {
    key
}

fn draw(draw: Draw, key: Key, operands: &[&Handle]) -> Result<Handle> {
    run(Op::Random(Random { seed: key.seed, stream: key.stream, draw }), operands)
}

pub(crate) fn uniform(
    dtype: DType,
    shape: &[u32],
    low: f64,
    high: f64,
    key: Key,
) -> Result<Handle> {
    draw(Draw::Uniform { dtype, shape: sizes(shape), low, high }, key, &[])
}

pub(crate) fn normal(
    dtype: DType,
    shape: &[u32],
    mean: f64,
    deviation: f64,
    key: Key,
) -> Result<Handle> {
    draw(Draw::Normal { dtype, shape: sizes(shape), mean, deviation }, key, &[])
}

pub(crate) fn integers(
    dtype: DType,
    shape: &[u32],
    low: i64,
    high: i64,
    key: Key,
) -> Result<Handle> {
    draw(Draw::Integers { dtype, shape: sizes(shape), low, high }, key, &[])
}

pub(crate) fn bernoulli(probabilities: &Handle, dtype: DType, key: Key) -> Result<Handle> {
    draw(Draw::Bernoulli { dtype }, key, &[probabilities])
}

pub(crate) fn permutation(count: u32, key: Key) -> Result<Handle> {
    draw(Draw::Permutation { count: count as usize }, key, &[])
}

pub(crate) fn multinomial(logits: &Handle, dtype: DType, samples: u32, key: Key) -> Result<Handle> {
    draw(Draw::Multinomial { dtype, samples: samples as usize }, key, &[logits])
}
