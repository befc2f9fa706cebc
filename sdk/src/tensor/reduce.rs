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

    /// The product over `axes`, all when empty; of no elements it is 1. `keep_dims` leaves each as size 1. Every dtype but
    /// BOOL and BYTES; integers wrap around. ONNX ReduceProd.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn product(&self, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        Ok(Tensor(self.0.product(axes, keep_dims)?))
    }

    /// ln(sum(e^a)) over `axes`, all when empty, computed without overflow. `keep_dims` leaves each as size 1. Put
    /// together from `max`, `exp`, `sum` and `ln`. ONNX ReduceLogSumExp.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[1000f32, 1000.0])?;
    /// assert!((x.logsumexp(&[], false)?.item()? - 1000.693).abs() < 1e-3);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) over no elements.
    pub fn logsumexp(&self, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        let largest = self.max(axes, true)?;
        // An infinity less itself is no number; what is taken off must be finite.
        let finite = largest.is_inf(true, true)?.select(&largest.zeros_like()?, &largest)?;
        let sum = self.sub(&finite)?.exp()?.sum(axes, keep_dims)?.ln()?;
        let shape: Vec<i64> = sum.shape().into_iter().map(|size| size as i64).collect();
        sum.add(&finite.reshape(&shape)?)
    }

    /// (sum |a|^p)^(1/p) over `axes`, all when empty; p = 2 is the length. `keep_dims` leaves each as size 1. Put together
    /// from `abs`, `pow` and `sum`. NumPy `linalg.norm`; ONNX ReduceL1 and ReduceL2.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[3f32, -4.0])?;
    /// assert_eq!(x.norm(2.0, &[], false)?.item()?, 5.0);
    /// assert_eq!(x.norm(1.0, &[], false)?.item()?, 7.0);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn norm(&self, p: f64, axes: &[i32], keep_dims: bool) -> Result<Tensor> {
        if p == 1.0 {
            return self.abs()?.sum(axes, keep_dims);
        }
        if p == 2.0 {
            return self.mul(self)?.sum(axes, keep_dims)?.sqrt();
        }
        let scalar = |value| Tensor::full(self.dtype(), &[], value);
        self.abs()?.pow(&scalar(p)?)?.sum(axes, keep_dims)?.pow(&scalar(1.0 / p)?)
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
