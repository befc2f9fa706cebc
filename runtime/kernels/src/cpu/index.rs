//! Picking and placing elements by indices.

use std::borrow::Cow;

use innkeeper_tensor::{DType, Element, Shape, Tensor};

use crate::cpu::dispatch::{numeric, refused, word};
use crate::cpu::memory::{elements, indices, tensor, words};
use crate::cpu::number::{Into64, Number};
use crate::cpu::pieces::{fill, fill_by};
use crate::cpu::walk::{Walk, around, strides};
use crate::error::invalid;
use crate::infer::index::{along, nd};
use crate::{Index, OpError, Run, Scatter};

/// Updates between two looks at whether to stop.
const UPDATES: usize = 1 << 16;

/// All results of an operation that was checked.
pub(super) fn index(
    op: Index,
    results: Vec<(DType, Shape)>,
    inputs: &[&Tensor],
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let name = op.name();
    let Some((dtype, shape)) = results.first().cloned() else {
        return Err(invalid(name, "has no result"));
    };
    match (op, inputs) {
        (Index::GatherElements { axis }, [data, by]) => {
            let axis = along(name, data.shape(), by.shape(), axis)?;
            let result = word!(dtype, W => {
                let out = gather_elements::<W>(name, data, by, axis, run)?;
                tensor(dtype, shape, out)
            })?;
            Ok(vec![result])
        }
        (Index::GatherNd { batch_dims }, [data, by]) => {
            let result = word!(dtype, W => {
                let out = gather_nd::<W>(name, data, by, batch_dims, &shape, run)?;
                tensor(dtype, shape, out)
            })?;
            Ok(vec![result])
        }
        (Index::ScatterElements { axis, reduction }, [data, by, updates]) => {
            let axis = along(name, data.shape(), by.shape(), axis)?;
            let at = places(name, data, by, axis, run)?;
            Ok(vec![scatter(reduction, data, updates, &at, 1, run)?])
        }
        (Index::ScatterNd { reduction }, [data, by, updates]) => {
            let (at, tail) = rows(name, data, by, 0)?;
            Ok(vec![scatter(reduction, data, updates, &at, tail, run)?])
        }
        (Index::OneHot { axis, depth }, [by, values]) => {
            let axis = crate::infer::axes::axis(name, axis, by.shape().rank() + 1)?;
            Ok(vec![one_hot(dtype, shape, by, values, axis, depth, run)?])
        }
        (Index::NonZero, [x]) => non_zero(x, results, run),
        (Index::Compress { axis }, [x, condition]) => {
            let axis = match axis {
                Some(axis) => Some(crate::infer::axes::axis(name, axis, x.shape().rank())?),
                None => None,
            };
            compress(x, condition, axis, results, run)
        }
        (Index::Unique { sorted }, [x]) => {
            numeric!(dtype, T => unique::<T>(x, sorted, results, run))
        }
        _ => Err(invalid(name, "wrong number of operands")),
    }
}

/// Where `index` points among `size` positions.
fn position(op: &str, index: i64, size: usize) -> Result<usize, OpError> {
    // A shape's sizes fit into an i64, so that adding one to a negative number does not overflow.
    let from_start = if index < 0 { index + size as i64 } else { index };
    match usize::try_from(from_start) {
        Ok(position) if position < size => Ok(position),
        _ => Err(invalid(
            op,
            format_args!("index {index} must be from -{size} to {size} (excluded)"),
        )),
    }
}

/// The elements' offsets in data that indices along an axis mean, each checked.
fn places(
    op: &str,
    data: &Tensor,
    by: &Tensor,
    axis: usize,
    run: &Run<'_>,
) -> Result<Vec<i64>, OpError> {
    let by_index = indices(by)?;
    let size = data.shape().dims()[axis];
    let strides = strides(data.shape());
    let stride = strides[axis];
    let dims = by.shape().dims().iter().enumerate().rev();
    let walk =
        Walk::strided(dims.map(|(dim, &len)| (len, [if dim == axis { 0 } else { strides[dim] }])));
    let (_, [step]) = walk.inner();
    fill::<i64>(run, by_index.len(), |start, out| {
        let mut done = 0;
        let mut result = Ok(());
        walk.spans(start..start + out.len(), |[at], len| {
            for i in done..done + len {
                match position(op, by_index[start + i], size) {
                    Ok(position) => out[i] = (at + (i - done) * step + position * stride) as i64,
                    Err(error) => result = Err(error),
                }
            }
            done += len;
        });
        result
    })
}

/// The offsets in data that rows of indices mean, each checked, and how many elements are at each.
fn rows(
    op: &str,
    data: &Tensor,
    by: &Tensor,
    batch_dims: usize,
) -> Result<(Vec<i64>, usize), OpError> {
    let nd = nd(op, data.shape(), by.shape(), batch_dims)?;
    let tail: usize = nd.tail.iter().product();
    let each: usize = nd.pointed.iter().product::<usize>() * tail;
    let by_index = indices(by)?;
    let m = nd.pointed.len();
    let count = by_index.len() / m;
    let per_batch = (count / nd.batch.max(1)).max(1);
    let row = |(index, row): (usize, &[i64])| {
        let mut offset = 0;
        for (&index, &size) in row.iter().zip(nd.pointed) {
            offset = offset * size + position(op, index, size)?;
        }
        Ok((index / per_batch * each + offset * tail) as i64)
    };
    let at = by_index.chunks_exact(m).enumerate().map(row).collect::<Result<_, OpError>>()?;
    Ok((at, tail))
}

fn gather_elements<W: Element + Default>(
    op: &str,
    data: &Tensor,
    by: &Tensor,
    axis: usize,
    run: &Run<'_>,
) -> Result<Vec<W>, OpError> {
    let from = words::<W>(data);
    let at = places(op, data, by, axis, run)?;
    fill(run, at.len(), |start, out| {
        out.iter_mut().zip(&at[start..]).for_each(|(out, &at)| *out = from[at as usize]);
        Ok(())
    })
}

fn gather_nd<W: Element + Default>(
    op: &str,
    data: &Tensor,
    by: &Tensor,
    batch_dims: usize,
    shape: &Shape,
    run: &Run<'_>,
) -> Result<Vec<W>, OpError> {
    let (at, tail) = rows(op, data, by, batch_dims)?;
    let from = words::<W>(data);
    let size = ((1usize << 15) / tail.max(1)).max(1).saturating_mul(tail);
    fill_by(run, shape.elements(), size, |start, out| {
        for (out, &at) in out.chunks_mut(tail.max(1)).zip(&at[start / tail.max(1)..]) {
            out.copy_from_slice(&from[at as usize..at as usize + tail]);
        }
        Ok(())
    })
}

/// Data with `tail` neighbouring updates at each place.
fn scatter(
    reduction: Scatter,
    data: &Tensor,
    updates: &Tensor,
    at: &[i64],
    tail: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let dtype = data.dtype();
    macro_rules! combined {
        ($T:ident, $combine:expr) => {{
            let (from, updates) = (elements::<$T>(data)?, elements::<$T>(updates)?);
            let out = placed::<$T>(from, &updates, at, tail, $combine, run)?;
            tensor(dtype, data.shape().clone(), out)
        }};
    }
    match reduction {
        Scatter::Replace => word!(dtype, W => {
            let (from, updates) = (words::<W>(data), words::<W>(updates));
            let out = placed::<W>(from, &updates, at, tail, |_, update| update, run)?;
            tensor(dtype, data.shape().clone(), out)
        }),
        Scatter::Add => numeric!(dtype, T => combined!(T, T::add)),
        Scatter::Mul => numeric!(dtype, T => combined!(T, T::mul)),
        Scatter::Min => numeric!(dtype, T => combined!(T, Number::minimum)),
        Scatter::Max => numeric!(dtype, T => combined!(T, Number::maximum)),
    }
}

fn placed<T: Element>(
    from: Cow<'_, [T]>,
    updates: &[T],
    at: &[i64],
    tail: usize,
    combine: impl Fn(T, T) -> T,
    run: &Run<'_>,
) -> Result<Vec<T>, OpError> {
    let mut out = run.room(from.len())?;
    out.extend_from_slice(&from);
    if tail == 0 {
        return Ok(out);
    }
    let some = (UPDATES / tail).max(1);
    for (at, updates) in at.chunks(some).zip(updates.chunks(some.saturating_mul(tail))) {
        run.check()?;
        for (&at, updates) in at.iter().zip(updates.chunks(tail)) {
            let there = &mut out[at as usize..at as usize + tail];
            there.iter_mut().zip(updates).for_each(|(there, &new)| *there = combine(*there, new));
        }
    }
    Ok(out)
}

fn one_hot(
    dtype: DType,
    shape: Shape,
    by: &Tensor,
    values: &Tensor,
    axis: usize,
    depth: usize,
    run: &Run<'_>,
) -> Result<Tensor, OpError> {
    let by = indices(by)?;
    let (_, _, inner) = around(&shape, axis);
    word!(dtype, W => {
        let values = words::<W>(values);
        let &[off, on] = &values[..] else { return Err(refused(dtype)) };
        let mut out = run.filled(shape.elements(), off)?;
        if !out.is_empty() {
            for (row, &index) in by.iter().enumerate() {
                if let Ok(position) = position("one-hot", index, depth) {
                    out[(row / inner * depth + position) * inner + row % inner] = on;
                }
            }
        }
        tensor(dtype, shape, out)
    })
}

/// Which elements are not zero, and not false.
fn holds(x: &Tensor) -> Result<Vec<bool>, OpError> {
    if x.dtype() == DType::Bool {
        return Ok(x.as_bytes().iter().map(|&byte| byte != 0).collect());
    }
    numeric!(x.dtype(), T => Ok(elements::<T>(x)?.iter().map(|x| !x.is_zero()).collect()))
}

fn non_zero(
    x: &Tensor,
    results: Vec<(DType, Shape)>,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let dims = x.shape().dims();
    let total = x.shape().elements();
    let mut places = run.filled(dims.len() * total, 0i64)?;
    let mut count = 0;
    for (index, _) in holds(x)?.iter().enumerate().filter(|(_, holds)| **holds) {
        let mut rest = index;
        for (dim, &size) in dims.iter().enumerate().rev() {
            places[dim * total + count] = (rest % size) as i64;
            rest /= size;
        }
        count += 1;
    }
    all(results, [places, vec![count as i64]])
}

fn compress(
    x: &Tensor,
    condition: &Tensor,
    axis: Option<usize>,
    results: Vec<(DType, Shape)>,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let (blocks, size, inner) = match axis {
        Some(axis) => around(x.shape(), axis),
        None => (1, x.shape().elements(), 1),
    };
    let chosen: Vec<usize> = (condition.as_bytes().iter().enumerate())
        .filter_map(|(index, &byte)| (byte != 0).then_some(index))
        .collect();
    let [(dtype, shape), (_, scalar)] =
        <[_; 2]>::try_from(results).map_err(|_| invalid("compress", "has two results"))?;
    let kept = word!(dtype, W => {
        let from = words::<W>(x);
        let mut out = run.filled(shape.elements(), W::default())?;
        if !out.is_empty() {
            for block in 0..blocks {
                for (place, &index) in chosen.iter().enumerate() {
                    let (to, at) = ((block * size + place) * inner, (block * size + index) * inner);
                    out[to..to + inner].copy_from_slice(&from[at..at + inner]);
                }
            }
        }
        tensor(dtype, shape, out)
    })?;
    Ok(vec![kept, tensor(DType::Int64, scalar, vec![chosen.len() as i64])?])
}

fn unique<T: Number + Into64>(
    x: &Tensor,
    sorted: bool,
    results: Vec<(DType, Shape)>,
    run: &Run<'_>,
) -> Result<Vec<Tensor>, OpError> {
    let from = elements::<T>(x)?;
    let mut by_value: Vec<usize> = (0..from.len()).collect();
    by_value.sort_by(|&a, &b| super::order::compare(from[a], from[b]).then(a.cmp(&b)));
    // The first places of the different values, in ascending order of the values.
    let mut groups: Vec<(usize, usize)> = Vec::new();
    let mut group_of = run.filled(from.len(), 0i64)?;
    for &index in &by_value {
        match groups.last_mut() {
            Some((first, count)) if super::order::compare(from[*first], from[index]).is_eq() => {
                *count += 1;
            }
            _ => groups.push((index, 1)),
        }
        group_of[index] = groups.len() as i64 - 1;
    }
    let mut ranks: Vec<usize> = (0..groups.len()).collect();
    if !sorted {
        ranks.sort_by_key(|&group| groups[group].0);
    }
    let mut rank_of = vec![0i64; groups.len()];
    ranks.iter().enumerate().for_each(|(rank, &group)| rank_of[group] = rank as i64);
    let mut values = run.filled(from.len(), T::default())?;
    let mut firsts = run.filled(from.len(), 0i64)?;
    let mut counts = run.filled(from.len(), 0i64)?;
    for (rank, &group) in ranks.iter().enumerate() {
        let (first, count) = groups[group];
        values[rank] = from[first];
        firsts[rank] = first as i64;
        counts[rank] = count as i64;
    }
    group_of.iter_mut().for_each(|group| *group = rank_of[*group as usize]);
    let mut results = results.into_iter();
    let Some((dtype, shape)) = results.next() else { return Err(refused(x.dtype())) };
    let mut tensors = vec![tensor(dtype, shape, values)?];
    let rest = [firsts, group_of, counts, vec![groups.len() as i64]];
    tensors.extend(all(results.collect(), rest)?);
    Ok(tensors)
}

/// Tensors of those shapes, all INT64.
fn all<const N: usize>(
    results: Vec<(DType, Shape)>,
    elements: [Vec<i64>; N],
) -> Result<Vec<Tensor>, OpError> {
    let pairs = results.into_iter().zip(elements);
    pairs.map(|((dtype, shape), elements)| tensor(dtype, shape, elements)).collect()
}
