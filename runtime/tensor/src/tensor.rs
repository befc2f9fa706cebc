//! A dtype, a shape and the bytes that fit them.

use std::borrow::Cow;
use std::sync::Arc;

use crate::memo::Memo;
use crate::{Buffer, DType, Derived, Element, Shape, ShapeError};

/// A dense, row-major, immutable tensor. A clone shares the bytes.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Buffer,
    /// Only constants have one.
    memo: Option<Arc<Memo>>,
}

/// Bytes that are no tensor of the dtype and shape that were said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The shape itself is wrong.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Too few or too many bytes.
    #[error("a {dtype} tensor of shape {shape} takes {wanted} bytes, got {got}")]
    Length {
        /// The dtype that was said.
        dtype: DType,
        /// The shape that was said.
        shape: Shape,
        /// What the two come to.
        wanted: usize,
        /// What came.
        got: usize,
    },
    /// A BOOL byte other than 0 and 1.
    #[error("BOOL element {index} is {value}; it must be 0 or 1")]
    Bool {
        /// Which element, from 0.
        index: usize,
        /// What came.
        value: u8,
    },
    /// BYTES elements whose lengths do not add up.
    #[error(
        "a BYTES tensor of shape {shape} takes {wanted} elements, each a u32 length and that many bytes; {problem}"
    )]
    Framing {
        /// The shape that was said.
        shape: Shape,
        /// How many elements that is.
        wanted: usize,
        /// What was met.
        problem: String,
    },
    /// The elements are of another dtype than asked for.
    #[error("the tensor is {got}, not {wanted}")]
    DType {
        /// What was asked for.
        wanted: DType,
        /// What it is.
        got: DType,
    },
}

impl Tensor {
    /// A tensor over these bytes, checked: their number, BOOL values, BYTES framing. For bytes that lie elsewhere, see
    /// [`Remote`](crate::Remote), whoever made them vouches for BOOL values.
    ///
    /// # Errors
    /// [`TensorError::Length`], [`TensorError::Bool`], [`TensorError::Framing`].
    pub fn new(dtype: DType, shape: Shape, data: Buffer) -> Result<Tensor, TensorError> {
        match dtype.size() {
            Some(size) => {
                let wanted = shape.elements() * size;
                if data.len() != wanted {
                    return Err(TensorError::Length { dtype, shape, wanted, got: data.len() });
                }
                if dtype == DType::Bool
                    && !data.is_remote()
                    && let Some(index) = data.as_bytes().iter().position(|&byte| byte > 1)
                {
                    return Err(TensorError::Bool { index, value: data.as_bytes()[index] });
                }
            }
            None => check_framing(&shape, data.as_bytes())?,
        }
        Ok(Tensor { dtype, shape, data, memo: None })
    }

    /// A tensor of parts that are known to fit, such as pieces of another tensor.
    pub(crate) fn from_parts(dtype: DType, shape: Shape, data: Buffer) -> Tensor {
        Tensor { dtype, shape, data, memo: None }
    }

    /// A tensor of these elements.
    ///
    /// # Errors
    /// [`TensorError::Length`] when there are more or fewer than the shape holds, [`TensorError::Shape`].
    pub fn from_vec<T: Element>(shape: &[usize], elements: Vec<T>) -> Result<Tensor, TensorError> {
        Tensor::new(T::DTYPE, Shape::new(shape)?, Buffer::from_vec(elements))
    }

    /// A BOOL tensor.
    ///
    /// # Errors
    /// As [`Tensor::from_vec`].
    pub fn from_bools(shape: &[usize], elements: &[bool]) -> Result<Tensor, TensorError> {
        let bytes: Vec<u8> = elements.iter().map(|&element| u8::from(element)).collect();
        Tensor::new(DType::Bool, Shape::new(shape)?, Buffer::from_vec(bytes))
    }

    /// A BYTES tensor.
    ///
    /// # Errors
    /// As [`Tensor::from_vec`].
    pub fn from_strings<S: AsRef<[u8]>>(
        shape: &[usize],
        elements: &[S],
    ) -> Result<Tensor, TensorError> {
        let mut bytes = Vec::new();
        for element in elements {
            let element = element.as_ref();
            bytes.extend_from_slice(&(element.len() as u32).to_le_bytes());
            bytes.extend_from_slice(element);
        }
        Tensor::new(DType::Bytes, Shape::new(shape)?, Buffer::from_vec(bytes))
    }

    /// The type of an element.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes, little-endian and row-major.
    pub fn data(&self) -> &Buffer {
        &self.data
    }

    /// The bytes, little-endian and row-major.
    pub fn as_bytes(&self) -> &[u8] {
        self.data.as_bytes()
    }

    /// The elements, borrowed where the bytes lie aligned and copied where they do not.
    ///
    /// # Errors
    /// [`TensorError::DType`].
    pub fn elements<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::DType { wanted: T::DTYPE, got: self.dtype });
        }
        let bytes = self.as_bytes();
        Ok(match bytemuck::try_cast_slice(bytes) {
            Ok(elements) => Cow::Borrowed(elements),
            Err(_) => Cow::Owned(copied(bytes)),
        })
    }

    /// The elements of a BYTES tensor.
    ///
    /// # Errors
    /// [`TensorError::DType`].
    pub fn strings(&self) -> Result<Strings<'_>, TensorError> {
        if self.dtype != DType::Bytes {
            return Err(TensorError::DType { wanted: DType::Bytes, got: self.dtype });
        }
        Ok(Strings { rest: self.as_bytes() })
    }

    /// The same elements under another shape, sharing the bytes.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the numbers of elements differ.
    pub fn reshaped(&self, shape: Shape) -> Result<Tensor, TensorError> {
        if shape.elements() != self.shape.elements() {
            let size = self.dtype.size().unwrap_or(1);
            let (wanted, got) = (shape.elements() * size, self.shape.elements() * size);
            return Err(TensorError::Length { dtype: self.dtype, shape, wanted, got });
        }
        Ok(Tensor { dtype: self.dtype, shape, data: self.data.clone(), memo: None })
    }

    /// The same tensor, marked as one that is used many times, such as a weight: what kernels derive from it is kept
    /// with it, shared by its clones, and freed with the last of them.
    #[must_use]
    pub fn constant(mut self) -> Tensor {
        self.memo.get_or_insert_default();
        self
    }

    /// Whether it was marked by [`Tensor::constant`].
    pub fn is_constant(&self) -> bool {
        self.memo.is_some()
    }

    /// What `make` derives from this tensor, made once for all clones; `None` when the tensor is not constant. A type
    /// `D` stands for one way of deriving, which must depend on nothing but the tensor.
    pub fn derived<D: Derived>(&self, make: impl FnOnce() -> D) -> Option<Arc<D>> {
        self.memo.as_ref().map(|memo| memo.get(make))
    }

    /// The bytes of everything that was derived from this tensor and is kept.
    pub fn derived_byte_length(&self) -> usize {
        self.memo.as_ref().map_or(0, |memo| memo.byte_length()) + self.data.kept_bytes()
    }

    /// Brings bytes that lie elsewhere here; see [`Buffer::fetch`].
    ///
    /// # Errors
    /// They could not be brought.
    pub fn fetch(&self) -> Result<(), crate::FetchError> {
        self.data.fetch()
    }

    /// The bytes, and nothing else.
    pub fn into_data(self) -> Buffer {
        self.data
    }
}

impl PartialEq for Tensor {
    /// The same dtype, shape and bytes.
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && self.as_bytes() == other.as_bytes()
    }
}

/// The elements of a BYTES tensor, in order.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (element, rest) = split_element(self.rest)?;
        self.rest = rest;
        Some(element)
    }
}

/// The first element of a run of BYTES elements, and what follows it.
fn split_element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    rest.split_at_checked(len)
}

/// The elements, wherever the bytes lie.
fn copied<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

fn check_framing(shape: &Shape, bytes: &[u8]) -> Result<(), TensorError> {
    let wanted = shape.elements();
    let framing = |problem: String| TensorError::Framing { shape: shape.clone(), wanted, problem };
    let mut rest = bytes;
    for index in 0..wanted {
        let Some((_, after)) = split_element(rest) else {
            return Err(framing(format!(
                "element {index} runs past the end of the {} bytes",
                bytes.len()
            )));
        };
        rest = after;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(framing(format!("{} bytes are left over", rest.len())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    #[test]
    fn lengths_must_fit() {
        assert!(Tensor::from_vec(&[2, 3], vec![0f32; 6]).is_ok());
        let error = Tensor::from_vec(&[2, 3], vec![0f32; 5]).unwrap_err();
        assert_eq!(error.to_string(), "a FP32 tensor of shape [2,3] takes 24 bytes, got 20");
    }

    #[test]
    fn booleans_are_zero_or_one() {
        let error =
            Tensor::new(DType::Bool, shape(&[2]), Buffer::from_vec(vec![1u8, 2])).unwrap_err();
        assert_eq!(error, TensorError::Bool { index: 1, value: 2 });
    }

    #[test]
    fn unaligned_bytes_read_the_same() {
        let bytes: Vec<u8> = [0u8].into_iter().chain(1.5f32.to_le_bytes()).collect();
        let data = Buffer::from_vec(bytes).slice(1..5).unwrap();
        let tensor = Tensor::new(DType::Fp32, shape(&[1]), data).unwrap();
        assert_eq!(*tensor.elements::<f32>().unwrap(), [1.5]);
        assert!(tensor.elements::<i32>().is_err());
    }

    #[test]
    fn framing_must_add_up() {
        for (elements, bytes) in
            [(1, &[][..]), (1, &[1, 0, 0, 0]), (1, &[0, 0, 0, 0, 9]), (1, &[255, 255, 255, 255])]
        {
            let data = Buffer::from_vec(bytes.to_vec());
            assert!(matches!(
                Tensor::new(DType::Bytes, shape(&[elements]), data),
                Err(TensorError::Framing { .. })
            ));
        }
    }

    struct Sum(f32);

    impl Derived for Sum {
        fn byte_length(&self) -> usize {
            4
        }
    }

    #[test]
    fn what_is_derived_is_made_once_for_all_clones() {
        let tensor = Tensor::from_vec(&[2], vec![1f32, 2.0]).unwrap();
        assert!(tensor.derived(|| Sum(0.0)).is_none());
        let constant = tensor.constant();
        let sum = |t: &Tensor| Sum(t.elements::<f32>().unwrap().iter().sum());
        let first = constant.derived(|| sum(&constant)).unwrap();
        let again = constant.clone().derived(|| unreachable!("made already")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!((again.0, constant.derived_byte_length()), (3.0, 4));
    }

    proptest! {
        #[test]
        fn strings_read_back(strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let tensor = Tensor::from_strings(&[strings.len()], &strings).unwrap();
            let back: Vec<Vec<u8>> = tensor.strings().unwrap().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(back, strings);
        }

        #[test]
        fn no_bytes_can_panic(dims in prop::collection::vec(0usize..5, 0..4), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for dtype in DType::ALL {
                if let Ok(tensor) = Tensor::new(dtype, shape(&dims), Buffer::from_vec(bytes.clone()))
                    && let Ok(strings) = tensor.strings()
                {
                    prop_assert_eq!(strings.count(), tensor.shape().elements());
                }
            }
        }
    }
}
