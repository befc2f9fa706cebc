//! Scaled dot-product attention.
//!
//! FP32 goes by tiles of as many queries as a vector has lanes, so that the softmax of a tile is plain vertical
//! arithmetic: scores lie key by key, one lane for each query. Keys are packed once for each head; values are read
//! where they lie. Few queries, as when a text grows word by word, go one by one instead, and nothing is packed. Half
//! precision is computed in FP32.

mod few;
mod plain;
mod tiles;

use std::borrow::Cow;

use innkeeper_tensor::{DType, Tensor};

use crate::cpu::create;
use crate::cpu::memory::{elements, tensor};
use crate::infer::attention::Plan;
use crate::op::Attention;
use crate::{OpError, Run};

/// Fewer queries go one by one.
const TILE_QUERIES_MIN: usize = 4;

/// What a kernel works on.
struct Work<'a> {
    plan: &'a Plan,
    causal: bool,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    mask: Option<&'a [f32]>,
}

pub(super) fn attention(
    attention: &Attention,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let plan = Plan::new(attention, &operands)?;
    let Some(dtype) = inputs.first().map(|x| x.dtype()) else {
        return Err(OpError::InvalidArgument("attention: takes operands".to_owned()));
    };
    let (sequences, mask) = inputs.split_at(if attention.packed { 1 } else { 3 });
    let mask = mask.first().copied();
    if dtype == DType::Fp64 {
        return plain::attention(&plan, attention.causal, sequences, mask, run);
    }
    let wide: Vec<Tensor> =
        sequences.iter().map(|x| create::cast(x, DType::Fp32, run)).collect::<Result<_, _>>()?;
    let parts: Vec<Cow<'_, [f32]>> = wide.iter().map(elements::<f32>).collect::<Result<_, _>>()?;
    let at = |index: usize| parts.get(index).or(parts.first()).map_or(&[][..], |part| part);
    let mask = mask.map(|mask| additive(mask, run)).transpose()?;
    let work = Work {
        plan: &plan,
        causal: attention.causal,
        q: at(0),
        k: at(1),
        v: at(2),
        mask: mask.as_deref(),
    };
    let mut out = run.scratch::<f32>(plan.result.elements())?;
    if !out.is_empty() {
        if plan.keys == 0 {
            out.fill(0.0);
        } else if plan.queries < TILE_QUERIES_MIN {
            few::attention(&work, run, &mut out)?;
        } else {
            tiles::attention(&work, run, &mut out)?;
        }
    }
    let result = tensor(DType::Fp32, plan.result.clone(), out)?;
    if dtype == DType::Fp32 { Ok(result) } else { create::cast(&result, dtype, run) }
}

/// What a mask adds.
fn additive(mask: &Tensor, run: &Run<'_>) -> Result<Vec<f32>, OpError> {
    if mask.dtype() == DType::Bool {
        let keep = mask.as_bytes().iter();
        return Ok(keep.map(|&keep| if keep != 0 { 0.0 } else { f32::NEG_INFINITY }).collect());
    }
    let wide = create::cast(mask, DType::Fp32, run)?;
    Ok(elements::<f32>(&wide)?.into_owned())
}

impl Work<'_> {
    /// How many keys query `index` may look at.
    fn visible(&self, index: usize) -> usize {
        let Plan { queries, keys, .. } = *self.plan;
        if self.causal { (keys + index + 1).saturating_sub(queries).min(keys) } else { keys }
    }
}
