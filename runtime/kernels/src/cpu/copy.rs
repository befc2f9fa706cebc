//! Copying elements to where an operation that only moves them wants them.
//!
//! A result is described dimension by dimension: along each the positions come from runs of positions of the operand
//! ([`Segment`]), or are filled. What is one run of memory on both sides is copied as one.

use innkeeper_tensor::Element;

use crate::cpu::pieces::{PIECE, write_by};
use crate::{OpError, Run};

/// Neighbouring positions along one dimension of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Which position of the operand the first comes from; `None` for what is filled.
    pub(super) from: Option<usize>,
    /// How far apart they are in the operand; 0 repeats one.
    pub(super) step: isize,
    /// How many there are.
    pub(super) len: usize,
}

/// One dimension of a result.
#[derive(Debug, Clone)]
pub(super) struct Dim {
    segments: Vec<Segment>,
    len: usize,
    /// How many elements of the operand lie between two positions.
    stride: usize,
}

impl Dim {
    /// Those segments in order, over a dimension of the operand with that stride.
    pub(super) fn new(segments: Vec<Segment>, stride: usize) -> Dim {
        let segments: Vec<Segment> =
            segments.into_iter().filter(|segment| segment.len > 0).collect();
        let len = segments.iter().map(|segment| segment.len).sum();
        Dim { segments, len, stride }
    }

    /// All positions in order.
    pub(super) fn whole(len: usize, stride: usize) -> Dim {
        Dim::new(vec![Segment { from: Some(0), step: 1, len }], stride)
    }

    /// One position, `times` over.
    pub(super) fn repeated(times: usize) -> Dim {
        Dim::new(vec![Segment { from: Some(0), step: 0, len: times }], 0)
    }

    /// Whether it is only one position.
    pub(super) fn is_once(&self) -> bool {
        matches!(self.segments[..], [Segment { from: Some(0), len: 1, .. }])
    }

    /// Where position `index` is in the operand.
    fn offset(&self, mut index: usize) -> Option<usize> {
        for segment in &self.segments {
            if index < segment.len {
                let from = segment.from?;
                let position = from.wrapping_add_signed(segment.step.wrapping_mul(index as isize));
                return Some(position * self.stride);
            }
            index -= segment.len;
        }
        None
    }

    /// The only segment, if it is a run of the operand that starts at 0.
    fn run(&self) -> Option<usize> {
        match self.segments[..] {
            [Segment { from: Some(0), step: 1, len }] => Some(len),
            _ => None,
        }
    }
}

/// The result of those dimensions, outermost first; `inner` neighbouring elements make one position of the last.
pub(super) struct Copy {
    dims: Vec<Dim>,
    inner: usize,
    len: usize,
}

impl Copy {
    /// Dimensions outermost first. Trailing ones that are one run of memory become one.
    pub(super) fn new(mut dims: Vec<Dim>) -> Copy {
        let len = dims.iter().map(|dim| dim.len).product();
        let mut inner = 1;
        if len > 0 {
            while let Some(last) = dims.last()
                && last.stride == inner
                && let Some(run) = last.run()
                && dims.len() > 1
            {
                // A shorter run than the operand's leaves the next stride larger than this.
                inner *= run;
                dims.pop();
            }
            dims.retain(|dim| !dim.is_once());
        }
        Copy { dims, inner, len }
    }

    /// The elements.
    pub(super) fn elements<W: Element + Default>(
        &self,
        x: &[W],
        fill: W,
        run: &Run<'_>,
    ) -> Result<Vec<W>, OpError> {
        let mut out = run.scratch(self.len)?;
        if self.len == 0 {
            return Ok(out);
        }
        // Rows are split off until one is short enough for a piece.
        let mut depth = 0;
        let mut row = self.len;
        while row > PIECE && depth + 1 < self.dims.len() {
            row /= self.dims[depth].len;
            depth += 1;
        }
        let rows = (PIECE / row.max(1)).max(1);
        write_by(run, &mut out, rows * row, |start, piece| {
            for (index, out) in piece.chunks_mut(row).enumerate() {
                let at = self.locate(start / row + index, depth);
                self.copy(&self.dims[depth..], x, at, fill, out);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Where in the operand row `row` of the first `depth` dimensions starts.
    fn locate(&self, mut row: usize, depth: usize) -> Option<usize> {
        let mut at = Some(0);
        for dim in self.dims[..depth].iter().rev() {
            let offset = dim.offset(row % dim.len);
            row /= dim.len;
            at = at.zip(offset).map(|(at, offset)| at + offset);
        }
        at
    }

    fn copy<W: Element>(
        &self,
        dims: &[Dim],
        x: &[W],
        at: Option<usize>,
        fill: W,
        mut out: &mut [W],
    ) {
        let Some(at) = at else {
            out.fill(fill);
            return;
        };
        let Some((dim, rest)) = dims.split_first() else {
            out.copy_from_slice(&x[at..at + out.len()]);
            return;
        };
        let each = out.len() / dim.len;
        for segment in &dim.segments {
            let (part, after) = out.split_at_mut(segment.len * each);
            out = after;
            let Some(from) = segment.from else {
                part.fill(fill);
                continue;
            };
            let start = at + from * dim.stride;
            let step = segment.step.wrapping_mul(dim.stride as isize);
            if rest.is_empty() {
                copy_run(x, start, step, self.inner, part);
            } else {
                for (index, row) in part.chunks_mut(each).enumerate() {
                    let start = start.wrapping_add_signed(step.wrapping_mul(index as isize));
                    self.copy(rest, x, Some(start), fill, row);
                }
            }
        }
    }
}

/// Blocks of `inner` elements, `step` apart, from `start` on.
fn copy_run<W: Element>(x: &[W], start: usize, step: isize, inner: usize, out: &mut [W]) {
    let place = |index: usize| start.wrapping_add_signed(step.wrapping_mul(index as isize));
    if step == inner as isize {
        out.copy_from_slice(&x[start..start + out.len()]);
    } else if inner > 1 {
        for (index, block) in out.chunks_exact_mut(inner).enumerate() {
            let at = place(index);
            block.copy_from_slice(&x[at..at + inner]);
        }
    } else if step == 0 {
        out.fill(x[start]);
    } else if step > 0 {
        let from = x[start..].iter().step_by(step as usize);
        out.iter_mut().zip(from).for_each(|(out, &x)| *out = x);
    } else {
        let from = x[..=start].iter().rev().step_by(step.unsigned_abs());
        out.iter_mut().zip(from).for_each(|(out, &x)| *out = x);
    }
}
