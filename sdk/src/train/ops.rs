//! The operations that gradients flow through: those of [`Tensor`], and what training adds.

mod arithmetic;
mod loss;
mod nn;
mod shape;
mod windows;

use super::tape::backward_one;
use crate::train::call::Backward;
use crate::{Result, Tensor};

/// dy summed to the shape of an operand that was repeated; dy itself where nothing was.
fn sum_to(dy: Tensor, shape: &[u32]) -> Result<Tensor> {
    let same = dy.0.shape() == *shape;
    if same { Ok(dy) } else { backward_one(&Backward::SumTo { shape: shape.to_vec() }, &[&dy]) }
}

fn sizes(shape: &[usize]) -> Vec<u32> {
    // A tensor's sizes came from the host as u32.
    shape.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX)).collect()
}
