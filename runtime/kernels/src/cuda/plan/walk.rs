//! A dense shape and how operands lie in it, with as few dimensions as that takes.

use crate::cuda::plan::Params;

/// As many dimensions as a kernel takes.
const RANK: usize = 16;
/// What one thread moves at once.
const VECTOR_BYTES: usize = 16;

/// For each dimension its size and the stride of each operand, in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walk<const N: usize> {
    count: u64,
    dims: Vec<usize>,
    strides: [Vec<i64>; N],
}

impl<const N: usize> Walk<N> {
    /// Of sizes and strides; dimensions that need not be told apart become one.
    pub(crate) fn new(dims: &[usize], strides: [&[i64]; N]) -> Walk<N> {
        let count = dims.iter().map(|&dim| dim as u64).product();
        let mut walk = Walk { count, dims: Vec::new(), strides: [const { Vec::new() }; N] };
        for (d, &dim) in dims.iter().enumerate().filter(|&(_, &dim)| dim != 1) {
            let of = |n: usize| strides[n].get(d).copied().unwrap_or(0);
            let joins = !walk.dims.is_empty()
                && (0..N).all(|n| walk.strides[n].last() == Some(&(of(n) * dim as i64)));
            if joins && let Some(last) = walk.dims.last_mut() {
                *last *= dim;
                (0..N).for_each(|n| {
                    if let Some(last) = walk.strides[n].last_mut() {
                        *last = of(n);
                    }
                });
            } else {
                walk.dims.push(dim);
                (0..N).for_each(|n| walk.strides[n].push(of(n)));
            }
        }
        if walk.dims.is_empty() {
            walk.dims.push(count as usize);
            walk.strides.iter_mut().for_each(|strides| strides.push(1));
        }
        walk
    }

    /// Of a shape to which others are broadcast.
    pub(crate) fn broadcast(dims: &[usize], operands: [&[usize]; N]) -> Walk<N> {
        let strides = operands.map(|operand| spread(dims.len(), operand));
        Walk::new(dims, std::array::from_fn(|n| strides[n].as_slice()))
    }

    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    pub(crate) fn strides(&self, operand: usize) -> &[i64] {
        self.strides.get(operand).map_or(&[], Vec::as_slice)
    }

    /// How many elements of `size` bytes a thread can take at once: those of 16 bytes where every operand's lie side by
    /// side or are one, and begin at multiples of that; else 1.
    pub(crate) fn vector(&self, size: usize) -> usize {
        let vector = VECTOR_BYTES / size.max(1);
        let inner = self.dims.last().copied().unwrap_or(1);
        let fits = inner.is_multiple_of(vector)
            && self.strides.iter().all(|strides| match strides.split_last() {
                Some((1, outer)) => outer.iter().all(|&stride| stride % vector as i64 == 0),
                Some((0, _)) | None => true,
                _ => false,
            });
        if fits { vector } else { 1 }
    }

    /// As `Walk<N>` in the kernel sources.
    pub(crate) fn params(&self, mut params: Params) -> Params {
        params = params.u64(self.count).u32(self.dims.len() as u32);
        for d in 0..RANK {
            // A dimension that a 32-bit number does not hold is alone, and a walk of one dimension does not read it.
            params = params.u32(self.dims.get(d).map_or(1, |&dim| dim as u32));
        }
        for strides in &self.strides {
            for d in 0..RANK {
                params = params.i64(strides.get(d).copied().unwrap_or(0));
            }
        }
        params
    }

    /// Whether a kernel can take it.
    pub(crate) fn fits(&self) -> bool {
        self.dims.len() <= RANK
            && (self.dims.len() == 1 || self.dims.iter().all(|&dim| u32::try_from(dim).is_ok()))
    }
}

/// The strides of a dense row-major shape.
pub(crate) fn dense(dims: &[usize]) -> Vec<i64> {
    let mut strides = vec![1i64; dims.len()];
    for d in (1..dims.len()).rev() {
        strides[d - 1] = strides[d].wrapping_mul(dims[d].max(1) as i64);
    }
    strides
}

/// The strides with which a dense shape is broadcast to `rank` dimensions.
pub(crate) fn spread(rank: usize, dims: &[usize]) -> Vec<i64> {
    let own = dense(dims);
    let missing = rank.saturating_sub(dims.len());
    let repeated = dims.iter().zip(own).map(|(&dim, stride)| if dim == 1 { 0 } else { stride });
    std::iter::repeat_n(0, missing).chain(repeated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_operands_have_one_dimension() {
        let walk = Walk::broadcast(&[2, 3, 4], [&[2, 3, 4], &[2, 3, 4]]);
        assert_eq!(
            (walk.dims(), walk.strides(0), walk.strides(1)),
            (&[24][..], &[1][..], &[1][..])
        );
        assert_eq!((walk.vector(4), walk.vector(8), walk.vector(1)), (4, 2, 1));
    }

    #[test]
    fn a_bias_keeps_rows_apart() {
        let walk = Walk::broadcast(&[2, 3, 8], [&[2, 3, 8], &[8]]);
        assert_eq!(
            (walk.dims(), walk.strides(0), walk.strides(1)),
            (&[6, 8][..], &[8, 1][..], &[0, 1][..])
        );
        assert_eq!(walk.vector(4), 4);
        let walk = Walk::broadcast(&[2, 3, 8], [&[2, 3, 8], &[3, 1]]);
        assert_eq!((walk.dims(), walk.strides(1)), (&[2, 3, 8][..], &[0, 1, 0][..]));
        let odd = Walk::broadcast(&[2, 7], [&[2, 7], &[7]]);
        assert_eq!(odd.vector(4), 1);
    }

    #[test]
    fn scalars_and_transposed_operands() {
        let walk = Walk::broadcast(&[], [&[], &[]]);
        assert_eq!((walk.count, walk.dims()), (1, &[1][..]));
        let walk = Walk::new(&[3, 4], [&[4, 1], &[1, 3]]);
        assert_eq!((walk.dims().len(), walk.vector(4)), (2, 1));
        assert!(walk.fits());
    }
}
