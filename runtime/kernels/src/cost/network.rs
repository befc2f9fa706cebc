//! Prices of normalisation, attention, convolution and pooling.

use innkeeper_tensor::{DType, Shape};

use crate::Op;
use crate::cost::{CALL, TRANSCENDENTAL};
use crate::infer::attention::Plan;
use crate::infer::conv::{Filter, pooling};

impl Op {
    /// The price of these families; `None` for the others.
    pub(super) fn network_cost(&self, inputs: &[(DType, &Shape)]) -> Option<u64> {
        let x = inputs.first().map_or(0, |(_, shape)| shape.elements() as u64);
        // Elements of FP64 go one by one.
        let slow =
            if inputs.first().is_some_and(|(dtype, _)| *dtype == DType::Fp64) { 16 } else { 1 };
        let work = match self {
            Op::Norm(_) => x.saturating_mul(TRANSCENDENTAL),
            Op::Rope(_) => x.saturating_mul(4),
            Op::Attention(of) => Plan::new(of, inputs).map_or(CALL, |plan| {
                let pairs = [plan.batch, plan.heads, plan.queries, plan.keys];
                let each = (plan.depth + plan.width) as u64 + TRANSCENDENTAL;
                product(&pairs).saturating_mul(each)
            }),
            Op::Conv(of) => Filter::of_conv(of, inputs).map_or(CALL, |(filter, result)| {
                // Few filters in a group leave most of a tile empty.
                let narrow = if filter.filters < 4 { 4 } else { 1 };
                let plain = if filter.slide.kernel[0] > 1 { 16 } else { 1 };
                let each = product(&[filter.depth, filter.slide.taps(), narrow, plain]);
                each.saturating_mul(result.elements() as u64).max(x)
            }),
            Op::ConvTranspose(of) => {
                Filter::of_transpose(of, inputs).map_or(CALL, |(filter, _)| {
                    let each = product(&[filter.filters, filter.slide.taps(), 16]);
                    each.saturating_mul(x)
                })
            }
            Op::Pool(of) => inputs
                .first()
                .and_then(|(_, x)| pooling(of, x).ok())
                .map_or(CALL, |(slide, result)| {
                    product(&[slide.taps(), 4, result.elements()]).max(x)
                }),
            _ => return None,
        };
        Some(work.saturating_mul(slow).saturating_add(CALL))
    }
}

fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1u64, |product, &size| product.saturating_mul(size as u64))
}
