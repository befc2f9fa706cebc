//! A long result written in pieces, by as many threads as a run has.
//!
//! What is called for a piece is passed as `dyn`, so that a loop is compiled once for each type of elements and not for
//! each of its many callers.

use std::sync::{Mutex, PoisonError};

use innkeeper_tensor::Element;

use crate::{OpError, Run};

/// Elements that one piece has where an element takes a few nanoseconds at most.
pub(super) const PIECE: usize = 1 << 15;

/// Called with where a part of the elements starts and the part.
type Piece<'a, T> = dyn Fn(usize, &mut [T]) -> Result<(), OpError> + Sync + 'a;

/// `len` elements that `piece` writes, called with where a part of them starts and the part. It must write all of it.
pub(super) fn fill<T: Element + Default>(
    run: &Run<'_>,
    len: usize,
    piece: impl Fn(usize, &mut [T]) -> Result<(), OpError> + Sync,
) -> Result<Vec<T>, OpError> {
    filled(run, len, PIECE, &piece)
}

/// [`fill`] in pieces of `size` elements, the last one shorter.
pub(super) fn fill_by<T: Element + Default>(
    run: &Run<'_>,
    len: usize,
    size: usize,
    piece: impl Fn(usize, &mut [T]) -> Result<(), OpError> + Sync,
) -> Result<Vec<T>, OpError> {
    filled(run, len, size, &piece)
}

fn filled<T: Element + Default>(
    run: &Run<'_>,
    len: usize,
    size: usize,
    piece: &Piece<'_, T>,
) -> Result<Vec<T>, OpError> {
    let mut out = run.scratch(len)?;
    written(run, &mut out, size, piece)?;
    Ok(out)
}

/// Calls `piece` with where each part of `out` starts and the part, which has `size` elements, the last one fewer.
pub(super) fn write_by<T: Element>(
    run: &Run<'_>,
    out: &mut [T],
    size: usize,
    piece: impl Fn(usize, &mut [T]) -> Result<(), OpError> + Sync,
) -> Result<(), OpError> {
    written(run, out, size, &piece)
}

fn written<T: Element>(
    run: &Run<'_>,
    out: &mut [T],
    size: usize,
    piece: &Piece<'_, T>,
) -> Result<(), OpError> {
    if out.is_empty() {
        return Ok(());
    }
    if out.len() <= size {
        return piece(0, out);
    }
    let size = size.max(1);
    run.each_piece(out, size, &|index, part| piece(index * size, part))
}

/// [`write_by`] of two vectors that are equally long, in the same places.
pub(super) fn write_two_by<T: Element>(
    run: &Run<'_>,
    a: &mut [T],
    b: &mut [T],
    size: usize,
    piece: impl Fn(usize, &mut [T], &mut [T]) -> Result<(), OpError> + Sync,
) -> Result<(), OpError> {
    let size = size.max(1);
    let parts: Vec<Mutex<(&mut [T], &mut [T])>> =
        a.chunks_mut(size).zip(b.chunks_mut(size)).map(Mutex::new).collect();
    run.parallel(parts.len(), |index| {
        let mut part = parts[index].lock().unwrap_or_else(PoisonError::into_inner);
        let (a, b) = &mut *part;
        piece(index * size, a, b)
    })
}
