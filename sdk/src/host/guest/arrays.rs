//! The types of the interface `tensors`, with this crate's words.

use super::bindings::innkeeper::model::tensors::{
    Coordinates, DepthOrder, Nearest, Padding, Sample, Scatter,
};
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

pub(crate) fn depth_order(order: tensor::DepthOrder) -> DepthOrder {
    match order {
        tensor::DepthOrder::DepthColumnRow => DepthOrder::DepthColumnRow,
        tensor::DepthOrder::ColumnRowDepth => DepthOrder::ColumnRowDepth,
    }
}

pub(crate) fn sample(sample: tensor::Sample) -> Sample {
    match sample {
        tensor::Sample::Nearest(nearest) => Sample::Nearest(match nearest {
            tensor::Nearest::RoundPreferFloor => Nearest::RoundPreferFloor,
            tensor::Nearest::RoundPreferCeil => Nearest::RoundPreferCeil,
            tensor::Nearest::Floor => Nearest::Floor,
            tensor::Nearest::Ceil => Nearest::Ceil,
        }),
        tensor::Sample::Linear => Sample::Linear,
        tensor::Sample::Cubic(a) => Sample::Cubic(a),
    }
}

pub(crate) fn coordinates(coordinates: tensor::Coordinates) -> Coordinates {
    match coordinates {
        tensor::Coordinates::HalfPixel => Coordinates::HalfPixel,
        tensor::Coordinates::PytorchHalfPixel => Coordinates::PytorchHalfPixel,
        tensor::Coordinates::AlignCorners => Coordinates::AlignCorners,
        tensor::Coordinates::Asymmetric => Coordinates::Asymmetric,
    }
}
