//! Products of bytes with exact sums.
//!
//! The left side is unsigned, the right side signed; whoever has it otherwise shifts by 128 and corrects the sums. The
//! right side lies in panels as wide as a tile, in which four rows of the depth lie side by side.

#![allow(unsafe_code)]

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::Arc;

use innkeeper_tensor::{Derived, Tensor};

use crate::cpu::Isa;
use crate::cpu::product::{Line, Plan, ROWS, share};
use crate::memory::zeroed;
use crate::{OpError, Run};

/// `out = a b` for some rows and [`Kernel::columns`] columns, `COLUMNS_MAX` apart in `out`.
#[derive(Clone, Copy)]
struct Tile {
    /// Groups of four of the depth.
    quads: usize,
    /// Bytes, or 16-bit numbers when the kernel is wide.
    a: *const u8,
    /// Bytes from one row of a to the next.
    row_a: usize,
    b: *const i8,
    out: *mut i32,
}

/// How one set of instructions computes tiles.
struct Kernel {
    rows_max: usize,
    columns: usize,
    /// Whether a is read as 16-bit numbers.
    wide: bool,
    /// As the FP32 kernels' function.
    tile: unsafe fn(usize, &Tile),
}

const COLUMNS_MAX: usize = 32;
const ROWS_MAX: usize = 12;

fn kernel(isa: Isa) -> &'static Kernel {
    match isa {
        #[cfg(target_arch = "x86_64")]
        isa if isa.vnni() => &x86::VNNI,
        #[cfg(target_arch = "x86_64")]
        isa if isa >= Isa::Avx2 => &x86::AVX2,
        _ => &portable::PORTABLE,
    }
}

/// A left side: unsigned bytes, in the form that the kernel reads.
pub(super) struct Left {
    bytes: Vec<u8>,
    stride: usize,
    wide: bool,
}

impl Left {
    /// `m` rows of `k` numbers, each written by `fill`, which gets a row's number and its place.
    pub(super) fn new(
        run: &Run<'_>,
        m: usize,
        k: usize,
        fill: impl Fn(usize, &mut [u8]) + Sync,
    ) -> Result<Left, OpError> {
        let wide = kernel(run.isa()).wide;
        let size = 1 + usize::from(wide);
        let stride = k.next_multiple_of(4).saturating_mul(size);
        let mut bytes = run.scratch::<u8>(m.saturating_mul(stride))?;
        let rows = (256 << 10) / stride.max(1) + 1;
        run.pieces(&mut bytes, rows * stride, |piece, out| {
            for (row, out) in out.chunks_exact_mut(stride).enumerate() {
                fill(piece * rows + row, &mut out[..k]);
                out[k..].fill(0);
                if wide {
                    // From the end, so that nothing is overwritten before it is read.
                    for at in (0..k).rev() {
                        out[2 * at] = out[at];
                        out[2 * at + 1] = 0;
                    }
                }
            }
            Ok(())
        })?;
        Ok(Left { bytes, stride, wide })
    }

    /// Gives its memory back.
    pub(super) fn give(self, run: &Run<'_>) {
        run.give(self.bytes);
    }
}

/// A right side in panels, and the sum of each of its columns.
pub(super) struct Right {
    lines: Vec<Line>,
    pub(super) sums: Vec<i32>,
    k: usize,
    n: usize,
}

/// A right side as it lies in memory.
#[derive(Clone, Copy)]
pub(super) struct Plain<'a> {
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) bytes: &'a [u8],
    /// Whether it is `[n, k]` rather than `[k, n]`.
    pub(super) transposed: bool,
    /// Whether the bytes are unsigned, so that 128 is taken from each.
    pub(super) unsigned: bool,
}

struct Packed<const COLUMNS: usize, const TRANSPOSED: bool>(Option<Arc<Right>>);

impl<const COLUMNS: usize, const TRANSPOSED: bool> Derived for Packed<COLUMNS, TRANSPOSED> {
    fn byte_length(&self) -> usize {
        self.0.as_ref().map_or(0, |right| size_of_val(&*right.lines) + size_of_val(&*right.sums))
    }
}

impl Right {
    /// The panels of `plain`, kept with `tensor` where that is a constant.
    pub(super) fn of(plain: Plain<'_>, tensor: &Tensor, isa: Isa) -> Result<Arc<Right>, OpError> {
        macro_rules! packed {
            ($columns:literal, $transposed:literal) => {{
                let make = || Packed::<$columns, $transposed>(Right::pack(plain, $columns));
                match tensor.derived(make) {
                    Some(kept) => kept.0.clone(),
                    None => make().0,
                }
            }};
        }
        let packed = match (kernel(isa).columns, plain.transposed) {
            (32, true) => packed!(32, true),
            (32, false) => packed!(32, false),
            (_, true) => packed!(8, true),
            _ => packed!(8, false),
        };
        packed.ok_or_else(|| OpError::Unsupported("there is no memory to pack a matrix".into()))
    }

    fn pack(plain: Plain<'_>, columns: usize) -> Option<Arc<Right>> {
        let Plain { k, n, bytes, transposed, unsigned } = plain;
        let quads = k.div_ceil(4);
        let len = n.div_ceil(columns).checked_mul(quads)?.checked_mul(columns * 4)?;
        let mut lines = zeroed::<Line>(len.div_ceil(64))?;
        let mut sums = zeroed::<i32>(n)?;
        let panels: &mut [u8] = bytemuck::cast_slice_mut(&mut lines);
        let flip = if unsigned { 0x80 } else { 0 };
        for (j, sum) in sums.iter_mut().enumerate() {
            let panel = &mut panels[j / columns * quads * columns * 4..];
            for p in 0..k {
                let byte = bytes[if transposed { j * k + p } else { p * n + j }] ^ flip;
                panel[(p / 4 * columns + j % columns) * 4 + p % 4] = byte;
                *sum = sum.wrapping_add(i32::from(byte as i8));
            }
        }
        Some(Arc::new(Right { lines, sums, k, n }))
    }
}

/// The result, which threads write in disjoint pieces.
struct Out<T>(*mut T);

// SAFETY: only `multiply` uses it, for elements that belong to the chunk that it is in.
unsafe impl<T: Send> Sync for Out<T> {}

/// For each row and each run of columns calls `finish` with the row's number, the first column, the sums there and where
/// the results belong, which are all of `out`.
pub(super) fn multiply<T: Send>(
    run: &Run<'_>,
    left: &Left,
    right: &Right,
    out: &mut [T],
    finish: impl Fn(usize, usize, &[i32], &mut [T]) + Sync,
) -> Result<(), OpError> {
    let kernel = kernel(run.isa());
    let (n, quads) = (right.n, right.k.div_ceil(4));
    if out.is_empty() {
        return Ok(());
    }
    let m = out.len() / n;
    let wanted = n.div_ceil(kernel.columns) * quads * kernel.columns * 4;
    let panels: &[i8] = bytemuck::cast_slice(&right.lines);
    let row = quads * 4 * (1 + usize::from(kernel.wide));
    let fits = left.wide == kernel.wide && left.stride == row && left.bytes.len() == m * row;
    if !fits || panels.len() < wanted || m * n != out.len() {
        return Err(OpError::InvalidArgument("the sides of a product do not fit".into()));
    }
    let tile = [kernel.rows_max, kernel.columns];
    let plan = Plan::new([m, quads, n], tile, ROWS, run.threads());
    let out = Out(out.as_mut_ptr());
    let out = &out;
    run.parallel(plan.chunks(), |index| {
        let (rows, of_panels) = plan.chunk(index);
        for panel in of_panels {
            let first = panel * kernel.columns;
            let width = kernel.columns.min(n - first);
            let b = panels[panel * quads * kernel.columns * 4..].as_ptr();
            let tiles = rows.len().div_ceil(kernel.rows_max);
            for tile in 0..tiles {
                let part = share(rows.len(), tiles, tile);
                let from = rows.start + part.start;
                let mut sums = [0i32; ROWS_MAX * COLUMNS_MAX];
                let a = left.bytes[from * row..].as_ptr();
                let of_tile = Tile { quads, a, row_a: row, b, out: sums.as_mut_ptr() };
                // SAFETY: the processor has the instructions; a has the tile's rows of `quads` groups and b a panel of
                // them, as was checked above; `sums` has room for every tile.
                unsafe { (kernel.tile)(part.len(), &of_tile) };
                pulp::Arch::new().dispatch(|| {
                    for (i, sums) in sums.chunks_exact(COLUMNS_MAX).take(part.len()).enumerate() {
                        // SAFETY: row and columns are this chunk's alone, and inside of the m rows of n elements.
                        let out = unsafe {
                            std::slice::from_raw_parts_mut(out.0.add((from + i) * n + first), width)
                        };
                        finish(from + i, first, &sums[..width], out);
                    }
                });
            }
        }
        Ok(())
    })
}
