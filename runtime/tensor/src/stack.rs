//! Tensors laid one after the other along a dimension, and taken apart again.

use crate::{Buffer, DType, Shape, Tensor, TensorError};

/// Tensors that cannot be laid one after the other, or not be taken apart as was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// There is nothing to stack.
    #[error("there are no tensors to stack")]
    Empty,
    /// A dimension that the tensors do not have.
    #[error("a tensor of shape {shape} has no dimension {axis}")]
    Axis {
        /// Its shape.
        shape: Shape,
        /// The dimension that was asked for.
        axis: usize,
    },
    /// Tensors that differ in dtype or in another dimension.
    #[error("{dtype} {shape} cannot be stacked along dimension {axis} on {got_dtype} {got}")]
    Differ {
        /// The first tensor's dtype.
        dtype: DType,
        /// The first tensor's shape.
        shape: Shape,
        /// The dimension.
        axis: usize,
        /// The other's dtype.
        got_dtype: DType,
        /// The other's shape.
        got: Shape,
    },
    /// Sizes that do not add up to the dimension's.
    #[error("dimension {axis} of shape {shape} cannot be split into parts of {wanted} in all")]
    Rows {
        /// The tensor's shape.
        shape: Shape,
        /// The dimension.
        axis: usize,
        /// What the sizes come to.
        wanted: usize,
    },
    /// The result's shape is none.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl Tensor {
    /// The tensors one after the other along dimension `axis`; all else about them must be the same. The result's bytes
    /// are new and aligned for every dtype; those of one tensor alone are shared.
    ///
    /// # Errors
    /// [`StackError`], also where bytes that lie elsewhere must have been fetched before.
    pub fn stack(tensors: &[&Tensor], axis: usize) -> Result<Tensor, StackError> {
        let first = tensors.first().ok_or(StackError::Empty)?;
        check_axis(first.shape(), axis)?;
        let mut dims = first.shape().dims().to_vec();
        for tensor in &tensors[1..] {
            if !same_but_for(first, tensor, axis) {
                return Err(StackError::Differ {
                    dtype: first.dtype(),
                    shape: first.shape().clone(),
                    axis,
                    got_dtype: tensor.dtype(),
                    got: tensor.shape().clone(),
                });
            }
            dims[axis] = dims[axis].saturating_add(tensor.shape().dims()[axis]);
        }
        if let [only] = tensors {
            return Ok((*only).clone());
        }
        let shape = Shape::new(&dims).map_err(TensorError::from)?;
        let len = tensors.iter().map(|tensor| tensor.data().len()).sum();
        let data = Buffer::aligned(len, |into| interleave(tensors, axis, into));
        Ok(Tensor::from_parts(first.dtype(), shape, data))
    }

    /// The tensor taken apart along dimension `axis` into parts of these sizes, which must add up to the dimension's.
    /// Along the first dimension the parts share the tensor's bytes.
    ///
    /// # Errors
    /// [`StackError::Axis`], [`StackError::Rows`].
    pub fn split(&self, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor>, StackError> {
        check_axis(self.shape(), axis)?;
        let dims = self.shape().dims();
        let wanted = sizes.iter().fold(0usize, |sum, &size| sum.saturating_add(size));
        if wanted != dims[axis] {
            return Err(StackError::Rows { shape: self.shape().clone(), axis, wanted });
        }
        let offsets = Offsets::of(self);
        let outer: usize = dims[..axis].iter().product();
        let inner: usize = dims[axis + 1..].iter().product();
        let mut begin = 0;
        let mut parts = Vec::with_capacity(sizes.len());
        for &size in sizes {
            let runs = (0..outer).map(|i| {
                let from = (i * dims[axis] + begin) * inner;
                offsets.at(from)..offsets.at(from + size * inner)
            });
            let data = match axis {
                // One run of bytes, wherever it lies.
                0 => runs.take(1).next().and_then(|run| self.data().slice(run)),
                _ => Some(gather(self.as_bytes(), runs)),
            };
            let mut dims = dims.to_vec();
            dims[axis] = size;
            let shape = Shape::new(&dims).map_err(TensorError::from)?;
            let data = data.unwrap_or_else(|| Buffer::from_vec(Vec::<u8>::new()));
            parts.push(Tensor::from_parts(self.dtype(), shape, data));
            begin += size;
        }
        Ok(parts)
    }
}

fn check_axis(shape: &Shape, axis: usize) -> Result<(), StackError> {
    match axis < shape.rank() {
        true => Ok(()),
        false => Err(StackError::Axis { shape: shape.clone(), axis }),
    }
}

fn same_but_for(a: &Tensor, b: &Tensor, axis: usize) -> bool {
    let (dims, other) = (a.shape().dims(), b.shape().dims());
    a.dtype() == b.dtype()
        && dims.len() == other.len()
        && (0..dims.len()).all(|i| i == axis || dims[i] == other[i])
}

/// Writes, for every index before `axis`, what each tensor has there.
fn interleave(tensors: &[&Tensor], axis: usize, into: &mut [u8]) {
    let outer: usize = tensors[0].shape().dims()[..axis].iter().product();
    let sources: Vec<_> = tensors
        .iter()
        .map(|tensor| {
            let run: usize = tensor.shape().dims()[axis..].iter().product();
            (tensor.as_bytes(), Offsets::of(tensor), run)
        })
        .collect();
    let mut at = 0;
    for i in 0..outer {
        for (bytes, offsets, run) in &sources {
            // Bytes that could not be fetched are none; what they would have been stays zero.
            let Some(part) = bytes.get(offsets.at(i * run)..offsets.at((i + 1) * run)) else {
                continue;
            };
            into[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    }
}

fn gather(bytes: &[u8], runs: impl Iterator<Item = std::ops::Range<usize>> + Clone) -> Buffer {
    let len = runs.clone().map(|run| run.len()).sum();
    Buffer::aligned(len, |into| {
        let mut at = 0;
        for run in runs {
            let Some(part) = bytes.get(run) else { continue };
            into[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    })
}

/// Where each element begins.
enum Offsets {
    /// All are of one size.
    Even(usize),
    /// One more than there are elements.
    Each(Vec<usize>),
}

impl Offsets {
    fn of(tensor: &Tensor) -> Offsets {
        if let Some(size) = tensor.dtype().size() {
            return Offsets::Even(size);
        }
        let mut at = 0;
        let mut begins = vec![0];
        for string in tensor.strings().into_iter().flatten() {
            at += size_of::<u32>() + string.len();
            begins.push(at);
        }
        Offsets::Each(begins)
    }

    fn at(&self, element: usize) -> usize {
        match self {
            Offsets::Even(size) => element * size,
            Offsets::Each(begins) => begins.get(element).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(dims: &[usize], first: i32) -> Tensor {
        let count: usize = dims.iter().product();
        Tensor::from_vec(dims, (first..).take(count).collect()).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<i32> {
        tensor.elements().unwrap().to_vec()
    }

    #[test]
    fn rows_lie_one_after_the_other() {
        let (a, b) = (numbers(&[1, 2], 0), numbers(&[2, 2], 10));
        let both = Tensor::stack(&[&a, &b], 0).unwrap();
        assert_eq!(both.shape().dims(), [3, 2]);
        assert_eq!(values(&both), [0, 1, 10, 11, 12, 13]);
        let parts = both.split(0, &[1, 0, 2]).unwrap();
        assert_eq!((values(&parts[0]), values(&parts[1])), (vec![0, 1], vec![]));
        assert_eq!(parts[2], b);
        assert_eq!(parts[0].as_bytes().as_ptr(), both.as_bytes().as_ptr(), "bytes are shared");
    }

    #[test]
    fn columns_lie_beside_each_other() {
        let (a, b) = (numbers(&[2, 1], 0), numbers(&[2, 2], 10));
        let both = Tensor::stack(&[&a, &b], 1).unwrap();
        assert_eq!(both.shape().dims(), [2, 3]);
        assert_eq!(values(&both), [0, 10, 11, 1, 12, 13]);
        assert_eq!(both.split(1, &[1, 2]).unwrap(), [a, b]);
    }

    #[test]
    fn strings_keep_their_lengths() {
        let strings = |dims: &[usize], texts: &[&str]| Tensor::from_strings(dims, texts).unwrap();
        let (a, b) = (strings(&[2, 1], &["a", ""]), strings(&[2, 2], &["bb", "c", "", "ddd"]));
        let both = Tensor::stack(&[&a, &b], 1).unwrap();
        let texts: Vec<_> = both.strings().unwrap().collect();
        assert_eq!(texts, [&b"a"[..], b"bb", b"c", b"", b"", b"ddd"]);
        assert_eq!(both.split(1, &[1, 2]).unwrap(), [a, b]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (a, b) = (numbers(&[1, 2], 0), numbers(&[1, 3], 0));
        let text =
            |tensors: &[&Tensor], axis| Tensor::stack(tensors, axis).unwrap_err().to_string();
        assert_eq!(text(&[], 0), "there are no tensors to stack");
        assert_eq!(text(&[&a], 2), "a tensor of shape [1,2] has no dimension 2");
        assert!(text(&[&a, &b], 0).contains("INT32 [1,2] cannot be stacked along dimension 0"));
        let floats = Tensor::from_vec(&[1, 2], vec![0f32; 2]).unwrap();
        assert!(text(&[&a, &floats], 0).contains("on FP32 [1,2]"));
        assert!(matches!(a.split(0, &[2]), Err(StackError::Rows { wanted: 2, .. })));
        assert!(matches!(a.split(0, &[usize::MAX, 2]), Err(StackError::Rows { .. })));
    }

    proptest! {
        #[test]
        fn what_is_stacked_comes_apart(
            sizes in prop::collection::vec(0usize..4, 1..5),
            mut dims in prop::collection::vec(0usize..4, 1..4),
            axis in 0usize..3,
            is_text: bool,
        ) {
            let axis = axis % dims.len();
            let mut parts = Vec::new();
            for (i, &size) in sizes.iter().enumerate() {
                dims[axis] = size;
                let part = numbers(&dims, 100 * i as i32);
                let texts: Vec<String> = values(&part).iter().map(ToString::to_string).collect();
                parts.push(if is_text { Tensor::from_strings(&dims, &texts).unwrap() } else { part });
            }
            let stacked = Tensor::stack(&parts.iter().collect::<Vec<_>>(), axis).unwrap();
            let again = Tensor::new(stacked.dtype(), stacked.shape().clone(), stacked.data().clone());
            prop_assert!(again.is_ok(), "{again:?}");
            prop_assert_eq!(stacked.split(axis, &sizes).unwrap(), parts);
        }
    }
}
