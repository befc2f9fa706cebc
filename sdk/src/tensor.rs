//! Tensors.

mod arithmetic;
mod arrays;
mod functions;
mod images;
mod layers;
mod logic;
mod matrix;
mod quantised;
mod random;
mod reduce;
mod shape;

pub use arrays::{Padding, Scatter, Unique};
pub use images::{Coordinates, DepthOrder, Nearest, Sample};
pub(crate) use layers::{attention_options, window};
pub use random::Key;

use innkeeper_tensor::{Buffer, Shape, Tensor as LocalTensor};

use crate::{DType, Element, Error, Result, host};

/// A dense, row-major, immutable tensor. Its bytes stay in the host; this is a handle on them.
///
/// Operations answer a new tensor and leave their operands as they are. Both sides of an operation must have the same
/// [`DType`]: nothing is promoted silently, [`cast`](Tensor::cast) says it. Shapes broadcast as in NumPy and ONNX:
/// aligned at the last dimension, a size of 1 (or a missing dimension) is repeated. Axes may be negative and then count
/// from the end.
///
/// # Errors
/// Unless it says otherwise, an operation takes FP32 and FP64 and answers [`Error::Unsupported`] for other dtypes, and
/// [`Error::InvalidArgument`] for shapes, axes and dtypes that do not fit together. Every operation that makes a tensor
/// answers [`Error::ResourceExhausted`] when the bytes behind the guest's tensors would pass the limit
/// `tensor_bytes_max`, or their number the limit on handles.
///
/// ```
/// use innkeeper_sdk::{DType, Tensor};
///
/// let x = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let y = x.mul_scalar(2.0)?.sum(&[-1], false)?;
/// assert_eq!((y.dtype(), y.shape()), (DType::Fp32, vec![2]));
/// assert_eq!(y.to_vec::<f32>()?, [12.0, 30.0]);
/// # Ok::<(), innkeeper_sdk::Error>(())
/// ```
#[derive(Debug)]
pub struct Tensor(pub(crate) host::Handle);

impl Tensor {
    /// A tensor with a copy of `elements`, whose Rust type says the dtype. A scalar has the shape `&[]`.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1, 3], &[0.5f32, 1.0, 1.5])?;
    /// assert_eq!(x.shape(), [1, 3]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: more or fewer elements than the shape holds.
    pub fn from_slice<T: Element>(shape: &[usize], elements: &[T]) -> Result<Tensor> {
        Tensor::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(elements))
    }

    /// A BOOL tensor with a copy of `elements`.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// assert_eq!(Tensor::from_bools(&[2], &[true, false])?.to_bools()?, [true, false]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: more or fewer elements than the shape holds.
    pub fn from_bools(shape: &[usize], elements: &[bool]) -> Result<Tensor> {
        let bytes: Vec<u8> = elements.iter().map(|&element| u8::from(element)).collect();
        Tensor::from_bytes(DType::Bool, shape, &bytes)
    }

    /// A BYTES tensor with a copy of `elements`: text or other bytes.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let labels = Tensor::from_strings(&[2], &["cat", "dog"])?;
    /// assert_eq!(labels.to_strings()?, ["cat", "dog"]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: more or fewer elements than the shape holds, or one of 4 GiB and more.
    pub fn from_strings<S: AsRef<[u8]>>(shape: &[usize], elements: &[S]) -> Result<Tensor> {
        let mut bytes = Vec::new();
        for element in elements.iter().map(AsRef::as_ref) {
            let length = u32::try_from(element.len())
                .map_err(|_| Error::invalid_argument("a BYTES element must be below 4 GiB"))?;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(element);
        }
        Tensor::from_bytes(DType::Bytes, shape, &bytes)
    }

    /// A tensor with a copy of `bytes`, little-endian and row-major; a BYTES element is a u32 with its length, then
    /// its bytes.
    ///
    /// ```
    /// # use innkeeper_sdk::{DType, Tensor};
    /// let x = Tensor::from_bytes(DType::Uint16, &[2], &[1, 0, 0, 1])?;
    /// assert_eq!(x.to_vec::<u16>()?, [1, 256]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the length does not fit dtype and shape, or a BOOL byte is neither 0 nor 1.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor> {
        Ok(Tensor(host::Handle::from_bytes(host::dtype(dtype), &sizes(shape)?, bytes)?))
    }

    /// A tensor with every element equal to `value`, converted as [`cast`](Tensor::cast) would from FP64. Every dtype
    /// but BYTES. ONNX ConstantOfShape.
    ///
    /// ```
    /// # use innkeeper_sdk::{DType, Tensor};
    /// assert_eq!(Tensor::full(DType::Int8, &[3], 7.9)?.to_vec::<i8>()?, [7, 7, 7]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn full(dtype: DType, shape: &[usize], value: f64) -> Result<Tensor> {
        Ok(Tensor(host::Handle::full(host::dtype(dtype), &sizes(shape)?, value)?))
    }

    /// `count` numbers from `start` on, each `step` from the last, as a tensor of shape `[count]`. Every numeric
    /// dtype. ONNX Range.
    ///
    /// ```
    /// # use innkeeper_sdk::{DType, Tensor};
    /// assert_eq!(Tensor::arange(DType::Int64, 2.0, 3.0, 4)?.to_vec::<i64>()?, [2, 5, 8, 11]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn arange(dtype: DType, start: f64, step: f64, count: usize) -> Result<Tensor> {
        let count = size(count)?;
        Ok(Tensor(host::Handle::arange(host::dtype(dtype), start, step, count)?))
    }

    /// The type of an element.
    pub fn dtype(&self) -> DType {
        host::dtype_back(self.0.dtype())
    }

    /// The size of each dimension.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape().into_iter().map(|size| size as usize).collect()
    }

    /// How many bytes the elements take.
    pub fn byte_length(&self) -> u64 {
        self.0.byte_length()
    }

    /// The elements, copied into the guest's memory. `T` is the Rust type of the dtype: `f32` for FP32,
    /// [`f16`](crate::f16) for FP16, and so on; BOOL and BYTES have [`to_bools`](Tensor::to_bools) and
    /// [`to_strings`](Tensor::to_strings).
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[3i64, 4])?;
    /// assert_eq!(x.to_vec::<i64>()?, [3, 4]);
    /// assert_eq!(x.to_vec::<f32>().unwrap_err().to_string(), "the tensor is INT64, not FP32");
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the tensor has another dtype.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let local = self.typed(T::DTYPE)?;
        let elements = local.elements::<T>().map_err(invalid)?;
        Ok(elements.into_owned())
    }

    /// The elements of a BOOL tensor, copied into the guest's memory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the tensor has another dtype.
    pub fn to_bools(&self) -> Result<Vec<bool>> {
        Ok(self.typed(DType::Bool)?.as_bytes().iter().map(|&byte| byte != 0).collect())
    }

    /// The elements of a BYTES tensor as text, copied into the guest's memory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the tensor has another dtype, or an element is not UTF-8.
    pub fn to_strings(&self) -> Result<Vec<String>> {
        let text = |(index, bytes): (usize, Vec<u8>)| {
            String::from_utf8(bytes).map_err(|error| {
                Error::invalid_argument(format!("BYTES element {index} is no text: {error}"))
            })
        };
        self.to_byte_strings()?.into_iter().enumerate().map(text).collect()
    }

    /// The elements of a BYTES tensor, copied into the guest's memory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the tensor has another dtype.
    pub fn to_byte_strings(&self) -> Result<Vec<Vec<u8>>> {
        let local = self.typed(DType::Bytes)?;
        Ok(local.strings().map_err(invalid)?.map(<[u8]>::to_vec).collect())
    }

    /// The one element of an FP32 or FP64 tensor, as a number.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// assert_eq!(Tensor::from_slice(&[2], &[1f32, 2.0])?.sum(&[], false)?.item()?, 3.0);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the tensor has another dtype, or another number of elements.
    pub fn item(&self) -> Result<f64> {
        let one = |elements: Vec<f64>| match elements[..] {
            [element] => Ok(element),
            _ => Err(Error::invalid_argument(format!(
                "the tensor has {} elements, not one",
                elements.len()
            ))),
        };
        match self.dtype() {
            DType::Fp64 => one(self.to_vec::<f64>()?),
            _ => one(self.to_vec::<f32>()?.into_iter().map(f64::from).collect()),
        }
    }

    /// Zeros of this dtype and shape.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn zeros_like(&self) -> Result<Tensor> {
        Tensor::full(self.dtype(), &self.shape(), 0.0)
    }

    /// Ones of this dtype and shape.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn ones_like(&self) -> Result<Tensor> {
        Tensor::full(self.dtype(), &self.shape(), 1.0)
    }

    /// All the bytes as [`from_bytes`](Tensor::from_bytes) takes them, copied into the guest's memory.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.0.to_bytes()?)
    }

    /// `length` bytes from `offset` on, copied into the guest's memory: a way through a tensor that is larger than it.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[4], &[1u8, 2, 3, 4])?;
    /// assert_eq!(x.read(1, 2)?, [2, 3]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the tensor ends before that.
    pub fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        Ok(self.0.read(offset, length)?)
    }

    /// Another handle on the same bytes. Nothing is copied, and the bytes are not counted again.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1], &[1.5f64])?;
    /// assert_eq!(x.share()?.to_vec::<f64>()?, [1.5]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`]: the guest has as many handles as it may.
    pub fn share(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.share()?))
    }

    /// Another handle on the same bytes, marked as those of a weight: what the kernels derive from it, such as the order in
    /// which a product reads it, is made once, kept with the handle and counted against `tensor_bytes_max`. The tensors of
    /// [`Weights`](crate::Weights) are marked already; this is for weights that a model makes itself, in `load`.
    ///
    /// # Errors
    /// As [`share`](Tensor::share).
    pub fn constant(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.constant()?))
    }

    /// The tensor with its bytes on this side, if it is of this dtype. The dtype is asked first: a mistake should not
    /// cost a copy.
    fn typed(&self, wanted: DType) -> Result<LocalTensor> {
        let dtype = self.dtype();
        if dtype != wanted {
            return Err(Error::invalid_argument(format!("the tensor is {dtype}, not {wanted}")));
        }
        let shape = Shape::new(&self.shape()).map_err(invalid)?;
        LocalTensor::new(dtype, shape, Buffer::from_vec(self.0.to_bytes()?)).map_err(invalid)
    }
}

fn handle(tensor: Option<&Tensor>) -> Option<&host::Handle> {
    tensor.map(|tensor| &tensor.0)
}

fn sizes(shape: &[usize]) -> Result<Vec<u32>> {
    shape.iter().copied().map(size).collect()
}

pub(crate) fn size(size: usize) -> Result<u32> {
    u32::try_from(size)
        .map_err(|_| Error::invalid_argument(format!("a size must be below 2^32, got {size}")))
}

fn invalid(error: impl std::error::Error) -> Error {
    Error::invalid_argument(error.to_string())
}
