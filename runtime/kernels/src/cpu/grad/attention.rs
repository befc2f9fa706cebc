//! The derivative of attention: scores are made again for some queries of one head at a time and never kept whole. The
//! formulas are those of Dao et al. 2022, *FlashAttention*, appendix B.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use innkeeper_tensor::{DType, Shape, Tensor};

use super::packed;
use super::softmax::dot;
use crate::cpu::create;
use crate::cpu::memory::elements;
use crate::cpu::product::{Product, Right};
use crate::cpu::smooth::Smooth;
use crate::cpu::softmax::softmax_row;
use crate::cpu::wide::wide;
use crate::infer::attention::{Place, Plan};
use crate::op::Attention;
use crate::{OpError, Run};

/// Queries whose scores are made together, and the most scores of them.
const QUERIES: usize = 64;
const SCORES_MAX: usize = 1 << 20;

/// An element, and how it multiplies matrices.
pub(super) trait Multiplies: Smooth {
    /// `out = a b`, a `[m, k]` or, when `turned`, `[k, m]`; b as [`Matrix`] says.
    fn multiply(
        m: usize,
        a: &[Self],
        turned: bool,
        b: Matrix<'_, Self>,
        out: &mut [Self],
        run: &Run<'_>,
    ) -> Result<(), OpError>;
    /// Softmax of a row of which some number is finite.
    fn softmax(from: &[Self], out: &mut [Self], run: &Run<'_>);
}

/// A right side `[k, n]`, or when `turned` `[n, k]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    k: usize,
    n: usize,
    elements: &'a [T],
    turned: bool,
}

impl Multiplies for f32 {
    fn multiply(
        m: usize,
        a: &[f32],
        turned: bool,
        b: Matrix<'_, f32>,
        out: &mut [f32],
        run: &Run<'_>,
    ) -> Result<(), OpError> {
        let Matrix { k, n, elements, turned: transposed } = b;
        let product = Product::plain(m, a, Right { k, n, elements, transposed });
        Product { transposed: turned, ..product }.run(run, out)
    }

    fn softmax(from: &[f32], out: &mut [f32], run: &Run<'_>) {
        softmax_row(run.isa(), from, out);
    }
}

impl Multiplies for f64 {
    fn multiply(
        m: usize,
        a: &[f64],
        turned: bool,
        b: Matrix<'_, f64>,
        out: &mut [f64],
        _: &Run<'_>,
    ) -> Result<(), OpError> {
        let of_a = |i: usize, p: usize| if turned { a[p * m + i] } else { a[i * b.k + p] };
        let of_b = |p: usize, j: usize| {
            if b.turned { b.elements[j * b.k + p] } else { b.elements[p * b.n + j] }
        };
        for (place, out) in out.iter_mut().enumerate() {
            let (i, j) = (place / b.n, place % b.n);
            *out = (0..b.k).map(|p| of_a(i, p) * of_b(p, j)).sum();
        }
        Ok(())
    }

    fn softmax(from: &[f64], out: &mut [f64], _: &Run<'_>) {
        let largest = from.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        out.iter_mut().zip(from).for_each(|(out, x)| *out = (x - largest).exp());
        let sum: f64 = out.iter().sum();
        out.iter_mut().for_each(|out| *out /= sum);
    }
}

/// The derivatives by q, k and v, or by the one operand that has them all, of operands that are checked: dy, those, and a
/// mask if there is one.
pub(super) fn gradient<T: Multiplies>(
    attention: &Attention,
    results: Vec<(DType, Shape)>,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let operands: Vec<_> = inputs.iter().map(|x| (x.dtype(), x.shape())).collect();
    let plan = Plan::new(attention, operands.get(1..).unwrap_or_default())?;
    let mut outs = Vec::with_capacity(results.len());
    for (_, shape) in &results {
        outs.push(run.filled(shape.elements(), T::default())?);
    }
    let &Plan { batch, heads, queries, keys, depth, width, .. } = &plan;
    if [batch, heads, queries, keys, depth, width].contains(&0) {
        return packed(results, outs);
    }
    let (sequences, mask) = inputs.split_at(1 + results.len());
    let mask = mask.first().map(|mask| additive::<T>(mask, run)).transpose()?;
    let from: Vec<_> = sequences.iter().map(|x| elements::<T>(x)).collect::<Result<_, _>>()?;
    let one = |of_batch: &mut [&mut [T]], batch: usize, inner: &Run<'_>| {
        let work =
            Work { plan: &plan, causal: attention.causal, from: &from, mask: mask.as_deref() };
        (0..heads).try_for_each(|head| work.head(batch, head, of_batch, inner))
    };
    // What threads write lies apart for each batch.
    let mut parts: Vec<Vec<&mut [T]>> = (0..batch).map(|_| Vec::new()).collect();
    for out in &mut outs {
        let size = out.len() / batch;
        parts.iter_mut().zip(out.chunks_mut(size)).for_each(|(part, out)| part.push(out));
    }
    if batch < run.threads() {
        // Too few to go round: threads share each product instead.
        parts.iter_mut().enumerate().try_for_each(|(batch, part)| one(part, batch, run))?;
    } else {
        let parts: Vec<_> = parts.into_iter().map(Mutex::new).collect();
        run.parallel(batch, |batch| {
            let mut part = parts[batch].lock().unwrap_or_else(PoisonError::into_inner);
            one(&mut part, batch, &run.alone())
        })?;
    }
    packed(results, outs)
}

/// What a mask adds.
fn additive<T: Smooth>(mask: &Tensor, run: &Run<'_>) -> Result<Vec<T>, OpError> {
    if mask.dtype() == DType::Bool {
        let (zero, none) = (T::default(), T::from_f64(f64::NEG_INFINITY));
        return Ok(mask
            .as_bytes()
            .iter()
            .map(|&keep| if keep != 0 { zero } else { none })
            .collect());
    }
    let wide = create::cast(mask, T::DTYPE, run)?;
    Ok(elements::<T>(&wide)?.into_owned())
}

struct Work<'a, T: Clone> {
    plan: &'a Plan,
    causal: bool,
    /// dy, then q, k and v or what has them all.
    from: &'a [Cow<'a, [T]>],
    mask: Option<&'a [T]>,
}

impl<T: Multiplies> Work<'_, T> {
    /// Adds what comes of one head to its batch's part of the results.
    fn head(
        &self,
        batch: usize,
        head: usize,
        outs: &mut [&mut [T]],
        run: &Run<'_>,
    ) -> Result<(), OpError> {
        let &Plan { queries, keys, depth, width, heads, shared, q, k, v, .. } = self.plan;
        let of_dy = match self.plan.result.rank() {
            4 => Place {
                batch: heads * queries * width,
                head: queries * width,
                row: width,
                start: 0,
            },
            _ => {
                Place { batch: queries * heads * width, head: width, row: heads * width, start: 0 }
            }
        };
        let of_key = head / shared;
        let operand = |index: usize| &*self.from[index.min(self.from.len() - 1)];
        let all_dy = gathered(operand(0), of_dy, [batch, head], queries, width, run)?;
        let all_q = gathered(operand(1), q, [batch, head], queries, depth, run)?;
        let all_k = gathered(operand(2), k, [batch, of_key], keys, depth, run)?;
        let all_v = gathered(operand(3), v, [batch, of_key], keys, width, run)?;
        let some = (SCORES_MAX / keys).clamp(1, QUERIES).min(queries);
        let mut shares = run.scratch::<T>(some * keys)?;
        let mut dscores = run.scratch::<T>(some * keys)?;
        let mut sums = run.scratch::<T>((some * depth).max(keys * depth.max(width)))?;
        let place = |index: usize, outs: &[&mut [T]]| index.min(outs.len() - 1);
        let (to_q, to_k, to_v) = (place(0, outs), place(1, outs), place(2, outs));
        for first in (0..queries).step_by(some) {
            run.check()?;
            let rows = first..queries.min(first + some);
            let seen = self.visible(rows.end - 1);
            if seen == 0 {
                continue;
            }
            let (m, of_rows) = (rows.len(), rows.len() * seen);
            let (shares, dscores) = (&mut shares[..of_rows], &mut dscores[..of_rows]);
            let of_q = &all_q[rows.start * depth..rows.end * depth];
            let dy = &all_dy[rows.start * width..rows.end * width];
            let (of_k, of_v) = (&all_k[..seen * depth], &all_v[..seen * width]);

            let by_k = Matrix { k: depth, n: seen, elements: of_k, turned: true };
            T::multiply(m, of_q, false, by_k, dscores, run)?;
            self.share([batch, head], rows.clone(), seen, dscores, shares, run);
            let by_v = Matrix { k: width, n: seen, elements: of_v, turned: true };
            T::multiply(m, dy, false, by_v, dscores, run)?;
            let scale = T::from_f64(self.plan.scale);
            for (dscores, shares) in dscores.chunks_mut(seen).zip(shares.chunks(seen)) {
                of_softmax(shares, scale, dscores);
            }

            let by_k = Matrix { k: seen, n: depth, elements: of_k, turned: false };
            T::multiply(m, dscores, false, by_k, &mut sums[..m * depth], run)?;
            add(&sums[..m * depth], q, head, rows.start, depth, outs[to_q]);
            let by_q = Matrix { k: m, n: depth, elements: of_q, turned: false };
            T::multiply(seen, dscores, true, by_q, &mut sums[..seen * depth], run)?;
            add(&sums[..seen * depth], k, of_key, 0, depth, outs[to_k]);
            let by_dy = Matrix { k: m, n: width, elements: dy, turned: false };
            T::multiply(seen, shares, true, by_dy, &mut sums[..seen * width], run)?;
            add(&sums[..seen * width], v, of_key, 0, width, outs[to_v]);
        }
        for scratch in [all_dy, all_q, all_k, all_v, shares, dscores, sums] {
            run.give(scratch);
        }
        Ok(())
    }

    /// How many keys query `index` may look at.
    fn visible(&self, index: usize) -> usize {
        let &Plan { queries, keys, .. } = self.plan;
        if self.causal { (keys + index + 1).saturating_sub(queries).min(keys) } else { keys }
    }

    /// softmax(scale scores + mask), for the scores of queries `rows` by the first `seen` keys.
    fn share(
        &self,
        [batch, head]: [usize; 2],
        rows: Range<usize>,
        seen: usize,
        scores: &mut [T],
        shares: &mut [T],
        run: &Run<'_>,
    ) {
        let scale = T::from_f64(self.plan.scale);
        let lines = scores.chunks_mut(seen).zip(shares.chunks_mut(seen));
        for (query, (scores, shares)) in rows.zip(lines) {
            let visible = self.visible(query).min(seen);
            let (scores, _) = scores.split_at_mut(visible);
            let (shares, hidden) = shares.split_at_mut(visible);
            hidden.fill(T::default());
            scores.iter_mut().for_each(|score| *score = score.mul(scale));
            if let Some((strides, mask)) = self.plan.mask.zip(self.mask) {
                let mask = &mask[batch * strides[0] + head * strides[1] + query * strides[2]..];
                match strides[3] {
                    0 => scores.iter_mut().for_each(|score| *score = score.add(mask[0])),
                    _ => scores.iter_mut().zip(mask).for_each(|(s, &mask)| *s = s.add(mask)),
                }
            }
            // A query that may look at nothing takes from nothing.
            let nothing = T::from_f64(f64::NEG_INFINITY);
            match scores.iter().all(|&score| score == nothing) {
                true => shares.fill(T::default()),
                false => T::softmax(scores, shares, run),
            }
        }
    }
}

/// The rows of one head, one after the other.
fn gathered<T: Multiplies>(
    from: &[T],
    place: Place,
    [batch, head]: [usize; 2],
    rows: usize,
    width: usize,
    run: &Run<'_>,
) -> Result<Vec<T>, OpError> {
    let mut all = run.scratch::<T>(rows * width)?;
    for (row, to) in all.chunks_exact_mut(width).enumerate() {
        to.copy_from_slice(&from[place.at(batch, head, row)..][..width]);
    }
    Ok(all)
}

/// Adds rows to where those from `first` on of one head lie in their batch.
fn add<T: Multiplies>(
    rows: &[T],
    place: Place,
    head: usize,
    first: usize,
    width: usize,
    out: &mut [T],
) {
    for (row, from) in rows.chunks_exact(width).enumerate() {
        let to = &mut out[place.at(0, head, first + row)..][..width];
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = to.add(from));
    }
}

wide! {
    /// In the place of dshares: scale shares (dshares - sum(shares dshares)).
    fn of_softmax(shares: &'a [T], scale: T, dshares: &'a mut [T]) -> () {
        let total = T::narrow(dot(shares, dshares));
        for (d, &share) in dshares.iter_mut().zip(shares) {
            *d = share.mul(d.sub(total)).mul(scale);
        }
    }
}
