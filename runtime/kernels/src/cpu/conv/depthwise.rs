//! Convolution in which each filter sees one channel.

use pulp::{Simd, WithSimd};

use crate::cpu::conv::planes::{Layout, SLACK};
use crate::cpu::simd::{F32, dispatch_by};
use crate::cpu::vector;
use crate::infer::conv::Filter;
use crate::{Activation, OpError, Run};

/// Vectors of results that are worked out side by side.
const SIDE: usize = 4;

/// Operands, as they lie.
pub(super) struct Depthwise<'a> {
    pub(super) filter: &'a Filter,
    pub(super) layout: Layout,
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

impl Depthwise<'_> {
    pub(super) fn run(&self, run: &Run<'_>, out: &mut [f32]) -> Result<(), OpError> {
        let slide = &self.filter.slide;
        let count = slide.count();
        let many = ((1 << 18) / (count * (slide.taps() + 4)).max(1)).max(1);
        let taps: Vec<usize> = (0..slide.kernel[1])
            .flat_map(|y| (0..slide.kernel[2]).map(move |x| (y, x)))
            .map(|(y, x)| self.layout.tap(slide, y, x))
            .collect();
        run.pieces(out, many.saturating_mul(count).max(1), |piece, out| {
            // Room for vectors that begin at the last column of the last row.
            let len = self.layout.channel + SLACK * (SIDE + 1);
            let mut padded = run.scratch::<f32>(len)?;
            padded[self.layout.channel..].fill(0.0);
            for (index, out) in (piece * many..).zip(out.chunks_exact_mut(count)) {
                self.plane(run, index, &taps, &mut padded, out);
            }
            run.give(padded);
            Ok(())
        })
    }

    fn plane(
        &self,
        run: &Run<'_>,
        index: usize,
        taps: &[usize],
        padded: &mut [f32],
        out: &mut [f32],
    ) {
        let &Filter { groups, filters, ref slide, .. } = self.filter;
        let m = index % (groups * filters);
        let channel = index / (groups * filters) * groups + m / filters;
        let from = &self.x[channel * slide.plane()..][..slide.plane()];
        let (padding, _) = padded.split_at_mut(self.layout.channel);
        if self.layout.plain {
            padding.copy_from_slice(from);
        } else {
            self.layout.write(slide, from, padding);
        }
        dispatch_by(
            run.isa(),
            Plane {
                layout: &self.layout,
                step: self.layout.start(slide, 1),
                padded,
                taps,
                weight: &self.weight[m * taps.len()..][..taps.len()],
                bias: self.bias.map_or(0.0, |bias| bias[m]),
                out,
            },
        );
        if let Some(residual) = self.residual {
            let residual = &residual[index * out.len()..];
            out.iter_mut().zip(residual).for_each(|(out, residual)| *out += residual);
        }
        vector::activate(self.activation, out);
    }
}

/// One result channel.
struct Plane<'a> {
    layout: &'a Layout,
    /// From what one result row sees to what the next one sees.
    step: usize,
    padded: &'a [f32],
    taps: &'a [usize],
    weight: &'a [f32],
    bias: f32,
    out: &'a mut [f32],
}

impl WithSimd for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.taps.try_into(), self.weight.try_into()) {
            (Ok(taps), Ok(weight)) => self.nine(simd, taps, weight),
            _ => self.any(simd),
        }
    }
}

impl Plane<'_> {
    /// Windows of 3 by 3, whose weights stay in registers.
    #[inline(always)]
    fn nine<S: Simd>(self, simd: S, taps: &[usize; 9], weight: &[f32; 9]) {
        let weight = weight.map(|weight| F32::of(simd, weight));
        let bias = F32::of(simd, self.bias);
        let vectors = self.layout.width.div_ceil(S::F32_LANES);
        for y in 0..self.out.len() / self.layout.width {
            let from = &self.padded[y * self.step..];
            let lines = taps.map(|tap| &S::as_simd_f32s(&from[tap..]).0[..vectors]);
            // What a row's last vector writes beyond it is written over by the next row.
            let row = &mut self.out[y * self.layout.width..];
            for (index, out) in row.chunks_mut(S::F32_LANES).take(vectors).enumerate() {
                let mut sum = bias;
                for (weight, line) in weight.iter().zip(lines) {
                    sum = weight.fma(F32(simd, line[index]), sum);
                }
                sum.store(out);
            }
        }
    }

    #[inline(always)]
    fn any<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        for (y, row) in self.out.chunks_exact_mut(self.layout.width).enumerate() {
            let from = &self.padded[y * self.step..];
            for (index, out) in row.chunks_mut(SIDE * lanes).enumerate() {
                let from = &from[index * SIDE * lanes..];
                let bias = F32::of(simd, self.bias);
                match out.len().div_ceil(lanes) {
                    1 => side::<S, 1>(simd, from, self.taps, self.weight, bias, out),
                    2 => side::<S, 2>(simd, from, self.taps, self.weight, bias, out),
                    _ => side::<S, SIDE>(simd, from, self.taps, self.weight, bias, out),
                }
            }
        }
    }
}

#[inline(always)]
fn side<S: Simd, const N: usize>(
    simd: S,
    from: &[f32],
    taps: &[usize],
    weight: &[f32],
    bias: F32<S>,
    out: &mut [f32],
) {
    let mut sums = [bias; N];
    for (&tap, &weight) in taps.iter().zip(weight) {
        let vectors = S::as_simd_f32s(&from[tap..][..N * S::F32_LANES]).0;
        let weight = F32::of(simd, weight);
        for (sum, &x) in sums.iter_mut().zip(vectors) {
            *sum = weight.fma(F32(simd, x), *sum);
        }
    }
    for (out, sum) in out.chunks_mut(S::F32_LANES).zip(sums) {
        sum.store(out);
    }
}
