//! A rough price of an operation.

mod network;

use innkeeper_tensor::{DType, Shape};

use crate::infer::attention::Plan;
use crate::infer::{matmul, recurrent};
use crate::{Activation, Binary, Grad, Index, Op, Order, Quant, Recurrent};

/// What a call costs before it touches any element.
const CALL: u64 = 64;
/// What an exponential, a logarithm or their like costs.
const TRANSCENDENTAL: u64 = 8;

/// What a step costs that goes over memory in strides, and finds nothing in the caches.
const STRIDED: u64 = 64;
/// What a multiply-add costs in a product of few columns.
const NARROW: u64 = 16;

/// What a step along an axis costs: elements along the last one lie side by side.
fn stride(axis: i64, inputs: &[(DType, &Shape)]) -> u64 {
    let rank = inputs.first().map_or(0, |(_, shape)| shape.rank() as i64);
    if axis == -1 || axis == rank - 1 { 1 } else { STRIDED }
}

/// A product for each step, and a few functions of each of its results.
fn recurrent_cost(op: &Recurrent, inputs: &[(DType, &Shape)]) -> u64 {
    let Ok(sizes) = recurrent::sizes(op, inputs) else {
        return CALL;
    };
    let gates = (sizes.steps as u64)
        .saturating_mul(sizes.batch as u64)
        .saturating_mul((op.cell.gates() * sizes.width) as u64);
    let each = (sizes.width as u64).saturating_add(2 * TRANSCENDENTAL);
    let calls = CALL.saturating_mul(sizes.steps as u64 + 1);
    gates.saturating_mul(each).saturating_add(calls)
}

impl Activation {
    /// What one element costs.
    pub(crate) fn cost(self) -> u64 {
        match self {
            Activation::None => 0,
            Activation::Gelu
            | Activation::GeluTanh
            | Activation::Silu
            | Activation::Sigmoid
            | Activation::Tanh => TRANSCENDENTAL,
            _ => 1,
        }
    }
}

/// What a step costs that is taken for one element by itself.
const SINGLE: u64 = 8;
/// What sorting costs for each element, of as many as there can be.
const SORT: u64 = 128;

impl Op {
    /// That of operations that move, pick or order elements: all that are read and written, with what each takes.
    fn moving_cost(&self, inputs: &[(DType, &Shape)]) -> u64 {
        let Ok(results) = self.outputs(inputs) else {
            return CALL;
        };
        let read = inputs.iter().map(|(_, shape)| shape.elements() as u64);
        let written = results.iter().map(|(_, shape)| shape.elements() as u64);
        let touched = read.chain(written).fold(0, u64::saturating_add);
        let each = match self {
            Op::Order(Order::TopK { axis, .. }) => SORT.max(stride(*axis, inputs)),
            Op::Index(Index::Unique { .. }) => SORT,
            Op::Index(_) => STRIDED,
            Op::Random(_) => 2 * TRANSCENDENTAL,
            // Rows, as the last result has them, each through all trees.
            Op::Trees(trees) => {
                let rows = results.last().and_then(|(_, shape)| shape.dims().first().copied());
                return (rows.unwrap_or(0) as u64)
                    .saturating_mul(trees.steps() as u64)
                    .saturating_mul(SINGLE)
                    .saturating_add(touched)
                    .saturating_add(CALL);
            }
            Op::Order(Order::Variance { axes, .. } | Order::Any { axes, .. })
            | Op::Order(Order::All { axes, .. }) => {
                axes.iter().map(|&axis| stride(axis, inputs)).max().unwrap_or(SINGLE)
            }
            _ => SINGLE,
        };
        let calls = CALL.saturating_mul(results.len().max(1) as u64);
        touched.saturating_mul(each).saturating_add(calls)
    }

    /// About how much work the operation is, in multiply-adds: the larger of what is read and what is written, times
    /// the work per element. It is for sharing time fairly, not for accounting. Operands that do not fit cost what it
    /// takes to refuse them.
    pub fn cost(&self, inputs: &[(DType, &Shape)]) -> u64 {
        if let Op::Loss(_) | Op::Grad(_) | Op::Optim(_) = self {
            return self.training_cost(inputs);
        }
        if let Op::Random(_) | Op::Trees(_) = self {
            return self.moving_cost(inputs);
        }
        if let Op::Recurrent(op) = self {
            return recurrent_cost(op, inputs);
        }
        if let Op::Move(_) | Op::Index(_) | Op::Order(_) = self {
            return self.moving_cost(inputs);
        }
        if let Op::Quant(quant) = self {
            return self.quantised_cost(quant, inputs);
        }
        if let Some(cost) = self.network_cost(inputs) {
            return cost;
        }
        let Ok((_, output)) = self.output(inputs) else {
            return CALL;
        };
        let read: u64 =
            inputs.iter().map(|(_, shape)| shape.elements() as u64).fold(0, u64::saturating_add);
        let touched = read.max(output.elements() as u64);
        let per_element = match self {
            Op::Reshape { .. } => return CALL,
            Op::MatMul | Op::Linear { .. } => {
                let depth = Op::depth(inputs) as u64;
                let sums = (output.elements() as u64).saturating_mul(depth);
                let (slow, matrices) = match self {
                    Op::MatMul => Op::narrowness(inputs, &output),
                    _ => (1, 1),
                };
                let calls = CALL.saturating_mul(matrices);
                let after = (output.elements() as u64).saturating_mul(self.epilogue());
                let sums = sums.max(touched).saturating_mul(slow);
                return sums.saturating_add(after).saturating_add(calls);
            }
            Op::Binary(Binary::Pow) | Op::Scalar { op: Binary::Pow, .. } => 2 * TRANSCENDENTAL,
            Op::Unary(op) if op.is_cheap() => 1,
            Op::Curve(op) if op.is_cheap() => 1,
            Op::Unary(_) | Op::Curve(_) => TRANSCENDENTAL,
            Op::Softmax { axis } | Op::LogSoftmax { axis } => {
                TRANSCENDENTAL.max(stride(*axis, inputs))
            }
            Op::Resize(_) => STRIDED,
            Op::ArgMax { axis, .. } => stride(*axis, inputs),
            Op::Reduce { axes, .. } => {
                axes.iter().map(|&axis| stride(axis, inputs)).max().unwrap_or(1)
            }
            Op::Transpose { .. } => STRIDED,
            Op::Concat { .. } => return touched.saturating_add(CALL * inputs.len() as u64),
            _ => 1,
        };
        touched.saturating_mul(per_element).saturating_add(CALL)
    }

    /// The price of operations on quantised numbers. Bytes are multiplied four times as fast, but not everywhere.
    fn quantised_cost(&self, quant: &Quant, inputs: &[(DType, &Shape)]) -> u64 {
        let Ok(results) = self.outputs(inputs) else {
            return CALL;
        };
        let elements = |count: u64, shape: &Shape| count.saturating_add(shape.elements() as u64);
        let read = inputs.iter().map(|(_, shape)| *shape).fold(0, elements);
        let written = results.iter().map(|(_, shape)| shape).fold(0, elements);
        let depth = inputs.first().and_then(|(_, x)| x.dims().last().copied()).unwrap_or(1) as u64;
        let work = match quant {
            Quant::MatMul { .. } => written.saturating_mul(depth),
            Quant::Linear8 { activation, .. } | Quant::Linear4 { activation, .. } => {
                written.saturating_mul(depth.saturating_add(activation.cost()))
            }
            _ => 0,
        };
        work.max(read.max(written)).saturating_add(CALL)
    }

    /// What a product does to each of its sums.
    fn epilogue(&self) -> u64 {
        match self {
            Op::Linear { activation, .. } => activation.cost(),
            _ => 0,
        }
    }

    /// The price of losses, backward passes and optimiser steps.
    fn training_cost(&self, inputs: &[(DType, &Shape)]) -> u64 {
        let Ok(results) = self.outputs(inputs) else {
            return CALL;
        };
        let elements = |count: u64, shape: &Shape| count.saturating_add(shape.elements() as u64);
        let read = inputs.iter().map(|(_, shape)| *shape).fold(0, elements);
        let touched = read.max(results.iter().map(|(_, shape)| shape).fold(0, elements));
        let calls = CALL.saturating_mul((inputs.len() + results.len()).max(1) as u64);
        let work = match (self, inputs) {
            (Op::Grad(Grad::Linear { input, .. }), [(_, dy), (_, x), _]) => {
                let depth = x.dims().last().copied().unwrap_or(0) as u64;
                let products = (dy.elements() as u64).saturating_mul(depth);
                products.saturating_mul(1 + u64::from(*input)).max(touched)
            }
            (Op::Grad(Grad::Conv { input, .. }), [(_, dy), _, (_, weight)]) => {
                let filters = weight.dims().first().copied().unwrap_or(1).max(1);
                let depth = (weight.elements() / filters) as u64;
                let products = (dy.elements() as u64).saturating_mul(depth);
                products.saturating_mul(1 + u64::from(*input)).max(touched)
            }
            (
                Op::Grad(Grad::MaxPool { kernel, .. } | Grad::AveragePool { kernel, .. }),
                [(_, dy), _],
            ) => {
                let taps = kernel.iter().fold(1u64, |taps, &size| taps.saturating_mul(size as u64));
                taps.saturating_mul(dy.elements() as u64)
                    .saturating_mul(TRANSCENDENTAL)
                    .max(touched)
            }
            (Op::Grad(Grad::Softmax { axis } | Grad::LogSoftmax { axis }), _) => {
                touched.saturating_mul(TRANSCENDENTAL.max(stride(*axis, inputs)))
            }
            (Op::Grad(Grad::Attention(attention)), [_, operands @ ..]) => {
                let Ok(plan) = Plan::new(attention, operands) else { return CALL };
                // Five products, an exponential and its derivative for each score.
                let each = (3 * plan.depth + 2 * plan.width) as u64 + 2 * TRANSCENDENTAL;
                let heads = (plan.batch as u64).saturating_mul(plan.heads as u64);
                let scores = (plan.queries as u64).saturating_mul(plan.keys as u64);
                heads.saturating_mul(scores).saturating_mul(each).max(touched)
            }
            (Op::Grad(Grad::SumTo { .. } | Grad::Gather { .. }), _) => touched,
            _ => touched.saturating_mul(TRANSCENDENTAL),
        };
        work.saturating_add(calls)
    }

    /// By how much a product is slower than a wide one, which is computed by vectors, and how many matrices it is.
    fn narrowness(inputs: &[(DType, &Shape)], output: &Shape) -> (u64, u64) {
        let [(_, x), (_, w), ..] = inputs else { return (1, 1) };
        let (Some((_, rows, _)), Some((_, columns, _))) =
            (matmul::left(x.dims()), matmul::right(w.dims()))
        else {
            return (1, 1);
        };
        let matrix = rows.saturating_mul(columns).max(1);
        let matrices = (output.elements() / matrix).max(1) as u64;
        (if columns < 16 { NARROW } else { 1 }, matrices)
    }

    /// How many products each element of a matrix product sums.
    fn depth(inputs: &[(DType, &Shape)]) -> usize {
        inputs.first().and_then(|(_, x)| matmul::left(x.dims())).map_or(0, |(_, _, k)| k)
    }
}
