//! Convolution by its formula, one result after the other, for 3 spatial dimensions and FP64.

use innkeeper_tensor::Tensor;

use crate::cpu::conv::Operands;
use crate::cpu::memory::elements;
use crate::cpu::number::Number;
use crate::infer::conv::Filter;
use crate::infer::grad::window::Slide;
use crate::{OpError, Run};

pub(super) fn conv<T: Number<Sum = f64>>(
    filter: &Filter,
    operands: &Operands<'_>,
    len: usize,
    run: &Run<'_>,
) -> Result<Vec<T>, OpError> {
    let (x, weight) = (elements::<T>(operands.x)?, elements::<T>(operands.weight)?);
    let bias = operands.bias.map(elements::<T>).transpose()?;
    let residual = operands.residual.map(elements::<T>).transpose()?;
    let &Filter { groups, depth, filters, ref slide, .. } = filter;
    let (plane, count, taps) = (slide.plane(), slide.count(), slide.taps());
    let mut out = run.scratch::<T>(len)?;
    run.pieces(&mut out, count.max(1), |index, out| {
        let (batch, m) = (index / (groups * filters), index % (groups * filters));
        let first = (batch * groups + m / filters) * depth;
        for (at, out) in out.iter_mut().enumerate() {
            let mut sum = bias.as_deref().map_or(0.0, |bias| bias[m].widen());
            for channel in 0..depth {
                let x = &x[(first + channel) * plane..][..plane];
                let weight = &weight[(m * depth + channel) * taps..][..taps];
                for_taps(slide, at, |tap, from| sum += x[from].widen() * weight[tap].widen());
            }
            if let Some(residual) = residual.as_deref() {
                sum += residual[index * count + at].widen();
            }
            *out = T::narrow(sum);
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn transpose<T: Number<Sum = f64>>(
    filter: &Filter,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    len: usize,
    run: &Run<'_>,
) -> Result<Vec<T>, OpError> {
    let (x, weight) = (elements::<T>(x)?, elements::<T>(weight)?);
    let bias = bias.map(elements::<T>).transpose()?;
    let &Filter { groups, depth, filters, ref slide, .. } = filter;
    let (plane, count, taps) = (slide.plane(), slide.count(), slide.taps());
    let mut out = run.scratch::<T>(len)?;
    run.pieces(&mut out, plane.max(1), |index, out| {
        let (batch, m) = (index / (groups * filters), index % (groups * filters));
        let (group, within) = (m / filters, m % filters);
        let mut sums = vec![bias.as_deref().map_or(0.0, |bias| bias[m].widen()); plane];
        for channel in group * depth..(group + 1) * depth {
            let x = &x[(batch * groups * depth + channel) * count..][..count];
            let weight = &weight[(channel * filters + within) * taps..][..taps];
            for (at, x) in x.iter().enumerate() {
                for_taps(slide, at, |tap, to| sums[to] += x.widen() * weight[tap].widen());
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = T::narrow(sum));
        Ok(())
    })?;
    Ok(out)
}

/// Calls `each` with every element of window `at` that is not in the padding, and where it lies.
#[inline(always)]
pub(in crate::cpu) fn for_taps(slide: &Slide, at: usize, mut each: impl FnMut(usize, usize)) {
    let [_, height, width] = slide.output;
    let window = [at / (height * width), at / width % height, at % width];
    let [_, rows, columns] = slide.input;
    let [of_z, of_y, of_x]: [_; 3] = std::array::from_fn(|way| inside(slide, way, window[way]));
    let place = |way: usize, tap: usize| {
        window[way] * slide.strides[way] + tap * slide.dilations[way] - slide.before[way]
    };
    for z in of_z {
        for y in of_y.clone() {
            let line = (place(0, z) * rows + place(1, y)) * columns;
            let tap = (z * slide.kernel[1] + y) * slide.kernel[2];
            for x in of_x.clone() {
                each(tap + x, line + place(2, x));
            }
        }
    }
}

/// Which taps of window `index` are not in the padding: as many as there are elements at most, however long the window.
#[inline(always)]
fn inside(slide: &Slide, way: usize, index: usize) -> std::ops::Range<usize> {
    let (start, dilation) = (index * slide.strides[way], slide.dilations[way]);
    let (before, input) = (slide.before[way], slide.input[way]);
    let first = before.saturating_sub(start).div_ceil(dilation);
    let end = (before + input).saturating_sub(start).div_ceil(dilation);
    first..end.min(slide.kernel[way]).max(first)
}
