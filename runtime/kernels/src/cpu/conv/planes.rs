//! Channels with their padding around them, laid out so that every tap of a window reads neighbouring elements for
//! neighbouring results.

use std::borrow::Cow;

use crate::infer::grad::window::Slide;
use crate::{OpError, Run};

/// More planes than so many elements are not held at a time.
const HELD_MAX: usize = 1 << 24;
/// Elements after the last, so that a vector may begin at any.
pub(super) const SLACK: usize = 64;

/// Where the elements of a padded channel lie. With a stride, the columns that one tap sees are neighbours: first come
/// those of remainder 0, then those of remainder 1, and so on, row by row.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// From one channel and padded row to the next.
    pub(super) channel: usize,
    pub(super) row: usize,
    /// From one remainder to the next.
    remainder: usize,
    /// Rows that any window sees.
    rows: usize,
    /// Whether this is how channels lie anyway.
    pub(super) plain: bool,
    /// Columns of the result; all of it is one row if that is the same.
    pub(super) width: usize,
}

impl Layout {
    /// The layout for windows in one or two dimensions; `None` where padding would be most of it.
    pub(super) fn new(slide: &Slide) -> Option<Layout> {
        let [1, _, _] = slide.kernel else { return None };
        let ([1, ..], [1, ..], 0) = (slide.input, slide.output, slide.before[0]) else {
            return None;
        };
        let [_, height, width] = slide.output;
        let reach = |at: usize, windows: usize| {
            windows
                .checked_sub(1)?
                .checked_mul(slide.strides[at])?
                .checked_add(slide.kernel[at].checked_sub(1)?.checked_mul(slide.dilations[at])?)?
                .checked_add(1)
        };
        let (rows, columns) = (reach(1, height)?, reach(2, width)?);
        let remainder = columns.div_ceil(slide.strides[2]);
        let row = remainder.checked_mul(slide.strides[2])?;
        let channel = rows.checked_mul(row)?;
        let whole = slide.taps() == 1
            && slide.strides == [1; 3]
            && (slide.before, slide.after) == ([0; 3], [0; 3]);
        if whole {
            let plane = slide.plane();
            return Some(Layout {
                channel: plane,
                row: plane,
                remainder: plane,
                rows: 1,
                plain: true,
                width: plane,
            });
        }
        let bound = slide.plane().checked_mul(16)?.checked_add(4096)?;
        let layout = Layout { channel, row, remainder, rows, plain: false, width };
        (channel <= bound).then_some(layout)
    }

    /// Where a tap finds what the first result sees, from the channel's start.
    pub(super) fn tap(&self, slide: &Slide, y: usize, x: usize) -> usize {
        let (y, x) = (y * slide.dilations[1], x * slide.dilations[2]);
        let stride = slide.strides[2];
        y * self.row + x % stride * self.remainder + x / stride
    }

    /// Where the first tap finds what result row `y` sees.
    pub(super) fn start(&self, slide: &Slide, y: usize) -> usize {
        y * slide.strides[1] * self.row
    }

    /// How many channels are held at a time.
    pub(super) fn held(&self) -> usize {
        (HELD_MAX / self.channel.max(1)).max(1)
    }

    /// Writes one channel, with zeros around it.
    pub(super) fn write(&self, slide: &Slide, from: &[f32], out: &mut [f32]) {
        let [_, height, width] = slide.input;
        let (stride, before) = (slide.strides[2], slide.before[2]);
        out.fill(0.0);
        let rows = from.chunks_exact(width.max(1)).take(height).enumerate();
        for (y, from) in rows {
            let y = y + slide.before[1];
            if y >= self.rows {
                break;
            }
            let out = &mut out[y * self.row..][..self.row];
            if stride == 1 {
                let len = width.min(self.row.saturating_sub(before));
                out[before.min(self.row)..][..len].copy_from_slice(&from[..len]);
                continue;
            }
            if stride == 2 {
                self.write_two(before, from, out);
                continue;
            }
            for remainder in 0..stride {
                // The first column of the operand with this remainder, and where it goes.
                let first = (remainder + stride - before % stride) % stride;
                let to = remainder * self.remainder + (first + before) / stride;
                let end = (remainder + 1) * self.remainder;
                let Some(out) = out.get_mut(to..end) else { continue };
                let from = from.iter().skip(first).step_by(stride);
                out.iter_mut().zip(from).for_each(|(out, &x)| *out = x);
            }
        }
    }

    /// A row with a stride of 2: its even and its odd columns at once.
    fn write_two(&self, before: usize, from: &[f32], out: &mut [f32]) {
        let (first, second) = out.split_at_mut(self.remainder);
        let (even, odd) = if before.is_multiple_of(2) { (first, second) } else { (second, first) };
        let even = even.get_mut(before / 2..).unwrap_or_default();
        let odd = odd.get_mut(before.div_ceil(2)..).unwrap_or_default();
        let (pairs, last) = from.as_chunks::<2>();
        if let ([x], Some(out)) = (last, even.get_mut(pairs.len())) {
            *out = *x;
        }
        if let (Some(&[x, _]), Some(out)) = (pairs.get(odd.len()), even.get_mut(odd.len())) {
            *out = x;
        }
        for ((even, odd), &[x, y]) in even.iter_mut().zip(odd).zip(pairs) {
            (*even, *odd) = (x, y);
        }
    }

    /// These channels, padded.
    pub(super) fn planes<'a>(
        &self,
        slide: &Slide,
        from: &'a [f32],
        run: &Run<'_>,
    ) -> Result<Cow<'a, [f32]>, OpError> {
        if self.plain {
            return Ok(Cow::Borrowed(from));
        }
        let plane = slide.plane();
        let channels = from.len() / plane.max(1);
        let len = channels
            .checked_mul(self.channel)
            .and_then(|len| len.checked_add(SLACK))
            .ok_or_else(|| OpError::Unsupported("conv: there is no memory to pad".to_owned()))?;
        let mut out = run.scratch::<f32>(len)?;
        let many = ((1 << 16) / self.channel.max(1)).max(1);
        run.pieces(&mut out[..len - SLACK], many * self.channel, |index, out| {
            let from = from[index * many * plane..].chunks_exact(plane.max(1));
            for (from, out) in from.zip(out.chunks_exact_mut(self.channel.max(1))) {
                self.write(slide, from, out);
            }
            Ok(())
        })?;
        out[len - SLACK..].fill(0.0);
        Ok(Cow::Owned(out))
    }
}
