//! Other dtypes, other shapes, other orders.

use crate::tensor::sizes;
use crate::{DType, Result, Tensor, host};

impl Tensor {
    /// Elements converted to another dtype. Floats go to integers by truncation towards zero,
    /// saturating, NaN to 0; integers to narrower ones by keeping the low bits; anything but zero
    /// to BOOL true. Every dtype but BYTES, which only casts to itself. ONNX Cast.
    ///
    /// ```
    /// # use innkeeper_sdk::{DType, Tensor};
    /// let x = Tensor::from_slice(&[3], &[1.9f32, -1.9, f32::NAN])?;
    /// assert_eq!(x.cast(DType::Int32)?.to_vec::<i32>()?, [1, -1, 0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn cast(&self, to: DType) -> Result<Tensor> {
        Ok(Tensor(self.0.cast(host::dtype(to))?))
    }

    /// The same elements under another shape; one dimension may be -1 and is worked out. Every
    /// dtype. ONNX Reshape with allowzero = 1.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 3], &[1u8, 2, 3, 4, 5, 6])?;
    /// assert_eq!(x.reshape(&[-1, 2])?.shape(), [3, 2]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn reshape(&self, shape: &[i64]) -> Result<Tensor> {
        Ok(Tensor(self.0.reshape(shape)?))
    }

    /// Dimensions reordered: dimension i of the result is dimension `permutation[i]`. Every dtype
    /// but BYTES. ONNX Transpose.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 3], &[1u8, 2, 3, 4, 5, 6])?;
    /// assert_eq!(x.transpose(&[1, 0])?.to_vec::<u8>()?, [1, 4, 2, 5, 3, 6]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn transpose(&self, permutation: &[usize]) -> Result<Tensor> {
        Ok(Tensor(self.0.transpose(&sizes(permutation)?)?))
    }

    /// Elements `start` (included) to `end` (excluded) along `axis`; negative positions count from
    /// the end, as in Python, and are clamped. Every dtype but BYTES. ONNX Slice with step 1.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 3], &[1u8, 2, 3, 4, 5, 6])?;
    /// assert_eq!(x.slice(1, -2, i64::MAX)?.to_vec::<u8>()?, [2, 3, 5, 6]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn slice(&self, axis: i32, start: i64, end: i64) -> Result<Tensor> {
        Ok(Tensor(self.0.slice(axis, start, end)?))
    }

    /// One or more tensors of one dtype joined along `axis`; all other dimensions must agree. Every
    /// dtype but BYTES. ONNX Concat.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 3], &[1u8, 2, 3, 4, 5, 6])?;
    /// let y = Tensor::concat(&[&x, &x], 0)?;
    /// assert_eq!(y.shape(), [4, 3]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn concat(parts: &[&Tensor], axis: i32) -> Result<Tensor> {
        let parts: Vec<&host::Handle> = parts.iter().map(|part| &part.0).collect();
        Ok(Tensor(host::Handle::concat(&parts, axis)?))
    }

    /// Rows `indices` (INT32 or INT64, negative from the end) of this tensor along `axis`. Every
    /// dtype but BYTES. ONNX Gather.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 3], &[1u8, 2, 3, 4, 5, 6])?;
    /// let last = Tensor::from_slice(&[1], &[-1i64])?;
    /// assert_eq!(x.gather(&last, 0)?.to_vec::<u8>()?, [4, 5, 6]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for an index that
    /// is out of range.
    pub fn gather(&self, indices: &Tensor, axis: i32) -> Result<Tensor> {
        Ok(Tensor(self.0.gather(&indices.0, axis)?))
    }
}
