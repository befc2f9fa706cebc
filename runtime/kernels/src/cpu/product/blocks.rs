//! Blocks of a product, tile by tile.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::Product;
use super::coded::Coded;
use super::pack::{Line, Right, fill};
use super::plan::share;
use super::tile::{COLUMNS_MAX, Kernel, Tile};
use crate::cpu::activation;
use crate::cpu::turn::turn;

/// Rows of a right side that are used together: a panel of so many lies in the first two caches.
const DEPTH_MAX: usize = 512;
/// The most rows of a tile of any kernel.
const ROWS_MAX: usize = 12;
/// Rows that lie so many floats apart, or a multiple, fall into a few lines of the first cache.
const CONFLICT: usize = 256;

/// Where the right side is read.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// From the panels of all of it.
    Panels(&'a [f32]),
    /// From the matrix itself.
    Plain(Right<'a>),
    /// Made as it is used.
    Coded(&'a dyn Coded),
}

/// A product that threads compute block by block.
pub(super) struct Blocks<'a> {
    product: &'a Product<'a>,
    kernel: &'static Kernel,
    source: Source<'a>,
    out: *mut f32,
    /// Whoever made this lent `out` for as long.
    lent: PhantomData<&'a mut [f32]>,
}

// SAFETY: all that is written through the pointer is what `compute` says, and what it says of threads is in its contract.
unsafe impl Sync for Blocks<'_> {}

/// What a thread packs, for as long as it computes one block.
#[derive(Default)]
struct Scratch {
    left: Vec<Line>,
    right: Vec<Line>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A left side as tiles read it.
#[derive(Clone, Copy)]
struct Left {
    start: *const f32,
    stride: usize,
}

impl<'a> Blocks<'a> {
    /// The product's slices must fit its sizes and `out`, as [`Product::run`] checks. The processor must have what the
    /// kernel needs, and panels must be those of the product's right side.
    pub(super) fn new(
        product: &'a Product<'a>,
        kernel: &'static Kernel,
        source: Source<'a>,
        out: &'a mut [f32],
    ) -> Blocks<'a> {
        Blocks { product, kernel, source, out: out.as_mut_ptr(), lent: PhantomData }
    }

    /// Computes the result's elements in these rows and panels. No two calls at the same time may name the same ones.
    pub(super) fn compute(&self, rows: Range<usize>, panels: Range<usize>) {
        let Right { k, n, .. } = self.product.b;
        if rows.is_empty() || panels.is_empty() {
            return;
        }
        let columns = panels.start * self.kernel.columns..n.min(panels.end * self.kernel.columns);
        SCRATCH.with_borrow_mut(|scratch| {
            let depth_max = match self.source {
                // What is made as it is used should not leave the first cache, for few rows all the less.
                Source::Coded(_) if rows.len() <= self.kernel.rows_max => DEPTH_MAX / 4,
                Source::Coded(_) => DEPTH_MAX / 2,
                _ => DEPTH_MAX,
            };
            let parts = k.div_ceil(depth_max).max(1);
            for part in 0..parts {
                let depth = share(k, parts, part);
                let adding = part > 0;
                let left = self.left(&rows, &depth, panels.len(), &mut scratch.left);
                for panel in panels.clone() {
                    self.panel(panel, &rows, &depth, left, adding, &mut scratch.right);
                }
            }
        });
        for row in rows {
            self.finish(row, &columns);
        }
    }

    /// Part of a row of the result, which the caller of [`Blocks::compute`] has for itself.
    #[allow(clippy::mut_from_ref)]
    fn row(&self, row: usize, columns: &Range<usize>) -> &mut [f32] {
        // SAFETY: `out` holds m rows of n numbers, of which only this call of `compute` touches these.
        unsafe { std::slice::from_raw_parts_mut(self.place(row, columns.start), columns.len()) }
    }

    /// Where an element of the result lies; its row and column must exist.
    fn place(&self, row: usize, column: usize) -> *mut f32 {
        self.out.wrapping_add(row * self.product.b.n + column)
    }

    /// Adds to a row of sums what does not depend on its columns' panels, and does to it what comes last.
    fn finish(&self, row: usize, columns: &Range<usize>) {
        let &Product { row_bias, residual, activation, b, .. } = self.product;
        let out = self.row(row, columns);
        if let Some(bias) = row_bias.map(|bias| bias[row]) {
            out.iter_mut().for_each(|out| *out += bias);
        }
        if let Some(residual) = residual {
            let residual = &residual[row * b.n..][columns.clone()];
            out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
        }
        activation::apply(activation, out);
    }

    /// The left side's rows over part of the depth: where they lie, or copied to where reading them is quicker.
    fn left(
        &self,
        rows: &Range<usize>,
        depth: &Range<usize>,
        panels: usize,
        scratch: &mut Vec<Line>,
    ) -> Left {
        let &Product { m, a, transposed, b: Right { k, .. }, .. } = self.product;
        let few = rows.len() <= 4 || panels < 2;
        if !transposed && (k % CONFLICT != 0 || few) {
            let start = a[rows.start * k + depth.start.min(k)..].as_ptr();
            return Left { start, stride: k };
        }
        // An odd number of lines, so that rows fall into different ones of the cache.
        let lines = depth.len().div_ceil(16) | 1;
        let stride = lines * 16;
        if scratch.len() < lines * rows.len() {
            scratch.resize(lines * rows.len(), Line([0.0; 16]));
        }
        let copy: &mut [f32] = bytemuck::cast_slice_mut(scratch);
        if transposed {
            let part = &a[depth.start * m..depth.end * m];
            turn(part, m, rows.clone(), stride, copy);
        } else {
            for (row, copy) in rows.clone().zip(copy.chunks_exact_mut(stride)) {
                copy[..depth.len()].copy_from_slice(&a[row * k..][depth.clone()]);
            }
        }
        Left { start: copy.as_ptr(), stride }
    }

    fn panel(
        &self,
        panel: usize,
        rows: &Range<usize>,
        depth: &Range<usize>,
        left: Left,
        adding: bool,
        scratch: &mut Vec<Line>,
    ) {
        let (n, columns) = (self.product.b.n, self.kernel.columns);
        let width = columns.min(n - panel * columns);
        let of_panel = panel * columns..panel * columns + width;
        let (b, row_b) = self.right(panel, depth, scratch);
        let start = self.start(panel, width);
        let tiles = rows.len().div_ceil(self.kernel.rows_max);
        // Filled only where it is wanted: it is as large as a tile's sums, and most panels are whole.
        let mut edge = match width < columns {
            true => Some([0f32; ROWS_MAX * COLUMNS_MAX]),
            false => None,
        };
        for tile in 0..tiles {
            let part = share(rows.len(), tiles, tile);
            let first = self.place(rows.start + part.start, panel * columns);
            if let Some(edge) = edge.as_mut().filter(|_| adding) {
                for (edge, row) in edge.chunks_exact_mut(COLUMNS_MAX).zip(part.clone()) {
                    edge[..width].copy_from_slice(self.row(rows.start + row, &of_panel));
                }
            }
            let (c, row_c) = match &mut edge {
                None => (first, n),
                Some(edge) => (edge.as_mut_ptr(), COLUMNS_MAX),
            };
            let of_tile = Tile {
                depth: depth.len(),
                // Within the left side, or just behind an empty one.
                a: left.start.wrapping_add(part.start * left.stride),
                row_a: left.stride,
                b,
                row_b,
                c,
                row_c,
                start: if adding { std::ptr::null() } else { start.as_ptr() },
            };
            // SAFETY: the processor has the instructions and `part` has 1 to `rows_max` rows. `left` has as many rows of
            // `depth`, `right` gave as many rows of `columns`, `start` has `columns` numbers, and c is either the
            // result's rows, where there are `columns` from the panel's first on, or `edge`.
            unsafe { (self.kernel.tile)(part.len(), &of_tile) };
            if let Some(edge) = &edge {
                for (edge, row) in edge.chunks_exact(COLUMNS_MAX).zip(part) {
                    self.row(rows.start + row, &of_panel).copy_from_slice(&edge[..width]);
                }
            }
        }
    }

    /// Rows `depth` of a panel of the right side, and how far apart they lie.
    fn right(
        &self,
        panel: usize,
        depth: &Range<usize>,
        scratch: &mut Vec<Line>,
    ) -> (*const f32, usize) {
        let (k, columns) = (self.product.b.k, self.kernel.columns);
        match self.source {
            _ if depth.is_empty() => (std::ptr::null(), 0),
            Source::Panels(floats) => {
                let panel = &floats[panel * k * columns..(panel + 1) * k * columns];
                (panel[depth.start * columns..].as_ptr(), columns)
            }
            Source::Plain(right) if !right.transposed && (panel + 1) * columns <= right.n => {
                (right.elements[depth.start * right.n + panel * columns..].as_ptr(), right.n)
            }
            source => {
                let lines = depth.len() * columns / 16;
                if scratch.len() < lines {
                    scratch.resize(lines, Line([0.0; 16]));
                }
                let floats: &mut [f32] = bytemuck::cast_slice_mut(&mut scratch[..lines]);
                match source {
                    Source::Plain(right) => {
                        fill(right, panel * columns, columns, depth.clone(), floats);
                    }
                    Source::Coded(coded) => coded.fill(panel, depth.clone(), floats),
                    Source::Panels(_) => {}
                }
                (floats.as_ptr(), columns)
            }
        }
    }

    /// What the sums of a panel's columns start from.
    fn start(&self, panel: usize, width: usize) -> [f32; COLUMNS_MAX] {
        let mut start = [0.0; COLUMNS_MAX];
        if let Some(bias) = self.product.bias {
            let from = panel * self.kernel.columns;
            start[..width].copy_from_slice(&bias[from..from + width]);
        }
        start
    }
}
