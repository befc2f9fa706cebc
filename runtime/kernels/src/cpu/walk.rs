//! Walking several tensors of different strides in step.

use std::ops::Range;

use innkeeper_tensor::{RANK_MAX, Shape};

/// Positions in `N` tensors, visited in the row-major order of one shape. Dimensions of size 1 are left out, and
/// neighbours that are one run in every tensor are merged, so that the innermost dimension is as long as can be.
pub(super) struct Walk<const N: usize> {
    // Innermost first; the first is the inner dimension that callers loop over themselves.
    sizes: [usize; RANK_MAX + 1],
    strides: [[usize; N]; RANK_MAX + 1],
    rank: usize,
}

impl<const N: usize> Walk<N> {
    /// Over `shape`, to which all of `operands` broadcast.
    pub(super) fn broadcast(shape: &Shape, operands: [&Shape; N]) -> Walk<N> {
        let mut walk = Walk::empty();
        let mut run = [1; N];
        for (back, &size) in shape.dims().iter().rev().enumerate() {
            let mut strides = [0; N];
            for ((stride, run), operand) in strides.iter_mut().zip(&mut run).zip(operands) {
                let dim = operand.dims().iter().rev().nth(back).copied().unwrap_or(1);
                *stride = if dim == 1 { 0 } else { *run };
                *run *= dim;
            }
            walk.push(size, strides);
        }
        walk.finish()
    }

    /// Over dimensions with the strides that they have in each tensor, innermost first.
    pub(super) fn strided(dims: impl IntoIterator<Item = (usize, [usize; N])>) -> Walk<N> {
        let mut walk = Walk::empty();
        for (size, strides) in dims {
            walk.push(size, strides);
        }
        walk.finish()
    }

    /// As [`Walk::strided`], with every dimension visited by [`Walk::rows`].
    pub(super) fn points(dims: impl IntoIterator<Item = (usize, [usize; N])>) -> Walk<N> {
        let mut walk = Walk::empty();
        walk.sizes[0] = 1;
        walk.rank = 1;
        for (size, strides) in dims {
            walk.push(size, strides);
        }
        walk
    }

    fn empty() -> Walk<N> {
        Walk { sizes: [0; RANK_MAX + 1], strides: [[0; N]; RANK_MAX + 1], rank: 0 }
    }

    fn push(&mut self, size: usize, strides: [usize; N]) {
        if size == 1 {
            return;
        }
        if let Some(last) = self.rank.checked_sub(1)
            && self.sizes[last] != 1
            && (self.strides[last].iter().zip(strides))
                .all(|(inner, outer)| inner * self.sizes[last] == outer)
        {
            self.sizes[last] *= size;
            return;
        }
        self.sizes[self.rank] = size;
        self.strides[self.rank] = strides;
        self.rank += 1;
    }

    fn finish(mut self) -> Walk<N> {
        if self.rank == 0 {
            self.sizes[0] = 1;
            self.rank = 1;
        }
        self
    }

    /// How long the inner dimension is, and its stride in each tensor.
    pub(super) fn inner(&self) -> (usize, [usize; N]) {
        (self.sizes[0], self.strides[0])
    }

    /// Calls `row` with the positions at which each inner run starts. No size may be 0.
    #[inline(always)]
    pub(super) fn rows(&self, mut row: impl FnMut([usize; N])) {
        let mut at = [0; N];
        let mut count = [0; RANK_MAX + 1];
        loop {
            row(at);
            let mut dim = 1;
            loop {
                if dim >= self.rank {
                    return;
                }
                count[dim] += 1;
                for (at, stride) in at.iter_mut().zip(self.strides[dim]) {
                    *at += stride;
                }
                if count[dim] < self.sizes[dim] {
                    break;
                }
                for (at, stride) in at.iter_mut().zip(self.strides[dim]) {
                    *at -= stride * self.sizes[dim];
                }
                count[dim] = 0;
                dim += 1;
            }
        }
    }
}

impl Walk<1> {
    /// [`Walk::rows`] of one tensor, compiled once and not for each caller.
    pub(super) fn points_by(&self, point: &mut dyn FnMut(usize)) {
        self.rows(|[at]| point(at));
    }
}

// Three arrays are walked side by side.
#[allow(clippy::needless_range_loop)]
impl<const N: usize> Walk<N> {
    /// Calls `span` with the positions at which runs start and their lengths, for those elements of the walk, in its
    /// order. No size may be 0.
    #[inline(always)]
    pub(super) fn spans(&self, elements: Range<usize>, mut span: impl FnMut([usize; N], usize)) {
        let n = self.sizes[0];
        let mut count = [0; RANK_MAX + 1];
        let mut at = [0; N];
        let mut row = elements.start / n;
        for dim in 1..self.rank {
            count[dim] = row % self.sizes[dim];
            row /= self.sizes[dim];
            for (at, stride) in at.iter_mut().zip(self.strides[dim]) {
                *at += stride * count[dim];
            }
        }
        let (mut column, mut left) = (elements.start % n, elements.len());
        while left > 0 {
            let len = left.min(n - column);
            let mut start = at;
            for (start, stride) in start.iter_mut().zip(self.strides[0]) {
                *start += stride * column;
            }
            span(start, len);
            left -= len;
            column = 0;
            self.step(&mut at, &mut count);
        }
    }

    /// To the next row; after the last to the first.
    #[inline(always)]
    fn step(&self, at: &mut [usize; N], count: &mut [usize; RANK_MAX + 1]) {
        for dim in 1..self.rank {
            count[dim] += 1;
            for (at, stride) in at.iter_mut().zip(self.strides[dim]) {
                *at += stride;
            }
            if count[dim] < self.sizes[dim] {
                return;
            }
            for (at, stride) in at.iter_mut().zip(self.strides[dim]) {
                *at -= stride * self.sizes[dim];
            }
            count[dim] = 0;
        }
    }
}

/// The row-major strides of `shape`, outermost first.
pub(super) fn strides(shape: &Shape) -> [usize; RANK_MAX] {
    let mut strides = [0; RANK_MAX];
    let mut run = 1;
    for (stride, dim) in strides[..shape.rank()].iter_mut().zip(shape.dims()).rev() {
        *stride = run;
        run *= dim;
    }
    strides
}

/// `shape` around `axis`: how many blocks, how many positions along the axis, how many elements at each.
pub(super) fn around(shape: &Shape, axis: usize) -> (usize, usize, usize) {
    let dims = shape.dims();
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    fn visited<const N: usize>(walk: &Walk<N>) -> Vec<[usize; N]> {
        let mut rows = Vec::new();
        walk.rows(|at| rows.push(at));
        rows
    }

    #[test]
    fn equal_shapes_are_one_run() {
        let a = shape(&[2, 1, 3, 4]);
        let walk = Walk::broadcast(&a, [&a, &a]);
        assert_eq!(walk.inner(), (24, [1, 1]));
        assert_eq!(visited(&walk), [[0, 0]]);
    }

    #[test]
    fn a_repeated_operand_stands_still() {
        let walk = Walk::broadcast(&shape(&[2, 3, 4]), [&shape(&[2, 1, 1]), &shape(&[3, 4])]);
        assert_eq!(walk.inner(), (12, [0, 1]));
        assert_eq!(visited(&walk), [[0, 0], [1, 0]]);
        let walk = Walk::broadcast(&shape(&[2, 3]), [&shape(&[2, 1]), &shape(&[1, 3])]);
        assert_eq!(walk.inner(), (3, [0, 1]));
        assert_eq!(visited(&walk), [[0, 0], [1, 0]]);
    }

    #[test]
    fn scalars_are_one_row_of_one() {
        let walk = Walk::broadcast(&shape(&[]), [&shape(&[]), &shape(&[])]);
        assert_eq!((walk.inner().0, visited(&walk)), (1, vec![[0, 0]]));
        let walk = Walk::broadcast(&shape(&[1, 1]), [&shape(&[1]), &shape(&[])]);
        assert_eq!((walk.inner().0, visited(&walk)), (1, vec![[0, 0]]));
    }

    #[test]
    fn spans_are_the_rows_from_anywhere() {
        let walk = Walk::broadcast(&shape(&[2, 3, 4]), [&shape(&[2, 1, 4]), &shape(&[3, 1])]);
        let each = |elements: Range<usize>| {
            let mut all = vec![];
            walk.spans(elements, |[i, j], len| all.extend((0..len).map(|k| (i + k, j))));
            all
        };
        let whole: Vec<_> = (0..24).map(|i| (i / 12 * 4 + i % 4, i / 4 % 3)).collect();
        for start in 0..24 {
            for end in start..=24 {
                assert_eq!(each(start..end), whole[start..end]);
            }
        }
    }

    #[test]
    fn points_visit_every_dimension() {
        let walk = Walk::points([(2, [1]), (2, [10])]);
        assert_eq!(visited(&walk), [[0], [1], [10], [11]]);
        assert_eq!(visited(&Walk::<1>::points([])), [[0]]);
    }
}
