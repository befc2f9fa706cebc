//! Matrix products with few rows, where reading the right side is all the work.
//!
//! The loops have a fixed number of independent accumulators, so that the compiler turns them into vector code for
//! whatever the processor has, and so that the result is the same on every processor.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::cpu::gemm::{Matrices, Real};

/// Accumulators of one sum.
const LANES: usize = 16;
/// Rows of a transposed right side that are read side by side.
const ROWS: usize = 4;
/// Columns of a plain right side that are summed side by side.
const COLUMNS: usize = 64;

/// `out += a b` for some of the columns, which are all that `out` has. Slices that do not fit the sizes give a wrong
/// result or a panic and nothing worse.
pub(super) fn multiply<T: Real>(matrices: &Matrices<'_, T>, columns: Range<usize>, out: &mut [T]) {
    Arch::new().dispatch(Multiply { matrices, columns, out });
}

struct Multiply<'a, 'b, T> {
    matrices: &'a Matrices<'b, T>,
    columns: Range<usize>,
    out: &'a mut [T],
}

impl<T: Real> WithSimd for Multiply<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let &Matrices { k, n, a, b, b_transposed, .. } = self.matrices;
        if k == 0 || self.columns.is_empty() {
            return;
        }
        if b_transposed {
            let b = &b[self.columns.start * k..self.columns.end * k];
            dots(k, self.columns.len(), a, b, self.out);
        } else {
            columns(k, n, a, &b[self.columns.start..], self.columns.len(), self.out);
        }
    }
}

/// Each result is a row of a times a row of b.
#[inline(always)]
fn dots<T: Real>(k: usize, n: usize, a: &[T], b: &[T], out: &mut [T]) {
    for (block, rows) in b.chunks(ROWS * k).enumerate() {
        for (x, out) in a.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
            let out = &mut out[block * ROWS..];
            if rows.len() == ROWS * k {
                let sums = dots_of_four(x, rows);
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = out.add(sum));
            } else {
                for (out, row) in out.iter_mut().zip(rows.chunks_exact(k)) {
                    *out = out.add(dot(x, row));
                }
            }
        }
    }
}

/// x times each of the four rows, which lie one after the other.
#[inline(always)]
fn dots_of_four<T: Real>(x: &[T], rows: &[T]) -> [T; ROWS] {
    let k = x.len();
    let rows: [&[T]; ROWS] = std::array::from_fn(|row| &rows[row * k..(row + 1) * k]);
    let mut acc = [[T::default(); LANES]; ROWS];
    let (chunks, rest) = x.as_chunks::<LANES>();
    let of_rows: [&[[T; LANES]]; ROWS] = rows.map(|row| row.as_chunks::<LANES>().0);
    for (index, chunk) in chunks.iter().enumerate() {
        for (acc, row) in acc.iter_mut().zip(of_rows) {
            multiply_add(acc, chunk, &row[index]);
        }
    }
    let rest = padded(rest);
    for (acc, row) in acc.iter_mut().zip(rows) {
        multiply_add(acc, &rest, &padded(row.as_chunks::<LANES>().1));
    }
    acc.map(total)
}

#[inline(always)]
fn dot<T: Real>(x: &[T], row: &[T]) -> T {
    let mut acc = [T::default(); LANES];
    let ((chunks, rest), (of_row, rest_of_row)) = (x.as_chunks(), row.as_chunks());
    for (chunk, of_row) in chunks.iter().zip(of_row) {
        multiply_add(&mut acc, chunk, of_row);
    }
    multiply_add(&mut acc, &padded(rest), &padded(rest_of_row));
    total(acc)
}

#[inline(always)]
fn multiply_add<T: Real>(acc: &mut [T; LANES], x: &[T; LANES], y: &[T; LANES]) {
    for lane in 0..LANES {
        acc[lane] = acc[lane].add(x[lane].mul(y[lane]));
    }
}

/// What is left over, with zeros after it.
#[inline(always)]
fn padded<T: Real>(rest: &[T]) -> [T; LANES] {
    let mut padded = [T::default(); LANES];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}

/// The sum of the lanes, as a tree.
#[inline(always)]
fn total<T: Real>(mut lanes: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = lanes[lane].add(lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Each row of the result is the sum of b's rows, weighted by a row of a. The rows of b lie `n` apart, and their first
/// `width` elements count.
#[inline(always)]
fn columns<T: Real>(k: usize, n: usize, a: &[T], b: &[T], width: usize, out: &mut [T]) {
    for (x, out) in a.chunks_exact(k).zip(out.chunks_exact_mut(width)) {
        let (blocks, rest) = out.as_chunks_mut::<COLUMNS>();
        for (index, block) in blocks.iter_mut().enumerate() {
            let mut acc = *block;
            for (&weight, row) in x.iter().zip(b.chunks(n)) {
                let row = &row[index * COLUMNS..(index + 1) * COLUMNS];
                for (acc, &element) in acc.iter_mut().zip(row) {
                    *acc = acc.add(weight.mul(element));
                }
            }
            *block = acc;
        }
        let done = width - rest.len();
        for (&weight, row) in x.iter().zip(b.chunks(n)) {
            for (out, &element) in rest.iter_mut().zip(&row[done..width]) {
                *out = out.add(weight.mul(element));
            }
        }
    }
}
