//! The types of the interface `tensors`, with this crate's words.

use super::bindings::innkeeper::model::tensors::{Padding, Scatter};
use crate::tensor;

pub(crate) fn padding(padding: tensor::Padding) -> Padding {
    match padding {
        tensor::Padding::Constant(value) => Padding::Constant(value),
        tensor::Padding::Reflect => Padding::Reflect,
        tensor::Padding::Edge => Padding::Edge,
        tensor::Padding::Wrap => Padding::Wrap,
    }
}

pub(crate) fn scatter(scatter: tensor::Scatter) -> Scatter {
    match scatter {
        tensor::Scatter::Replace => Scatter::Replace,
        tensor::Scatter::Add => Scatter::Add,
        tensor::Scatter::Mul => Scatter::Mul,
        tensor::Scatter::Min => Scatter::Min,
        tensor::Scatter::Max => Scatter::Max,
    }
}
