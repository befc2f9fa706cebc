//! Tiles by AVX-512 and by AVX2: two vectors of columns for each row, all sums in registers. And small squares by SSE.
//!
//! The kernels are never inlined: what they would be inlined into would take registers from them.

#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::tile::{Kernel, Tile};
use crate::cpu::turn::SQUARE;

/// A square whose rows are the columns of this one.
#[inline(always)]
pub(in crate::cpu) fn turned(square: [[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    let [a, b, c, d] = square.map(bytemuck::cast::<_, __m128>);
    // SAFETY: every processor of this architecture has SSE.
    let columns = unsafe {
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (high_ab, high_cd) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        [
            _mm_movelh_ps(ab, cd),
            _mm_movehl_ps(cd, ab),
            _mm_movelh_ps(high_ab, high_cd),
            _mm_movehl_ps(high_cd, high_ab),
        ]
    };
    columns.map(bytemuck::cast)
}

/// 12 rows of 2 vectors are 24 of the 32 registers.
pub(super) static AVX512: Kernel = Kernel { rows_max: 12, columns: 32, tile: avx512_tile };
/// 6 rows of 2 vectors are 12 of the 16 registers.
pub(super) static AVX2: Kernel = Kernel { rows_max: 6, columns: 16, tile: avx2::tile };

/// Steps of the depth that are done before the loop looks whether it is done.
const STEPS: usize = 4;
/// How far ahead b is fetched, in rows of a panel.
const AHEAD: usize = 16;

/// `$few` is how far ahead b is fetched for few rows, which wait for memory more than they multiply; 0 for not at all.
macro_rules! kernels {
    ($name:ident, $few:literal, $features:literal, $vector:ident, $lanes:literal, $zero:ident, $load:ident, $store:ident, $spread:ident, $fma:ident, $add:ident, $($rows:literal by $sets:literal),*) => {
        mod $name {
            use super::*;

            /// # Safety
            /// As [`Kernel::tile`] says.
            pub(super) unsafe fn tile(rows: usize, tile: &Tile) {
                // SAFETY: the caller answers for the instructions and for everything that `Tile` names.
                unsafe {
                    match rows {
                        $($rows => rows_by::<$rows, $sets>(tile),)*
                        _ => {}
                    }
                }
            }

            /// A tile of `ROWS` rows. Where they are too few to keep the multipliers busy, the depth is dealt to `SETS`
            /// sets of sums.
            ///
            /// # Safety
            /// As [`Kernel::tile`] says.
            #[target_feature(enable = $features)]
            #[inline(never)]
            unsafe fn rows_by<const ROWS: usize, const SETS: usize>(tile: &Tile) {
                let &Tile { depth, mut a, row_a, mut b, row_b, c, row_c, start } = tile;
                let mut sums = [[[$zero(); 2]; ROWS]; SETS];
                // SAFETY: the columns of a tile are two vectors, and all rows, columns and steps below are the tile's.
                // What is fetched ahead need not exist.
                unsafe {
                    for (row, sums) in sums[0].iter_mut().enumerate() {
                        let from = if start.is_null() { c.add(row * row_c).cast_const() } else { start };
                        *sums = [$load(from), $load(from.add($lanes))];
                    }
                    for _ in 0..depth / STEPS {
                        for step in 0..STEPS {
                            let rows_ahead = if SETS == 1 { AHEAD } else { $few };
                            if rows_ahead > 0 {
                                let ahead = b.wrapping_add((step + rows_ahead) * row_b);
                                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                            }
                            let b = b.add(step * row_b);
                            let columns = [$load(b), $load(b.add($lanes))];
                            for (row, sums) in sums[step % SETS].iter_mut().enumerate() {
                                let x = $spread(*a.add(row * row_a + step));
                                sums[0] = $fma(x, columns[0], sums[0]);
                                sums[1] = $fma(x, columns[1], sums[1]);
                            }
                        }
                        a = a.add(STEPS);
                        b = b.add(STEPS * row_b);
                    }
                    for step in 0..depth % STEPS {
                        let b = b.add(step * row_b);
                        let columns = [$load(b), $load(b.add($lanes))];
                        for (row, sums) in sums[0].iter_mut().enumerate() {
                            let x = $spread(*a.add(row * row_a + step));
                            sums[0] = $fma(x, columns[0], sums[0]);
                            sums[1] = $fma(x, columns[1], sums[1]);
                        }
                    }
                    for row in 0..ROWS {
                        let mut total = sums[0][row];
                        for set in &sums[1..] {
                            total = [$add(total[0], set[row][0]), $add(total[1], set[row][1])];
                        }
                        $store(c.add(row * row_c), total[0]);
                        $store(c.add(row * row_c + $lanes), total[1]);
                    }
                }
            }
        }
    };
}

kernels!(
    avx512, 0, "avx512f", __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, 1 by 4, 2 by 4, 3 by 2, 4 by 2, 5 by 1
);
kernels!(
    avx2, 64, "avx2,fma", __m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps,
    _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, 1 by 4, 2 by 2, 3 by 2, 4 by 1, 5 by 1, 6 by 1
);

/// # Safety
/// As [`Kernel::tile`] says.
unsafe fn avx512_tile(rows: usize, tile: &Tile) {
    // SAFETY: the caller answers for the instructions and for everything that `Tile` names.
    unsafe {
        match rows {
            0..=5 => avx512::tile(rows, tile),
            6 => many::rows_6(tile),
            7 => many::rows_7(tile),
            8 => many::rows_8(tile),
            9 => many::rows_9(tile),
            10 => many::rows_10(tile),
            11 => many::rows_11(tile),
            12 => many::rows_12(tile),
            _ => {}
        }
    }
}

/// Tiles of many rows. Left to itself the compiler moves loads forward until sums no longer fit into the registers.
mod many {
    use super::*;

    /// One step of the depth, `$at` bytes after where the pointers are.
    macro_rules! step {
        ($at:literal; $($p:ident $q:ident $address:literal),*) => {
            concat!(
                "vmovups {x}, [{b}]\n",
                "vmovups {y}, [{b} + 64]\n",
                "prefetcht0 [{b} + 2048]\n",
                "prefetcht0 [{b} + 2112]\n",
                "add {b}, {step}\n",
                $(
                    "vbroadcastss {z}, dword ptr [", $address, " + ", $at, "]\n",
                    "vfmadd231ps {", stringify!($p), "}, {z}, {x}\n",
                    "vfmadd231ps {", stringify!($q), "}, {z}, {y}\n",
                )*
            )
        };
    }

    macro_rules! rows {
        ($name:ident, $rows:literal; $($row:literal $p:ident $q:ident $address:literal),*) => {
            /// # Safety
            /// As [`Kernel::tile`] says.
            #[target_feature(enable = "avx512f")]
            #[inline(never)]
            pub(super) unsafe fn $name(tile: &Tile) {
                let &Tile { depth, a, row_a, b, row_b, c, row_c, start } = tile;
                // SAFETY: a row of a tile is two vectors; all rows and columns are the tile's.
                let mut sums: [[__m512; 2]; $rows] = std::array::from_fn(|row| unsafe {
                    let from = if start.is_null() { c.add(row * row_c).cast_const() } else { start };
                    [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))]
                });
                // SAFETY: reads `depth` numbers of each of the rows of a, which lie `row_a` apart, and `depth` rows of b,
                // which lie `row_b` apart; writes no memory. What is fetched ahead need not exist.
                unsafe {
                    asm!(
                        "test {fours}, {fours}",
                        "jz 3f",
                        "2:",
                        step!("0"; $($p $q $address),*),
                        step!("4"; $($p $q $address),*),
                        step!("8"; $($p $q $address),*),
                        step!("12"; $($p $q $address),*),
                        "add {a0}, 16",
                        "add {a1}, 16",
                        "add {a2}, 16",
                        "add {a3}, 16",
                        "dec {fours}",
                        "jnz 2b",
                        "3:",
                        "test {rest}, {rest}",
                        "jz 5f",
                        "4:",
                        step!("0"; $($p $q $address),*),
                        "add {a0}, 4",
                        "add {a1}, 4",
                        "add {a2}, 4",
                        "add {a3}, 4",
                        "dec {rest}",
                        "jnz 4b",
                        "5:",
                        a0 = inout(reg) a => _,
                        a1 = inout(reg) a.wrapping_add(3 * row_a) => _,
                        a2 = inout(reg) a.wrapping_add(6 * row_a) => _,
                        a3 = inout(reg) a.wrapping_add(9 * row_a) => _,
                        s = in(reg) row_a * 4,
                        b = inout(reg) b => _,
                        step = in(reg) row_b * 4,
                        fours = inout(reg) depth / 4 => _,
                        rest = inout(reg) depth % 4 => _,
                        x = out(zmm_reg) _,
                        y = out(zmm_reg) _,
                        z = out(zmm_reg) _,
                        $($p = inout(zmm_reg) sums[$row][0],)*
                        $($q = inout(zmm_reg) sums[$row][1],)*
                        options(nostack, readonly),
                    );
                }
                for (row, sums) in sums.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe {
                        _mm512_storeu_ps(c.add(row * row_c), sums[0]);
                        _mm512_storeu_ps(c.add(row * row_c + 16), sums[1]);
                    }
                }
            }
        };
    }
    rows!(rows_6, 6; 0 p0 q0 "{a0}", 1 p1 q1 "{a0}+{s}", 2 p2 q2 "{a0}+2*{s}", 3 p3 q3 "{a1}", 4 p4 q4 "{a1}+{s}", 5 p5 q5 "{a1}+2*{s}");
    rows!(rows_7, 7; 0 p0 q0 "{a0}", 1 p1 q1 "{a0}+{s}", 2 p2 q2 "{a0}+2*{s}", 3 p3 q3 "{a1}", 4 p4 q4 "{a1}+{s}", 5 p5 q5 "{a1}+2*{s}", 6 p6 q6 "{a2}");
    rows!(rows_8, 8; 0 p0 q0 "{a0}", 1 p1 q1 "{a0}+{s}", 2 p2 q2 "{a0}+2*{s}", 3 p3 q3 "{a1}", 4 p4 q4 "{a1}+{s}", 5 p5 q5 "{a1}+2*{s}", 6 p6 q6 "{a2}", 7 p7 q7 "{a2}+{s}");
    rows!(rows_9, 9; 0 p0 q0 "{a0}", 1 p1 q1 "{a0}+{s}", 2 p2 q2 "{a0}+2*{s}", 3 p3 q3 "{a1}", 4 p4 q4 "{a1}+{s}", 5 p5 q5 "{a1}+2*{s}", 6 p6 q6 "{a2}", 7 p7 q7 "{a2}+{s}", 8 p8 q8 "{a2}+2*{s}");
    rows!(rows_10, 10; 0 p0 q0 "{a0}", 1 p1 q1 "{a0}+{s}", 2 p2 q2 "{a0}+2*{s}", 3 p3 q3 "{a1}", 4 p4 q4 "{a1}+{s}", 5 p5 q5 "{a1}+2*{s}", 6 p6 q6 "{a2}", 7 p7 q7 "{a2}+{s}", 8 p8 q8 "{a2}+2*{s}", 9 p9 q9 "{a3}");
    rows!(rows_11, 11; 0 p0 q0 "{a0}", 1 p1 q1 "{a0}+{s}", 2 p2 q2 "{a0}+2*{s}", 3 p3 q3 "{a1}", 4 p4 q4 "{a1}+{s}", 5 p5 q5 "{a1}+2*{s}", 6 p6 q6 "{a2}", 7 p7 q7 "{a2}+{s}", 8 p8 q8 "{a2}+2*{s}", 9 p9 q9 "{a3}", 10 p10 q10 "{a3}+{s}");
    rows!(rows_12, 12; 0 p0 q0 "{a0}", 1 p1 q1 "{a0}+{s}", 2 p2 q2 "{a0}+2*{s}", 3 p3 q3 "{a1}", 4 p4 q4 "{a1}+{s}", 5 p5 q5 "{a1}+2*{s}", 6 p6 q6 "{a2}", 7 p7 q7 "{a2}+{s}", 8 p8 q8 "{a2}+2*{s}", 9 p9 q9 "{a3}", 10 p10 q10 "{a3}+{s}", 11 p11 q11 "{a3}+2*{s}");
}
