//! Tiles in plain Rust, for processors without the instructions that the others use.

#![allow(unsafe_code)]

use super::tile::{Kernel, Tile};

const COLUMNS: usize = 16;

pub(super) static PORTABLE: Kernel = Kernel { rows_max: 4, columns: COLUMNS, tile };

/// # Safety
/// As [`Kernel::tile`] says.
unsafe fn tile(rows: usize, tile: &Tile) {
    for row in 0..rows {
        // SAFETY: the caller answers for everything that `Tile` names.
        unsafe { one(row, tile) }
    }
}

/// # Safety
/// As [`Kernel::tile`] says, and `row` is one of the tile's.
unsafe fn one(row: usize, tile: &Tile) {
    // SAFETY: a row of c, and a number for each column, as the caller says.
    let (out, mut sums) = unsafe {
        let out = &mut *tile.c.add(row * tile.row_c).cast::<[f32; COLUMNS]>();
        let start = if tile.start.is_null() { *out } else { *tile.start.cast::<[f32; COLUMNS]>() };
        (out, start)
    };
    for p in 0..tile.depth {
        // SAFETY: p is below the depth: an element of a, and a row of b.
        let (x, b) = unsafe {
            let b = &*tile.b.add(p * tile.row_b).cast::<[f32; COLUMNS]>();
            (*tile.a.add(row * tile.row_a + p), b)
        };
        for (sum, b) in sums.iter_mut().zip(b) {
            *sum += x * b;
        }
    }
    *out = sums;
}
