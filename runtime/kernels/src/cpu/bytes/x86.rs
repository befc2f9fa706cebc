//! Tiles of bytes by AVX-512 VNNI, and by AVX2 in 16-bit numbers, whose pairs of products cannot overflow.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{COLUMNS_MAX, Kernel, Tile};

pub(super) static VNNI: Kernel = Kernel { rows_max: 12, columns: 32, wide: false, tile: vnni };
pub(super) static AVX2: Kernel = Kernel { rows_max: 6, columns: 8, wide: true, tile: avx2 };

/// How many bytes ahead b is fetched where there are enough rows to hide that.
const AHEAD: usize = 1024;

macro_rules! by_rows {
    ($name:ident, $of:ident, $($rows:literal)*) => {
        /// # Safety
        /// As [`Kernel::tile`] says.
        unsafe fn $name(rows: usize, tile: &Tile) {
            // SAFETY: the caller answers for the instructions and for everything that `Tile` names.
            unsafe {
                match rows {
                    $($rows => $of::<$rows>(tile),)*
                    _ => {}
                }
            }
        }
    };
}
by_rows!(vnni, vnni_rows, 1 2 3 4 5 6 7 8 9 10 11 12);
by_rows!(avx2, avx2_rows, 1 2 3 4 5 6);

/// # Safety
/// As [`Kernel::tile`] says.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline(never)]
unsafe fn vnni_rows<const ROWS: usize>(tile: &Tile) {
    let &Tile { quads, mut a, row_a, mut b, out } = tile;
    let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
    for _ in 0..quads {
        // SAFETY: a group of the panel is 128 bytes, and of each row of a 4; there are `quads` of both.
        unsafe {
            if ROWS > 4 {
                // What is fetched ahead need not exist.
                let ahead = b.wrapping_add(AHEAD);
                _mm_prefetch::<_MM_HINT_T0>(ahead);
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64));
            }
            let columns = [_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(64).cast())];
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(a.add(row * row_a).cast::<i32>().read_unaligned());
                sums[0] = _mm512_dpbusd_epi32(sums[0], x, columns[0]);
                sums[1] = _mm512_dpbusd_epi32(sums[1], x, columns[1]);
            }
            a = a.add(4);
            b = b.add(128);
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: there is room for the row's columns.
        unsafe {
            _mm512_storeu_si512(out.add(row * COLUMNS_MAX).cast(), sums[0]);
            _mm512_storeu_si512(out.add(row * COLUMNS_MAX + 16).cast(), sums[1]);
        }
    }
}

/// # Safety
/// As [`Kernel::tile`] says.
#[target_feature(enable = "avx2")]
#[inline(never)]
unsafe fn avx2_rows<const ROWS: usize>(tile: &Tile) {
    let &Tile { quads, mut a, row_a, mut b, out } = tile;
    // Of each column two sums that lie side by side.
    let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
    for _ in 0..quads {
        // SAFETY: a group of the panel is 32 bytes, and of each row of a 8; there are `quads` of both.
        unsafe {
            let columns = [
                _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast())),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(b.add(16).cast())),
            ];
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi64x(a.add(row * row_a).cast::<i64>().read_unaligned());
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(x, columns[0]));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(x, columns[1]));
            }
            a = a.add(8);
            b = b.add(32);
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // Columns 0, 1, 4, 5, 2, 3, 6, 7.
        let pairs = _mm256_hadd_epi32(sums[0], sums[1]);
        let columns = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
        // SAFETY: there is room for the row's columns.
        unsafe { _mm256_storeu_si256(out.add(row * COLUMNS_MAX).cast(), columns) };
    }
}
