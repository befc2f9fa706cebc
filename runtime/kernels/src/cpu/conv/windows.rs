//! Convolution as a product of filters and windows.
//!
//! A panel of the right side is made as it is used: the windows of as many neighbouring results as a tile has columns.
//! It stays in the first cache while every filter goes over it.

use std::borrow::Cow;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::cpu::conv::planes::Layout;
use crate::cpu::product::{self, Coded, Right};
use crate::cpu::simd::dispatch_narrow;
use crate::infer::conv::Filter;
use crate::{Activation, OpError, Run};

/// Multiply-adds from which on the threads share one image's results rather than the images.
const SHARED_MIN: usize = 4 << 20;
/// The most columns of a panel.
const COLUMNS_MAX: usize = 32;

/// Operands, as they lie.
pub(super) struct Product<'a> {
    pub(super) filter: &'a Filter,
    pub(super) layout: Layout,
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

impl Product<'_> {
    /// Writes every element of `out`.
    pub(super) fn run(&self, run: &Run<'_>, out: &mut [f32]) -> Result<(), OpError> {
        let &Filter { groups, depth, filters, ref slide, .. } = self.filter;
        let channels = groups * depth;
        let images = (self.layout.held() / channels.max(1)).max(1);
        let of_out = groups * filters * slide.count();
        let of_x = channels * slide.plane();
        let parts = self.x.chunks(images * of_x).zip(out.chunks_mut(images * of_out)).enumerate();
        for (index, (x, out)) in parts {
            let planes = self.layout.planes(slide, x, run)?;
            let residual = self.residual.map(|residual| &residual[index * images * of_out..]);
            self.images(run, &planes, residual, out)?;
            if let Cow::Owned(planes) = planes {
                run.give(planes);
            }
        }
        Ok(())
    }

    /// One product for each image and group.
    fn images(
        &self,
        run: &Run<'_>,
        planes: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), OpError> {
        let &Filter { depth, filters, ref slide, .. } = self.filter;
        let size = filters * slide.count();
        let offsets = self.offsets();
        let one = |run: &Run<'_>, line: usize, out: &mut [f32]| {
            let planes = &planes[line * depth * self.layout.channel..];
            let residual = residual.map(|residual| &residual[line * size..][..size]);
            self.line(
                run,
                line,
                Windows { product: self, offsets: &offsets, planes },
                residual,
                out,
            )
        };
        let lines = out.len() / size.max(1);
        let work = size.saturating_mul(offsets.len());
        if lines == 1 || work >= SHARED_MIN {
            let mut lines = out.chunks_exact_mut(size).enumerate();
            return lines.try_for_each(|(line, out)| one(run, line, out));
        }
        let together = (SHARED_MIN / work.max(1)).min(lines.div_ceil(run.threads() * 4)).max(1);
        let alone = run.alone();
        run.pieces(out, together * size, |piece, out| {
            let mut lines = out.chunks_exact_mut(size).enumerate();
            lines.try_for_each(|(index, out)| one(&alone, piece * together + index, out))
        })
    }

    /// The results of one group of filters on one image.
    fn line(
        &self,
        run: &Run<'_>,
        line: usize,
        windows: Windows<'_>,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), OpError> {
        let &Filter { groups, filters, ref slide, .. } = self.filter;
        let (first, k) = (line % groups * filters, windows.offsets.len());
        let b = Right { k, n: slide.count(), elements: &[], transposed: false };
        let product = product::Product {
            row_bias: self.bias.map(|bias| &bias[first..][..filters]),
            residual,
            activation: self.activation,
            ..product::Product::plain(filters, &self.weight[first * k..][..filters * k], b)
        };
        product.run_coded(&windows, run, out)
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
}

/// The windows of one image and group, a column each.
struct Windows<'a> {
    product: &'a Product<'a>,
    offsets: &'a [usize],
    /// The group's padded channels.
    planes: &'a [f32],
}

/// Neighbouring results whose windows begin side by side.
#[derive(Clone, Copy, Default)]
struct Stretch {
    /// Where it begins in its panel, and in the planes.
    to: usize,
    from: usize,
    len: usize,
}

impl Coded for Windows<'_> {
    fn fill(&self, panel: usize, depth: Range<usize>, out: &mut [f32]) {
        let offsets = &self.offsets[depth];
        dispatch_narrow(Gather { windows: self, panel, offsets, out });
    }
}

/// A panel of windows, with a row for each of the offsets.
struct Gather<'a> {
    windows: &'a Windows<'a>,
    panel: usize,
    offsets: &'a [usize],
    out: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Gather { windows, panel, offsets, out } = self;
        match out.len() / offsets.len().max(1) {
            32 => windows.gather::<32>(panel, offsets, out),
            _ => windows.gather::<16>(panel, offsets, out),
        }
    }
}

impl Windows<'_> {
    #[inline(always)]
    fn gather<const N: usize>(&self, panel: usize, offsets: &[usize], out: &mut [f32]) {
        let mut stretches = [Stretch::default(); COLUMNS_MAX];
        let stretches = self.stretches(panel * N, N, &mut stretches);
        if let &[Stretch { from, len, .. }] = stretches
            && len == N
        {
            let planes = &self.planes[from..];
            for (out, &offset) in out.as_chunks_mut::<N>().0.iter_mut().zip(offsets) {
                if let Some(from) = planes[offset..].first_chunk() {
                    *out = *from;
                }
            }
            return;
        }
        for (row, &offset) in offsets.iter().enumerate() {
            for stretch in stretches {
                let from = &self.planes[offset + stretch.from..];
                let to = &mut out[row * N + stretch.to..];
                // What is copied beyond the stretch is written over by the next one, and by the next row.
                match (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
                    (Some(from), Some(to)) => *to = *from,
                    _ => to[..stretch.len].copy_from_slice(&from[..stretch.len]),
                }
            }
        }
    }

    /// The stretches of `count` results from `first` on, as far as there are results.
    fn stretches<'a>(
        &self,
        first: usize,
        count: usize,
        room: &'a mut [Stretch; COLUMNS_MAX],
    ) -> &'a [Stretch] {
        let Product { filter, layout, .. } = self.product;
        let count = count.min(filter.slide.count() - first);
        let (mut to, mut stretches) = (0, 0);
        while to < count {
            let (y, x) = ((first + to) / layout.width, (first + to) % layout.width);
            let len = (layout.width - x).min(count - to);
            let from = layout.start(&filter.slide, y) + x;
            room[stretches] = Stretch { to, from, len };
            (to, stretches) = (to + len, stretches + 1);
        }
        &room[..stretches]
    }
}
