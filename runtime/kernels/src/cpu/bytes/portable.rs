//! Tiles of bytes in plain Rust.

#![allow(unsafe_code)]

use super::{COLUMNS_MAX, Kernel, Tile};

const COLUMNS: usize = 8;

pub(super) static PORTABLE: Kernel = Kernel { rows_max: 4, columns: COLUMNS, wide: true, tile };

/// # Safety
/// As [`Kernel::tile`] says.
unsafe fn tile(rows: usize, tile: &Tile) {
    for row in 0..rows {
        let mut sums = [0i32; COLUMNS];
        for quad in 0..tile.quads {
            // SAFETY: the tile's row of a and its panel of b have `quads` groups of four, as the caller says.
            let (a, b) = unsafe {
                let a = tile.a.add(row * tile.row_a + quad * 8).cast::<[i16; 4]>().read_unaligned();
                (a, &*tile.b.add(quad * COLUMNS * 4).cast::<[[i8; 4]; COLUMNS]>())
            };
            for (sum, b) in sums.iter_mut().zip(b) {
                for (&a, &b) in a.iter().zip(b) {
                    *sum = sum.wrapping_add(i32::from(a) * i32::from(b));
                }
            }
        }
        // SAFETY: there is room for the row's columns.
        unsafe { *tile.out.add(row * COLUMNS_MAX).cast::<[i32; COLUMNS]>() = sums };
    }
}
