//! Convolution as a product of filters and windows.
//!
//! Filters are packed in panels, once if they are constants. Windows of neighbouring results are gathered as a second
//! panel, block by block of their elements, so that it stays in the caches while every filter goes over it. What a tile
//! of results sums stays in registers.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use innkeeper_tensor::{Derived, Tensor};
use pulp::{Simd, WithSimd};

use crate::cpu::conv::planes::Layout;
use crate::cpu::panel::add_products;
use crate::cpu::simd::{F32, dispatch_by};
use crate::cpu::vector;
use crate::infer::conv::Filter;
use crate::{Activation, Isa, OpError, Run};

/// Elements of a window that are gathered at a time.
const BLOCK: usize = 256;
/// The most results of a row in a tile.
const COLUMNS_MAX: usize = 32;

/// Operands, as they lie.
pub(super) struct Product<'a> {
    pub(super) filter: &'a Filter,
    pub(super) layout: Layout,
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    /// The weight when it is a constant.
    pub(super) constant: Option<&'a Tensor>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

/// Rows and columns of a tile.
fn tile(isa: Isa) -> (usize, usize) {
    match isa {
        Isa::Avx512 => (12, 32),
        Isa::Avx2 => (6, 16),
        _ => (4, 8),
    }
}

/// Filters in panels of as many as a tile has rows, element by element.
struct Panels<const ROWS: usize>(Vec<f32>);

impl<const ROWS: usize> Derived for Panels<ROWS> {
    fn byte_length(&self) -> usize {
        self.0.len() * size_of::<f32>()
    }
}

fn pack(weight: &[f32], groups: usize, filters: usize, rows: usize) -> Vec<f32> {
    let depth = weight.len() / (groups * filters).max(1);
    let mut packed = Vec::with_capacity(groups * filters.next_multiple_of(rows) * depth);
    for group in weight.chunks_exact((filters * depth).max(1)) {
        for panel in group.chunks((rows * depth).max(1)) {
            for at in 0..depth {
                let of_row = |row: usize| panel.get(row * depth + at).copied().unwrap_or(0.0);
                packed.extend((0..rows).map(of_row));
            }
        }
    }
    packed
}

enum Packed {
    Of12(Arc<Panels<12>>),
    Of6(Arc<Panels<6>>),
    Of4(Arc<Panels<4>>),
    Once(Vec<f32>),
}

impl Packed {
    fn panels(&self) -> &[f32] {
        match self {
            Packed::Of12(panels) => &panels.0,
            Packed::Of6(panels) => &panels.0,
            Packed::Of4(panels) => &panels.0,
            Packed::Once(panels) => panels,
        }
    }
}

impl Product<'_> {
    fn packed(&self, rows: usize) -> Packed {
        let &Filter { groups, filters, .. } = self.filter;
        let held = |constant: &Tensor| match rows {
            12 => constant.derived(|| Panels(pack(self.weight, 1, filters, 12))).map(Packed::Of12),
            6 => constant.derived(|| Panels(pack(self.weight, 1, filters, 6))).map(Packed::Of6),
            _ => constant.derived(|| Panels(pack(self.weight, 1, filters, 4))).map(Packed::Of4),
        };
        // What is derived may depend on nothing but the tensor, so not on the groups.
        self.constant
            .filter(|_| groups == 1)
            .and_then(held)
            .unwrap_or_else(|| Packed::Once(pack(self.weight, groups, filters, rows)))
    }

    /// Writes every element of `out`.
    pub(super) fn run(&self, run: &Run<'_>, out: &mut [f32]) -> Result<(), OpError> {
        let &Filter { groups, depth, filters, ref slide, .. } = self.filter;
        let packed = self.packed(tile(run.isa()).0);
        let channels = groups * depth;
        let images = (self.layout.held() / channels.max(1)).max(1);
        let of_out = groups * filters * slide.count();
        let of_x = channels * slide.plane();
        let parts = self.x.chunks(images * of_x).zip(out.chunks_mut(images * of_out)).enumerate();
        for (index, (x, out)) in parts {
            let planes = self.layout.planes(slide, x, run)?;
            let residual = self.residual.map(|residual| &residual[index * images * of_out..]);
            self.images(run, packed.panels(), &planes, residual, out)?;
            if let Cow::Owned(planes) = planes {
                run.give(planes);
            }
        }
        Ok(())
    }

    fn images(
        &self,
        run: &Run<'_>,
        panels: &[f32],
        planes: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), OpError> {
        let &Filter { groups, depth, filters, ref slide, .. } = self.filter;
        let (rows, columns) = tile(run.isa());
        let count = slide.count();
        let lines = out.len() / (count * filters).max(1);
        let size = self.chunk(columns, lines, run.threads());
        let chunks = count.div_ceil(size);
        // What one chunk writes: some neighbouring results of every filter of a group.
        let mut parts: Vec<Vec<&mut [f32]>> = Vec::new();
        parts.resize_with(lines * chunks, || Vec::with_capacity(filters));
        for (index, line) in out.chunks_exact_mut(count).enumerate() {
            let first = index / filters * chunks;
            for (part, piece) in parts[first..].iter_mut().zip(line.chunks_mut(size)) {
                part.push(piece);
            }
        }
        let parts: Vec<Mutex<Vec<&mut [f32]>>> = parts.into_iter().map(Mutex::new).collect();
        let window = depth * slide.taps();
        let offsets = self.offsets();
        let panels_len = filters.next_multiple_of(rows) * window;
        run.parallel(parts.len(), |index| {
            let Ok(mut out) = parts[index].lock() else { return Ok(()) };
            let (line, chunk) = (index / chunks, index % chunks);
            let group = line % groups;
            let block = window.div_ceil(window.div_ceil(BLOCK).max(1)).max(1);
            let tiles = size.div_ceil(columns);
            let mut gathered = run.scratch::<f32>(tiles * columns * block + COLUMNS_MAX)?;
            dispatch_by(
                run.isa(),
                Chunk {
                    product: self,
                    panels: &panels[group * panels_len..][..panels_len],
                    planes: &planes[line * depth * self.layout.channel..],
                    offsets: &offsets,
                    bias: self.bias.map(|bias| &bias[group * filters..][..filters]),
                    first: chunk * size,
                    block,
                    gathered: &mut gathered,
                    out: &mut out,
                },
            );
            run.give(gathered);
            let residual = residual.map(|all| &all[line * filters * count + chunk * size..]);
            self.finish(residual, count, &mut out);
            Ok(())
        })
    }

    /// How many neighbouring results make a chunk: whole tiles, some for each thread, enough for one to be worth it.
    fn chunk(&self, columns: usize, lines: usize, threads: usize) -> usize {
        let &Filter { depth, filters, ref slide, .. } = self.filter;
        let tiles = slide.count().div_ceil(columns);
        let of_tile = filters.saturating_mul(depth * slide.taps()).saturating_mul(columns);
        let worth = ((1 << 21) / of_tile.max(1)).max(1);
        let share = (tiles * lines).div_ceil(threads.saturating_mul(3).max(1));
        let most = if threads > 1 { share.max(1) } else { tiles };
        worth.max(8).min(most).min(tiles).max(1) * columns
    }

    /// Where each element of a window lies, from the start of what it sees.
    fn offsets(&self) -> Vec<usize> {
        let &Filter { depth, ref slide, .. } = self.filter;
        let mut offsets = Vec::with_capacity(depth * slide.taps());
        for channel in 0..depth {
            for y in 0..slide.kernel[1] {
                for x in 0..slide.kernel[2] {
                    offsets.push(channel * self.layout.channel + self.layout.tap(slide, y, x));
                }
            }
        }
        offsets
    }

    fn finish(&self, residual: Option<&[f32]>, count: usize, out: &mut [&mut [f32]]) {
        for (row, out) in out.iter_mut().enumerate() {
            if let Some(residual) = residual {
                let residual = &residual[row * count..];
                out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
            }
            vector::activate(self.activation, out);
        }
    }
}

/// Some neighbouring results of every filter of a group.
struct Chunk<'a, 'b> {
    product: &'a Product<'a>,
    panels: &'a [f32],
    planes: &'a [f32],
    offsets: &'a [usize],
    bias: Option<&'a [f32]>,
    /// The first of the results.
    first: usize,
    block: usize,
    gathered: &'a mut [f32],
    out: &'a mut [&'b mut [f32]],
}

/// Neighbouring results whose windows begin side by side.
#[derive(Clone, Copy)]
struct Stretch {
    /// Where it begins in its tile, and in the planes.
    to: usize,
    from: usize,
    len: usize,
}

impl WithSimd for Chunk<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.compute::<S, 12, 2>(simd),
            8 => self.compute::<S, 6, 2>(simd),
            4 => self.compute::<S, 4, 2>(simd),
            _ => self.compute::<S, 4, 8>(simd),
        }
    }
}

impl Chunk<'_, '_> {
    #[inline(always)]
    fn compute<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let columns = VECTORS * S::F32_LANES;
        let results = self.out.first().map_or(0, |out| out.len());
        let window = self.offsets.len();
        let stretches: Vec<Vec<Stretch>> = (0..results)
            .step_by(columns)
            .map(|at| self.product.stretches(self.first + at, columns.min(results - at)))
            .collect();
        let mut start = 0;
        while start < window {
            let block = self.block.min(window - start);
            let offsets = &self.offsets[start..start + block];
            let tile = columns * block;
            for (index, stretches) in stretches.iter().enumerate() {
                // The last row of a tile may be written past its end.
                let to = &mut self.gathered[index * tile..][..tile + COLUMNS_MAX.min(columns)];
                gather(self.planes, offsets, stretches, columns, to);
            }
            let panels = self.panels.chunks_exact(ROWS * window);
            for (panel, out) in panels.zip(self.out.chunks_mut(ROWS)).enumerate() {
                let (panel_of, out) = out;
                let panel_of = panel_of[ROWS * start..][..ROWS * block].as_chunks::<ROWS>().0;
                let bias = self.bias.filter(|_| start == 0).map(|bias| &bias[panel * ROWS..]);
                for index in 0..stretches.len() {
                    let windows = S::as_simd_f32s(&self.gathered[index * tile..][..tile]).0;
                    let windows = windows.as_chunks::<VECTORS>().0;
                    let at = index * columns;
                    let mut sums = begun::<S, ROWS, VECTORS>(simd, start == 0, bias, out, at);
                    add_products(simd, panel_of, windows, &mut sums);
                    for (out, sums) in out.iter_mut().zip(sums) {
                        let end = out.len().min(at + columns);
                        let pieces = out[at..end].chunks_mut(S::F32_LANES);
                        pieces.zip(sums).for_each(|(out, sum)| F32(simd, sum).store(out));
                    }
                }
            }
            start += block;
        }
    }
}

/// What a tile's sums begin with: the bias, or what the blocks before have left.
#[inline(always)]
fn begun<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    first: bool,
    bias: Option<&[f32]>,
    out: &[&mut [f32]],
    at: usize,
) -> [[S::f32s; VECTORS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    if let (true, Some(bias)) = (first, bias) {
        sums.iter_mut()
            .zip(bias)
            .for_each(|(sums, &bias)| *sums = [simd.splat_f32s(bias); VECTORS]);
    }
    if !first {
        for (sums, out) in sums.iter_mut().zip(out) {
            let pieces = out[at..].chunks(S::F32_LANES);
            sums.iter_mut().zip(pieces).for_each(|(sum, out)| *sum = F32::load(simd, out).1);
        }
    }
    sums
}

/// The elements of a tile's windows, one row for each of `offsets`.
#[inline(always)]
fn gather(
    planes: &[f32],
    offsets: &[usize],
    stretches: &[Stretch],
    columns: usize,
    out: &mut [f32],
) {
    for (row, &offset) in offsets.iter().enumerate() {
        for stretch in stretches {
            let from = &planes[offset + stretch.from..];
            let to = &mut out[row * columns + stretch.to..];
            // What is copied beyond the stretch is written over by the next one, and by the next row.
            match columns {
                32 => copy::<32>(from, to, stretch.len),
                16 => copy::<16>(from, to, stretch.len),
                _ => copy::<8>(from, to, stretch.len),
            }
        }
    }
}

#[inline(always)]
fn copy<const N: usize>(from: &[f32], to: &mut [f32], len: usize) {
    match (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        (Some(from), Some(to)) => *to = *from,
        _ => to[..len].copy_from_slice(&from[..len]),
    }
}

impl Product<'_> {
    /// The stretches of `count` results from `first` on.
    fn stretches(&self, first: usize, count: usize) -> Vec<Stretch> {
        let (slide, layout) = (&self.filter.slide, &self.layout);
        let mut stretches = Vec::new();
        let mut to = 0;
        while to < count {
            let (y, x) = ((first + to) / layout.width, (first + to) % layout.width);
            let len = (layout.width - x).min(count - to);
            stretches.push(Stretch { to, from: layout.start(slide, y) + x, len });
            to += len;
        }
        stretches
    }
}
