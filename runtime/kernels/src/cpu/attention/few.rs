//! Queries one by one: every key and value is read once, where it lies.

use pulp::{Simd, WithSimd};

use crate::cpu::attention::Work;
use crate::cpu::lanes;
use crate::cpu::simd::{F32, dispatch_by};
use crate::cpu::softmax::Largest;
use crate::infer::attention::Plan;
use crate::{OpError, Run};

pub(super) fn attention(work: &Work<'_>, run: &Run<'_>, out: &mut [f32]) -> Result<(), OpError> {
    let Plan { width, keys, depth, .. } = *work.plan;
    // As many queries in one piece as take some tens of microseconds.
    let many = ((1 << 18) / keys.saturating_mul(depth + width).max(1)).max(1);
    run.pieces(out, many.saturating_mul(width.max(1)), |piece, out| {
        let mut scores = run.scratch::<f32>(keys)?;
        for (index, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
            let (batch, head, query) = place(work, piece * many + index);
            dispatch_by(run.isa(), Query { work, batch, head, query, scores: &mut scores, out });
        }
        run.give(scores);
        Ok(())
    })
}

/// The batch, head and query that run `index` of the result belongs to.
fn place(work: &Work<'_>, index: usize) -> (usize, usize, usize) {
    let Plan { heads, queries, .. } = *work.plan;
    let batch = index / (heads * queries);
    let within = index % (heads * queries);
    if work.plan.result.rank() == 4 {
        (batch, within / queries, within % queries)
    } else {
        (batch, within % heads, within / heads)
    }
}

struct Query<'a> {
    work: &'a Work<'a>,
    batch: usize,
    head: usize,
    query: usize,
    scores: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Query<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Query { work, batch, head, query, scores, out } = self;
        let plan = work.plan;
        let shared = head / plan.shared;
        let scores = &mut scores[..work.visible(query)];
        let q = &work.q[plan.q.at(batch, head, query)..][..plan.depth];
        for (key, score) in scores.iter_mut().enumerate() {
            let k = &work.k[plan.k.at(batch, shared, key)..][..plan.depth];
            *score = dot(simd, q, k) * plan.scale as f32;
        }
        if let (Some(mask), Some([of_batch, of_head, of_query, of_key])) = (work.mask, plan.mask) {
            let start = batch * of_batch + head * of_head + query * of_query;
            for (key, score) in scores.iter_mut().enumerate() {
                *score += mask[start + key * of_key];
            }
        }
        let largest = Largest(scores).with_simd(simd);
        let largest = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        let sum = exponentials(simd, scores, largest);
        let by = if sum == 0.0 { 0.0 } else { 1.0 / sum };
        out.fill(0.0);
        for (key, &score) in scores.iter().enumerate() {
            let v = &work.v[plan.v.at(batch, shared, key)..][..plan.width];
            add(simd, score * by, v, out);
        }
    }
}

/// Each becomes e^(score - largest); the answer is the sum.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, scores: &mut [f32], largest: f32) -> f32 {
    let off = F32::of(simd, largest);
    let (vectors, rest) = S::as_mut_simd_f32s(scores);
    let mut sum = F32::of(simd, 0.0);
    for score in vectors {
        let e = lanes::exp_of_negative(F32(simd, *score) - off);
        *score = e.1;
        sum = sum + e;
    }
    let mut sum = sum.sum();
    if !rest.is_empty() {
        lanes::exp_of_negative(F32::load(simd, rest) - off).store(rest);
        sum += rest.iter().sum::<f32>();
    }
    sum
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, rest_a), (b, rest_b)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = F32::of(simd, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        sum = F32(simd, a).fma(F32(simd, b), sum);
    }
    sum.sum() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

#[inline(always)]
fn add<S: Simd>(simd: S, by: f32, v: &[f32], out: &mut [f32]) {
    let ((v, rest_v), (out, rest)) = (S::as_simd_f32s(v), S::as_mut_simd_f32s(out));
    let by_all = F32::of(simd, by);
    for (out, &v) in out.iter_mut().zip(v) {
        *out = by_all.fma(F32(simd, v), F32(simd, *out)).1;
    }
    for (out, v) in rest.iter_mut().zip(rest_v) {
        *out += by * v;
    }
}
