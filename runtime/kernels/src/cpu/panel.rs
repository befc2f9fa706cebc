//! The inner loop of attention: a tile of sums that stays in registers.

use pulp::Simd;

use crate::cpu::simd::F32;

/// Adds to `sums` the products of `MR` numbers and `NV` vectors, for each pair of `a` and `b`.
#[inline(always)]
pub(super) fn add_products<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    a: &[[f32; MR]],
    b: &[[S::f32s; NV]],
    sums: &mut [[S::f32s; NV]; MR],
) {
    let mut acc = *sums;
    for (a, b) in a.iter().zip(b) {
        for i in 0..MR {
            let by = F32::of(simd, a[i]);
            for j in 0..NV {
                acc[i][j] = by.fma(F32(simd, b[j]), F32(simd, acc[i][j])).1;
            }
        }
    }
    *sums = acc;
}
