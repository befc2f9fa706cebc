//! The same elements in other places.

use std::rc::Rc;

use super::sizes;
use crate::train::Var;
use crate::train::call::Backward;
use crate::train::tape::backward_one;
use crate::{Error, Result, Tensor};

impl Var {
    /// [`Tensor::reshape`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn reshape(&self, shape: &[i64]) -> Result<Var> {
        let back: Vec<i64> = self.shape().iter().map(|&size| size as i64).collect();
        self.one(self.value().reshape(shape)?, move |dy| dy.reshape(&back))
    }

    /// [`Tensor::transpose`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn transpose(&self, permutation: &[usize]) -> Result<Var> {
        let value = self.value().transpose(permutation)?;
        let mut back = vec![0; permutation.len()];
        for (to, &from) in permutation.iter().enumerate() {
            back[from] = to;
        }
        self.one(value, move |dy| dy.transpose(&back))
    }

    /// [`Tensor::slice`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn slice(&self, axis: i32, start: i64, end: i64) -> Result<Var> {
        let value = self.value().slice(axis, start, end)?;
        let shape = self.shape().to_vec();
        let index = if axis < 0 { axis + shape.len() as i32 } else { axis } as usize;
        let size = shape[index] as i64;
        let from_start = |at: i64| if at < 0 { at.saturating_add(size) } else { at }.clamp(0, size);
        let (start, end) = (from_start(start), from_start(end).max(from_start(start)));
        self.one(value, move |dy| {
            let zeros = |count: i64| {
                let mut shape = shape.clone();
                shape[index] = count as usize;
                Tensor::full(dy.dtype(), &shape, 0.0)
            };
            Tensor::concat(&[&zeros(start)?, dy, &zeros(size - end)?], axis)
        })
    }

    /// [`Tensor::concat`].
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn concat(parts: &[&Var], axis: i32) -> Result<Var> {
        let values: Vec<&Tensor> = parts.iter().map(|part| part.value()).collect();
        let value = Tensor::concat(&values, axis)?;
        let rank = value.shape().len() as i32;
        let index = if axis < 0 { axis + rank } else { axis } as usize;
        let lengths: Vec<i64> = parts.iter().map(|part| part.shape()[index] as i64).collect();
        let operands = parts.iter().map(|&part| part.clone()).collect();
        Ok(Var::result_of(Rc::new(value), operands, move |dy| {
            let mut start = 0;
            let mut part = |length: &i64| {
                start += length;
                dy.slice(axis, start - length, start).map(Some)
            };
            lengths.iter().map(&mut part).collect()
        }))
    }

    /// [`Tensor::gather`]: rows of this value; an embedding's lookup with axis 0.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn gather(&self, indices: &Tensor, axis: i32) -> Result<Var> {
        let value = self.value().gather(indices, axis)?;
        let call = Backward::Gather { axis, shape: sizes(self.shape()) };
        let indices = indices.share()?;
        self.one(value, move |dy| backward_one(&call, &[dy, &indices]))
    }

    /// Dimensions `a` and `b` exchanged; negative ones count from the end.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: there is no such dimension.
    pub fn swap_axes(&self, a: i32, b: i32) -> Result<Var> {
        let rank = self.shape().len();
        let index = |axis: i32| {
            let index = if axis < 0 { i64::from(axis) + rank as i64 } else { axis.into() };
            usize::try_from(index).ok().filter(|&index| index < rank).ok_or_else(|| {
                Error::invalid_argument(format!("there is no axis {axis} in {:?}", self.shape()))
            })
        };
        let mut permutation: Vec<usize> = (0..rank).collect();
        permutation.swap(index(a)?, index(b)?);
        self.transpose(&permutation)
    }
}
