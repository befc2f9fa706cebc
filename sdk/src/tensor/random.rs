//! Seeded random tensors.

use super::{size, sizes};
use crate::host::{self, random};
use crate::{DType, Result, Tensor};

/// What random numbers depend on. A guest has no other randomness than the seeds that it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// What all of a program's numbers depend on.
    pub seed: u64,
    /// Which of the seed's streams; each call that shall differ takes another.
    pub stream: u64,
}

/// # Random numbers
///
/// By Philox 4x32-10 (Salmon et al. 2011): an element depends on its key and its place alone.
impl Tensor {
    /// From `low` to `high` (excluded, but for rounding), evenly. Every floating dtype. ONNX RandomUniform.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn random_uniform(
        dtype: DType,
        shape: &[usize],
        low: f64,
        high: f64,
        key: Key,
    ) -> Result<Tensor> {
        let (dtype, shape, key) = (host::dtype(dtype), sizes(shape)?, random::key(key));
        Ok(Tensor(random::uniform(dtype, &shape, low, high, key)?))
    }

    /// Normally distributed. Every floating dtype. ONNX RandomNormal.
    ///
    /// ```
    /// # use innkeeper_sdk::{DType, Key, Tensor};
    /// let key = Key { seed: 7, stream: 0 };
    /// let x = Tensor::random_normal(DType::Fp64, &[1000], 5.0, 2.0, key)?;
    /// let again = Tensor::random_normal(DType::Fp64, &[1000], 5.0, 2.0, key)?;
    /// assert_eq!(x.to_vec::<f64>()?, again.to_vec::<f64>()?);
    /// assert!((x.mean(&[], false)?.item()? - 5.0).abs() < 0.5);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn random_normal(
        dtype: DType,
        shape: &[usize],
        mean: f64,
        deviation: f64,
        key: Key,
    ) -> Result<Tensor> {
        let (dtype, shape, key) = (host::dtype(dtype), sizes(shape)?, random::key(key));
        Ok(Tensor(random::normal(dtype, &shape, mean, deviation, key)?))
    }

    /// Integers from `low` to `high` (excluded), of an integer dtype that holds both. NumPy `integers`.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn random_integers(
        dtype: DType,
        shape: &[usize],
        low: i64,
        high: i64,
        key: Key,
    ) -> Result<Tensor> {
        let (dtype, shape, key) = (host::dtype(dtype), sizes(shape)?, random::key(key));
        Ok(Tensor(random::integers(dtype, &shape, low, high, key)?))
    }

    /// The numbers below `count` in random order, INT64 `[count]`. NumPy `permutation`.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn random_permutation(count: usize, key: Key) -> Result<Tensor> {
        Ok(Tensor(random::permutation(size(count)?, random::key(key))?))
    }

    /// 1 of `dtype` with the probability that stands in this (of a floating dtype) at an element's place, else 0. ONNX
    /// Bernoulli.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn bernoulli(&self, dtype: DType, key: Key) -> Result<Tensor> {
        Ok(Tensor(random::bernoulli(&self.0, host::dtype(dtype), random::key(key))?))
    }

    /// For each row of this `[n, classes]`, logarithms of weights, `samples` classes, each as likely as its weight in the
    /// sum: INT64 `[n, samples]`. ONNX Multinomial.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn multinomial(&self, samples: usize, key: Key) -> Result<Tensor> {
        let (dtype, samples) = (host::dtype(DType::Int64), size(samples)?);
        Ok(Tensor(random::multinomial(&self.0, dtype, samples, random::key(key))?))
    }
}
