//! Tiles of queries, one in each lane of a vector.

use pulp::{Simd, WithSimd};

use crate::cpu::attention::Work;
use crate::cpu::lanes;
use crate::cpu::panel::add_products;
use crate::cpu::simd::{F32, dispatch_by};
use crate::infer::attention::Plan;
use crate::{Isa, OpError, Run};

/// Keys that are multiplied together.
const KEYS: usize = 12;
/// The most lanes that a vector has.
const LANES_MAX: usize = 16;

pub(super) fn attention(work: &Work<'_>, run: &Run<'_>, out: &mut [f32]) -> Result<(), OpError> {
    let packed = pack(work, run)?;
    let plan = work.plan;
    let lanes = match run.isa() {
        Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        _ => 1,
    };
    // Of a result with heads first, a piece is some rows of one head; else rows of all heads.
    let heads_first = plan.result.rank() == 4;
    let (row, heads) =
        if heads_first { (plan.width, 1) } else { (plan.heads * plan.width, plan.heads) };
    let blocks = if heads_first { plan.batch * plan.heads } else { plan.batch };
    let rows = rows(plan, heads, lanes, blocks, run.threads());
    let mut parts = Vec::with_capacity(blocks * plan.queries.div_ceil(rows));
    for (block, out) in out.chunks_exact_mut((plan.queries * row).max(1)).enumerate() {
        for (index, out) in out.chunks_mut(rows * row).enumerate() {
            parts.push(std::sync::Mutex::new((block, index * rows, out)));
        }
    }
    run.parallel(parts.len(), |part| {
        let Ok(mut part) = parts[part].lock() else { return Ok(()) };
        let (block, first, out) = &mut *part;
        let (batch, head) =
            if heads_first { (*block / plan.heads, *block % plan.heads) } else { (*block, 0) };
        let keys = plan.keys.next_multiple_of(KEYS);
        let mut scores = run.scratch::<f32>(keys * LANES_MAX)?;
        let mut turned = run.scratch::<f32>(plan.depth.max(plan.width).max(1) * LANES_MAX)?;
        let heads = head..head + heads;
        let (scores_of, turned_of) = (&mut scores[..], &mut turned[..]);
        let tile = Rows {
            work,
            packed: &packed,
            batch,
            heads,
            first: *first,
            row,
            scores: scores_of,
            turned: turned_of,
            out,
        };
        dispatch_by(run.isa(), tile);
        run.give(scores);
        run.give(turned);
        Ok(())
    })?;
    run.give(packed);
    Ok(())
}

/// How many rows a piece has: full tiles, enough work for a thread, and pieces for every thread if there can be.
fn rows(plan: &Plan, heads: usize, lanes: usize, blocks: usize, threads: usize) -> usize {
    let tile = lanes.saturating_mul(heads).saturating_mul(plan.keys);
    let work = tile.saturating_mul(plan.depth + plan.width + 16);
    let wanted = ((1 << 22) / work.max(1)).max(1);
    let share = (plan.queries * blocks).div_ceil(threads.max(1)).div_ceil(lanes);
    wanted.min(share.max(1)) * lanes
}

/// The keys of each head in panels of [`KEYS`], element by element; keys that are not there are zeros.
fn pack(work: &Work<'_>, run: &Run<'_>) -> Result<Vec<f32>, OpError> {
    let plan = work.plan;
    let heads = plan.heads / plan.shared;
    let panel = plan.depth * KEYS;
    let panels = plan.keys.div_ceil(KEYS);
    let len = panels
        .checked_mul(panel)
        .and_then(|len| len.checked_mul(plan.batch)?.checked_mul(heads))
        .ok_or_else(|| {
            OpError::Unsupported("attention: there is no memory for the keys".to_owned())
        })?;
    let mut packed = run.scratch::<f32>(len)?;
    run.pieces(&mut packed, (panels * panel).max(1), |index, out| {
        let (batch, head) = (index / heads, index % heads);
        for (first, out) in (0..plan.keys).step_by(KEYS).zip(out.chunks_exact_mut(panel.max(1))) {
            let there = (plan.keys - first).min(KEYS);
            let (lines, _) = out.as_chunks_mut::<KEYS>();
            for key in 0..there {
                let k = &work.k[plan.k.at(batch, head, first + key)..][..plan.depth];
                lines.iter_mut().zip(k).for_each(|(line, &k)| line[key] = k);
            }
            lines.iter_mut().for_each(|line| line[there..].fill(0.0));
        }
        Ok(())
    })?;
    Ok(packed)
}

/// Some rows of queries of one batch, for some heads.
struct Rows<'a> {
    work: &'a Work<'a>,
    packed: &'a [f32],
    batch: usize,
    heads: std::ops::Range<usize>,
    first: usize,
    /// From one row of `out` to the next.
    row: usize,
    scores: &'a mut [f32],
    turned: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let plan = self.work.plan;
        let count = self.out.len() / self.row.max(1);
        let panels = plan.keys.div_ceil(KEYS) * plan.depth * KEYS;
        for (column, head) in self.heads.clone().enumerate() {
            let shared = self.batch * (plan.heads / plan.shared) + head / plan.shared;
            let keys = &self.packed[shared * panels..][..panels];
            for start in (0..count).step_by(S::F32_LANES) {
                let mut tile = Tile {
                    work: self.work,
                    batch: self.batch,
                    head,
                    query: self.first + start,
                    there: (count - start).min(S::F32_LANES),
                    keys,
                };
                let scores = S::as_mut_simd_f32s(self.scores).0;
                let turned = &mut *self.turned;
                let out = &mut self.out[start * self.row + column * plan.width..];
                tile.attend(simd, scores, turned, out, self.row);
            }
        }
    }
}

/// As many queries of one head as a vector has lanes.
struct Tile<'a> {
    work: &'a Work<'a>,
    batch: usize,
    head: usize,
    /// The first query, and how many there are.
    query: usize,
    there: usize,
    /// The head's packed keys.
    keys: &'a [f32],
}

impl Tile<'_> {
    #[inline(always)]
    fn attend<S: Simd>(
        &mut self,
        simd: S,
        scores: &mut [S::f32s],
        turned: &mut [f32],
        out: &mut [f32],
        row: usize,
    ) {
        // The last query sees the most keys.
        let visible = self.work.visible(self.query + self.there - 1);
        self.turn_queries(simd, turned);
        self.score(simd, S::as_simd_f32s(turned).0, visible, scores);
        let scores = &mut scores[..visible];
        self.add_mask(simd, scores);
        let by = soften(simd, scores);
        self.weigh(simd, scores, by, turned);
        // From one query in each lane to one in each row.
        for (lane, out) in out.chunks_mut(row).take(self.there).enumerate() {
            let values = turned.iter().skip(lane).step_by(S::F32_LANES);
            out.iter_mut().zip(values).take(self.work.plan.width).for_each(|(out, &x)| *out = x);
        }
    }

    /// The queries, scaled, element by element; lanes without a query hold zeros.
    #[inline(always)]
    fn turn_queries<S: Simd>(&self, _: S, turned: &mut [f32]) {
        let plan = self.work.plan;
        let lanes = S::F32_LANES;
        let scale = plan.scale as f32;
        for lane in 0..lanes {
            let elements = turned.iter_mut().skip(lane).step_by(lanes);
            if lane < self.there {
                let start = plan.q.at(self.batch, self.head, self.query + lane);
                let q = &self.work.q[start..][..plan.depth];
                elements.zip(q).for_each(|(to, q)| *to = q * scale);
            } else {
                elements.take(plan.depth).for_each(|to| *to = 0.0);
            }
        }
    }

    #[inline(always)]
    fn score<S: Simd>(&self, simd: S, turned: &[S::f32s], visible: usize, scores: &mut [S::f32s]) {
        let depth = self.work.plan.depth;
        let queries = turned[..depth].as_chunks::<1>().0;
        let (panels, _) = self.keys.as_chunks::<KEYS>();
        for (index, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
            if index * KEYS >= visible {
                break;
            }
            let mut sums = [[simd.splat_f32s(0.0); 1]; KEYS];
            add_products(simd, &panels[index * depth..][..depth], queries, &mut sums);
            scores.iter_mut().zip(sums).for_each(|(score, [sum])| *score = sum);
        }
    }

    #[inline(always)]
    fn add_mask<S: Simd>(&self, simd: S, scores: &mut [S::f32s]) {
        let plan = self.work.plan;
        if let (Some(mask), Some([of_batch, of_head, of_query, of_key])) =
            (self.work.mask, plan.mask)
        {
            let start = self.batch * of_batch + self.head * of_head + self.query * of_query;
            for (key, score) in scores.iter_mut().enumerate() {
                let at = start + key * of_key;
                let added = if of_query == 0 {
                    F32::of(simd, mask[at])
                } else {
                    let mut lanes = [0f32; LANES_MAX];
                    for (lane, to) in lanes.iter_mut().enumerate().take(self.there) {
                        *to = mask[at + lane * of_query];
                    }
                    F32::load(simd, &lanes[..S::F32_LANES])
                };
                *score = (F32(simd, *score) + added).1;
            }
        }
        if self.work.causal {
            // How many keys the first query sees; none of those if it is below zero.
            let first = (plan.keys + self.query + 1) as i64 - plan.queries as i64;
            let lanes: [f32; LANES_MAX] = std::array::from_fn(|lane| lane as f32);
            let lanes = F32::load(simd, &lanes[..S::F32_LANES]);
            for (key, score) in scores.iter_mut().enumerate().skip(first.max(0) as usize) {
                // Each lane sees one key more than the one before it.
                let hidden = lanes.less(F32::of(simd, (key as i64 - first + 1) as f32));
                let nothing = F32::of(simd, f32::NEG_INFINITY);
                *score = nothing.where_or(hidden, F32(simd, *score)).1;
            }
        }
    }

    /// The values, weighted by the scores, element by element.
    #[inline(always)]
    fn weigh<S: Simd>(&self, simd: S, scores: &[S::f32s], by: F32<S>, turned: &mut [f32]) {
        let plan = self.work.plan;
        let start = plan.v.at(self.batch, self.head / plan.shared, 0);
        let values = &self.work.v[start..];
        let turned = &mut S::as_mut_simd_f32s(turned).0[..plan.width];
        let mut done = 0;
        while plan.width - done >= 12 {
            columns::<S, 12>(simd, scores, &values[done..], plan.v.row, by, &mut turned[done..]);
            done += 12;
        }
        while plan.width - done >= 8 {
            columns::<S, 8>(simd, scores, &values[done..], plan.v.row, by, &mut turned[done..]);
            done += 8;
        }
        while plan.width - done >= 4 {
            columns::<S, 4>(simd, scores, &values[done..], plan.v.row, by, &mut turned[done..]);
            done += 4;
        }
        while plan.width > done {
            columns::<S, 1>(simd, scores, &values[done..], plan.v.row, by, &mut turned[done..]);
            done += 1;
        }
    }
}

/// The first `N` columns of the values, which are `row` long, weighted by the scores.
#[inline(always)]
fn columns<S: Simd, const N: usize>(
    simd: S,
    scores: &[S::f32s],
    values: &[f32],
    row: usize,
    by: F32<S>,
    out: &mut [S::f32s],
) {
    let mut sums = [F32::of(simd, 0.0); N];
    for (&score, values) in scores.iter().zip(values.chunks(row.max(1))) {
        let Some(values) = values.first_chunk::<N>() else { break };
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum = F32::of(simd, value).fma(F32(simd, score), *sum);
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum * by).1);
}

/// Scores become e to the distance from the largest of their lane; the answer is one over their sum, 0 where there is
/// nothing to see.
#[inline(always)]
fn soften<S: Simd>(simd: S, scores: &mut [S::f32s]) -> F32<S> {
    let zero = F32::of(simd, 0.0);
    let lowest = F32::of(simd, f32::NEG_INFINITY);
    let mut largest = [lowest; 4];
    let (fours, ones) = scores.as_chunks_mut::<4>();
    for four in &*fours {
        for (largest, &score) in largest.iter_mut().zip(four) {
            *largest = largest.max(F32(simd, score));
        }
    }
    for &mut score in &mut *ones {
        largest[0] = largest[0].max(F32(simd, score));
    }
    let largest = largest[0].max(largest[1]).max(largest[2].max(largest[3]));
    let largest = zero.where_or(largest.equals(lowest), largest);
    let mut sums = [zero; 4];
    for four in fours {
        for (sum, score) in sums.iter_mut().zip(four) {
            let e = lanes::exp_of_negative(F32(simd, *score) - largest);
            *score = e.1;
            *sum = *sum + e;
        }
    }
    for (sum, score) in sums.iter_mut().zip(ones) {
        let e = lanes::exp_of_negative(F32(simd, *score) - largest);
        *score = e.1;
        *sum = *sum + e;
    }
    let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    zero.where_or(sum.equals(zero), F32::of(simd, 1.0) / sum)
}
