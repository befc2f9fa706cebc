//! The innermost piece of a product: a few rows by one panel of columns, in registers.

use crate::cpu::Isa;

/// `c = start + a b`, or `c += a b`, for some rows and [`Kernel::columns`] columns.
///
/// Element (i, p) of a lies at `a[i * row_a + p]`, (p, j) of b at `b[p * row_b + j]`, (i, j) of c at `c[i * row_c + j]`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) depth: usize,
    pub(super) a: *const f32,
    pub(super) row_a: usize,
    pub(super) b: *const f32,
    pub(super) row_b: usize,
    pub(super) c: *mut f32,
    pub(super) row_c: usize,
    /// A number for each column that its sums start from; null to start from c.
    pub(super) start: *const f32,
}

/// How one set of instructions computes tiles.
pub(super) struct Kernel {
    /// The most rows of a tile.
    pub(super) rows_max: usize,
    /// The columns of a tile, and of a panel.
    pub(super) columns: usize,
    /// Computes a tile of 1 to `rows_max` rows.
    ///
    /// The processor must have the instructions; every element that [`Tile`] names must lie in memory that may be read
    /// and, for c, written by nobody else.
    pub(super) tile: unsafe fn(usize, &Tile),
}

/// The most columns of any kernel's tile.
pub(super) const COLUMNS_MAX: usize = 32;

/// The kernel for these instructions, which the processor must have.
pub(super) fn kernel(isa: Isa) -> &'static Kernel {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &super::x86::AVX512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &super::x86::AVX2,
        _ => &super::portable::PORTABLE,
    }
}
