//! The right side of a product in the order in which tiles read it.

use std::ops::Range;
use std::sync::Arc;

use innkeeper_tensor::{Derived, Tensor};

use super::tile::kernel;
use crate::cpu::Isa;
use crate::cpu::turn::turn;
use crate::memory::zeroed;

/// As many floats as a cache line holds, aligned to one.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; 16]);

/// A matrix `[k, n]` cut into panels of `columns` columns, the last filled up with zeros: panel after panel, row after
/// row.
pub(super) struct Panels {
    pub(super) lines: Vec<Line>,
}

/// A right side as it lies in memory.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Right<'a> {
    pub(in crate::cpu) k: usize,
    pub(in crate::cpu) n: usize,
    pub(in crate::cpu) elements: &'a [f32],
    /// Whether it is `[n, k]` rather than `[k, n]`.
    pub(in crate::cpu) transposed: bool,
}

impl Panels {
    /// `None` when there is no memory.
    pub(super) fn of(right: Right<'_>, columns: usize) -> Option<Panels> {
        let mut lines = zeroed::<Line>(lines(right.k, right.n, columns)?)?;
        let floats = bytemuck::cast_slice_mut(&mut lines);
        for (panel, out) in floats.chunks_exact_mut((right.k * columns).max(1)).enumerate() {
            fill(right, panel * columns, columns, 0..right.k, out);
        }
        Some(Panels { lines })
    }

    /// The panels of `right`, which lies in `tensor`, kept with it where that is a constant. `None` when there is no
    /// memory.
    pub(super) fn kept(right: Right<'_>, tensor: &Tensor, isa: Isa) -> Option<Arc<Panels>> {
        macro_rules! kept {
            ($columns:literal, $transposed:literal) => {{
                let make =
                    || Packed::<$columns, $transposed>(Panels::of(right, $columns).map(Arc::new));
                match tensor.derived(make) {
                    Some(kept) => kept.0.clone(),
                    None => make().0,
                }
            }};
        }
        match (kernel(isa).columns, right.transposed) {
            (32, true) => kept!(32, true),
            (32, false) => kept!(32, false),
            (_, true) => kept!(16, true),
            _ => kept!(16, false),
        }
    }

    pub(super) fn floats(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }
}

/// How many lines the panels of a matrix take.
pub(super) fn lines(k: usize, n: usize, columns: usize) -> Option<usize> {
    n.div_ceil(columns).checked_mul(k.checked_mul(columns / 16)?)
}

/// Writes rows `depth` of the panel of `columns` columns from `first` on.
pub(super) fn fill(
    right: Right<'_>,
    first: usize,
    columns: usize,
    depth: Range<usize>,
    out: &mut [f32],
) {
    let Right { k, n, elements, transposed } = right;
    let width = columns.min(n - first);
    if transposed {
        turn(&elements[first * k..(first + width) * k], k, depth, columns, out);
    } else {
        let rows = elements[depth.start * n..depth.end * n].chunks_exact(n);
        for (row, out) in rows.zip(out.chunks_exact_mut(columns)) {
            out[..width].copy_from_slice(&row[first..first + width]);
        }
    }
    if width < columns {
        out.chunks_exact_mut(columns).for_each(|out| out[width..].fill(0.0));
    }
}

/// The panels of a constant right side, for one width of panels and one way in which it lies. Without memory there are
/// none.
pub(super) struct Packed<const COLUMNS: usize, const TRANSPOSED: bool>(
    pub(super) Option<Arc<Panels>>,
);

impl<const COLUMNS: usize, const TRANSPOSED: bool> Derived for Packed<COLUMNS, TRANSPOSED> {
    fn byte_length(&self) -> usize {
        self.0.as_ref().map_or(0, |panels| size_of_val(panels.lines.as_slice()))
    }
}
