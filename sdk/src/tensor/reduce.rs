//! Over dimensions.

use crate::{Result, Tensor};

impl Tensor {
    /// The sum over `axes`, all when empty. `keep_dims` leaves each as size 1. Every dtype but BOOL
    /// and BYTES; integers wrap around. ONNX ReduceSum.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0])?;
    /// let y = x.sum(&[-1], false)?;
    /// assert_eq!((y.shape(), y.to_vec::<f32>()?), (vec![2], vec![3.0, 7.0]));
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn sum(&self, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.sum(axes, keep_dims)?))
    }

    /// The mean over `axes`, all when empty; of no elements it is NaN. `keep_dims` leaves each as
    /// size 1. ONNX ReduceMean.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0])?;
    /// let y = x.mean(&[-1], false)?;
    /// assert_eq!((y.shape(), y.to_vec::<f32>()?), (vec![2], vec![1.5, 3.5]));
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn mean(&self, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.mean(axes, keep_dims)?))
    }

    /// The largest over `axes`, all when empty; NaN if there is one. `keep_dims` leaves each as
    /// size 1. Every dtype but BOOL and BYTES. ONNX ReduceMax.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0])?;
    /// let y = x.max(&[-1], false)?;
    /// assert_eq!((y.shape(), y.to_vec::<f32>()?), (vec![2], vec![2.0, 4.0]));
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) over no elements.
    pub fn max(&self, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.max(axes, keep_dims)?))
    }

    /// The smallest over `axes`, all when empty; NaN if there is one. `keep_dims` leaves each as
    /// size 1. Every dtype but BOOL and BYTES. ONNX ReduceMin.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0])?;
    /// let y = x.min(&[-1], false)?;
    /// assert_eq!((y.shape(), y.to_vec::<f32>()?), (vec![2], vec![1.0, 3.0]));
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) over no elements.
    pub fn min(&self, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.min(axes, keep_dims)?))
    }

    /// INT64: the index of the first largest along `axis`, which goes; a NaN is larger than any
    /// number. Every dtype but BOOL and BYTES. ONNX ArgMax with keepdims = 0.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0])?;
    /// assert_eq!(x.argmax(-1)?.to_vec::<i64>()?, [1, 1]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) over no elements.
    pub fn argmax(&self, axis: i32) -> Result<Tensor> {
        Ok(Tensor(self.0.argmax(axis, false)?))
    }

    /// e^a / sum(e^a) along `axis`, computed without overflow. ONNX Softmax.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1, 2], &[1000f32, 1000.0])?;
    /// assert_eq!(x.softmax(-1)?.to_vec::<f32>()?, [0.5, 0.5]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn softmax(&self, axis: i32) -> Result<Tensor> {
        Ok(Tensor(self.0.softmax(axis)?))
    }

    /// a - ln(sum(e^a)) along `axis`, computed without overflow. ONNX LogSoftmax.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1, 1], &[5f32])?;
    /// assert_eq!(x.log_softmax(-1)?.to_vec::<f32>()?, [0.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn log_softmax(&self, axis: i32) -> Result<Tensor> {
        Ok(Tensor(self.0.log_softmax(axis)?))
    }
}
