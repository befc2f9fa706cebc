//! Attention in FP64, by its formula.

use innkeeper_tensor::{DType, Tensor};

use crate::cpu::create;
use crate::cpu::memory::{elements, tensor};
use crate::infer::attention::Plan;
use crate::{OpError, Run};

pub(super) fn attention(
    plan: &Plan,
    causal: bool,
    sequences: &[&Tensor],
    mask: Option<&Tensor>,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let parts: Vec<_> = sequences.iter().map(|x| elements::<f64>(x)).collect::<Result<_, _>>()?;
    let at = |index: usize| parts.get(index).or(parts.first()).map_or(&[][..], |part| part);
    let (q, k, v) = (at(0), at(1), at(2));
    let mask = mask.map(|mask| additive(mask, run)).transpose()?;
    let mut out = run.filled(plan.result.elements(), 0.0)?;
    let width = plan.width.max(1);
    let first = plan.result.rank() == 4;
    run.pieces(&mut out, width, |index, out| {
        let (batch, within) =
            (index / (plan.heads * plan.queries), index % (plan.heads * plan.queries));
        let (head, query) = if first {
            (within / plan.queries, within % plan.queries)
        } else {
            (within % plan.heads, within / plan.heads)
        };
        let visible = (plan.keys + query + 1).saturating_sub(plan.queries).min(plan.keys);
        let visible = if causal { visible } else { plan.keys };
        let shared = head / plan.shared;
        let of_q = &q[plan.q.at(batch, head, query)..][..plan.depth];
        let mut scores: Vec<f64> = (0..visible)
            .map(|key| {
                let of_k = &k[plan.k.at(batch, shared, key)..][..plan.depth];
                let dot: f64 = of_q.iter().zip(of_k).map(|(q, k)| q * k).sum();
                let added = plan.mask.zip(mask.as_deref()).map_or(0.0, |(strides, mask)| {
                    mask[batch * strides[0]
                        + head * strides[1]
                        + query * strides[2]
                        + key * strides[3]]
                });
                dot * plan.scale + added
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let largest = if largest == f64::NEG_INFINITY { 0.0 } else { largest };
        scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
        let sum: f64 = scores.iter().sum();
        for (key, score) in scores.iter().enumerate().filter(|_| sum != 0.0) {
            let of_v = &v[plan.v.at(batch, shared, key)..][..plan.width];
            out.iter_mut().zip(of_v).for_each(|(out, v)| *out += score / sum * v);
        }
        Ok(())
    })?;
    tensor(DType::Fp64, plan.result.clone(), out)
}

/// What a mask adds.
fn additive(mask: &Tensor, run: &Run<'_>) -> Result<Vec<f64>, OpError> {
    if mask.dtype() == DType::Bool {
        let keep = mask.as_bytes().iter();
        return Ok(keep.map(|&keep| if keep != 0 { 0.0 } else { f64::NEG_INFINITY }).collect());
    }
    let wide = create::cast(mask, DType::Fp64, run)?;
    Ok(elements::<f64>(&wide)?.into_owned())
}
