//! Sums, means and extremes over any set of dimensions.

use std::sync::{Mutex, PoisonError};

use innkeeper_tensor::{DType, RANK_MAX, Shape, Tensor};

use crate::cpu::dispatch::{floating, numeric};
use crate::cpu::memory::{elements, tensor};
use crate::cpu::number::Number;
use crate::cpu::walk::{Walk, around};
use crate::{OpError, Reduce, Run};

/// Accumulators that run side by side over neighbouring elements of one sum.
const LANES: usize = 16;
/// Neighbouring results that are worked out together, so that memory is read in order.
const COLUMNS: usize = 64;
/// Elements that one thread folds in one go.
const PIECE: usize = 1 << 15;
/// Parts of the rows that threads fold by themselves, whatever threads there are, so that sums do not depend on them.
const PARTS_MAX: usize = 16;

pub(super) fn reduce(
    op: Reduce,
    shape: Shape,
    x: &Tensor,
    gone: &[bool; RANK_MAX],
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let plan = Plan::new(x.shape(), gone);
    match op {
        Reduce::Sum => numeric!(x.dtype(), T => folded::<T, Sum>(&plan, shape, x, run)),
        Reduce::Product => numeric!(x.dtype(), T => folded::<T, Product>(&plan, shape, x, run)),
        Reduce::Mean => floating!(x.dtype(), T => folded::<T, Mean>(&plan, shape, x, run)),
        Reduce::Max => numeric!(x.dtype(), T => folded::<T, Max>(&plan, shape, x, run)),
        Reduce::Min => numeric!(x.dtype(), T => folded::<T, Min>(&plan, shape, x, run)),
    }
}

pub(super) fn argmax(
    shape: Shape,
    x: &Tensor,
    axis: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    numeric!(x.dtype(), T => {
        let mut out = run.room(shape.elements())?;
        if shape.elements() > 0 {
            let (blocks, size, inner) = around(x.shape(), axis);
            let from = elements::<T>(x)?;
            for block in from.chunks_exact(size * inner).take(blocks) {
                out.extend((0..inner).map(|column| first_largest(block, column, inner)));
            }
        }
        tensor::<i64>(DType::Int64, shape, out)
    })
}

/// The position, in steps of `step` from `start` on, of the first largest element.
fn first_largest<T: Number>(block: &[T], start: usize, step: usize) -> i64 {
    let column = block.iter().skip(start).step_by(step);
    let mut best = (0, T::LOWEST);
    for (index, &element) in column.enumerate() {
        let larger = element > best.1 || (element.is_nan() && !best.1.is_nan());
        if larger || index == 0 {
            best = (index, element);
        }
    }
    best.0 as i64
}

/// What is done with the elements that come to one result.
trait Fold<T> {
    type Acc: Copy + Send;
    fn start() -> Self::Acc;
    fn step(acc: Self::Acc, element: T) -> Self::Acc;
    fn join(a: Self::Acc, b: Self::Acc) -> Self::Acc;
    fn end(acc: Self::Acc, count: usize) -> T;
}

struct Sum;
struct Product;
struct Mean;
struct Max;
struct Min;

impl<T: Number> Fold<T> for Sum {
    type Acc = T::Sum;
    #[inline(always)]
    fn start() -> T::Sum {
        T::Sum::default()
    }
    #[inline(always)]
    fn step(acc: T::Sum, element: T) -> T::Sum {
        T::plus(acc, element.widen())
    }
    #[inline(always)]
    fn join(a: T::Sum, b: T::Sum) -> T::Sum {
        T::plus(a, b)
    }
    #[inline(always)]
    fn end(acc: T::Sum, _: usize) -> T {
        T::narrow(acc)
    }
}

impl<T: Number> Fold<T> for Product {
    type Acc = T::Sum;
    #[inline(always)]
    fn start() -> T::Sum {
        T::UNIT
    }
    #[inline(always)]
    fn step(acc: T::Sum, element: T) -> T::Sum {
        T::times(acc, element.widen())
    }
    #[inline(always)]
    fn join(a: T::Sum, b: T::Sum) -> T::Sum {
        T::times(a, b)
    }
    #[inline(always)]
    fn end(acc: T::Sum, _: usize) -> T {
        T::narrow(acc)
    }
}

impl<T: Number<Sum = f64>> Fold<T> for Mean {
    type Acc = f64;
    #[inline(always)]
    fn start() -> f64 {
        0.0
    }
    #[inline(always)]
    fn step(acc: f64, element: T) -> f64 {
        acc + element.widen()
    }
    #[inline(always)]
    fn join(a: f64, b: f64) -> f64 {
        a + b
    }
    #[inline(always)]
    fn end(acc: f64, count: usize) -> T {
        T::narrow(acc / count as f64)
    }
}

macro_rules! extreme {
    ($name:ident, $start:ident, $pick:ident) => {
        impl<T: Number> Fold<T> for $name {
            type Acc = T;
            #[inline(always)]
            fn start() -> T {
                T::$start
            }
            #[inline(always)]
            fn step(acc: T, element: T) -> T {
                acc.$pick(element)
            }
            #[inline(always)]
            fn join(a: T, b: T) -> T {
                a.$pick(b)
            }
            #[inline(always)]
            fn end(acc: T, _: usize) -> T {
                acc
            }
        }
    };
}
extreme!(Max, LOWEST, maximum);
extreme!(Min, HIGHEST, minimum);

/// A reduction as runs. Neighbouring dimensions of one kind are one, so that kept and reduced ones alternate: `columns`
/// is the innermost if it is kept (else 1), `run` the innermost reduced one, at a stride of `columns`.
struct Plan {
    columns: usize,
    run: usize,
    kept: Walk<1>,
    reduced: Walk<1>,
    /// How many elements come to one result.
    count: usize,
}

impl Plan {
    fn new(shape: &Shape, gone: &[bool; RANK_MAX]) -> Plan {
        // Size, stride and kind, innermost first.
        let mut groups = [(1, 1, false); RANK_MAX];
        let mut len = 0;
        let mut stride = 1;
        for (&size, &gone) in shape.dims().iter().zip(gone).rev().filter(|(size, _)| **size != 1) {
            match groups[..len].last_mut() {
                Some((run, _, kind)) if *kind == gone => *run *= size,
                _ => {
                    groups[len] = (size, stride, gone);
                    len += 1;
                }
            }
            stride *= size;
        }
        let groups = &groups[..len];
        let of_kind = |kind: bool| {
            groups.iter().filter(move |group| group.2 == kind).map(|group| (group.0, [group.1]))
        };
        let inner_kept = groups.first().is_some_and(|group| !group.2);
        Plan {
            columns: if inner_kept { groups[0].0 } else { 1 },
            run: of_kind(true).next().map_or(1, |(size, _)| size),
            kept: Walk::points(of_kind(false).skip(usize::from(inner_kept))),
            reduced: Walk::points(of_kind(true).skip(1)),
            count: of_kind(true).map(|(size, _)| size).product(),
        }
    }
}

fn folded<T: Number, F: Fold<T>>(
    plan: &Plan,
    shape: Shape,
    x: &Tensor,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let from = elements::<T>(x)?;
    if from.is_empty() {
        let out = run.filled(shape.elements(), F::end(F::start(), 0))?;
        return tensor(x.dtype(), shape, out);
    }
    let parts = (from.len() / PIECE).min(PARTS_MAX).min(plan.run / 2);
    if parts > 1 && plan.columns == shape.elements() && plan.run == plan.count {
        let out = fold_rows::<T, F>(plan, &from, parts, run)?;
        return tensor(x.dtype(), shape, out);
    }
    let mut out = run.room(shape.elements())?;
    if plan.columns == 1 {
        plan.kept.points_by(&mut |kept| {
            let mut acc = F::start();
            plan.reduced.points_by(&mut |at| {
                let start = kept + at;
                acc = F::join(acc, fold_run::<T, F>(&from[start..start + plan.run]));
            });
            out.push(F::end(acc, plan.count));
        });
    } else {
        plan.kept.points_by(&mut |kept| {
            for column in (0..plan.columns).step_by(COLUMNS) {
                fold_columns::<T, F>(plan, &from[kept + column..], plan.columns - column, &mut out);
            }
        });
    }
    tensor(x.dtype(), shape, out)
}

/// Over the rows of a matrix, each of so many parts of them on a thread.
fn fold_rows<T: Number, F: Fold<T>>(
    plan: &Plan,
    from: &[T],
    parts: usize,
    run: &Run<'_>,
) -> Result<Vec<T>, OpError> {
    let rows = plan.run.div_ceil(parts);
    let folded: Vec<Mutex<Vec<F::Acc>>> = (0..parts).map(|_| Mutex::default()).collect();
    run.parallel(parts, |part| {
        let mut acc = vec![F::start(); plan.columns];
        for row in from.chunks(plan.columns).skip(part * rows).take(rows) {
            acc.iter_mut().zip(row).for_each(|(acc, &element)| *acc = F::step(*acc, element));
        }
        *folded[part].lock().unwrap_or_else(PoisonError::into_inner) = acc;
        Ok(())
    })?;
    let mut all = vec![F::start(); plan.columns];
    for part in folded {
        let part = part.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut().zip(part).for_each(|(all, part)| *all = F::join(*all, part));
    }
    let mut out = run.room(plan.columns)?;
    out.extend(all.into_iter().map(|acc| F::end(acc, plan.count)));
    Ok(out)
}

/// Over neighbouring elements.
#[inline(never)]
fn fold_run<T: Number, F: Fold<T>>(run: &[T]) -> F::Acc {
    let mut lanes = [F::start(); LANES];
    let (chunks, rest) = run.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &element) in lanes.iter_mut().zip(chunk) {
            *lane = F::step(*lane, element);
        }
    }
    for (lane, &element) in lanes.iter_mut().zip(rest) {
        *lane = F::step(*lane, element);
    }
    lanes.into_iter().fold(F::start(), F::join)
}

/// Over rows, for as many as `left` but at most [`COLUMNS`] neighbouring columns at the start of `from`.
#[inline(never)]
fn fold_columns<T: Number, F: Fold<T>>(plan: &Plan, from: &[T], left: usize, out: &mut Vec<T>) {
    let width = left.min(COLUMNS);
    let mut acc = [F::start(); COLUMNS];
    plan.reduced.points_by(&mut |at| {
        for row in 0..plan.run {
            let start = at + row * plan.columns;
            for (acc, &element) in acc.iter_mut().zip(&from[start..start + width]) {
                *acc = F::step(*acc, element);
            }
        }
    });
    out.extend(acc[..width].iter().map(|&acc| F::end(acc, plan.count)));
}
