//! Element by element: numbers to numbers.

use crate::{Result, Tensor};

impl Tensor {
    /// a + b. Every dtype but BOOL and BYTES; integers wrap around. ONNX Add.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[1f32, 2.0])?;
    /// let b = Tensor::from_slice(&[1], &[10f32])?;
    /// assert_eq!(a.add(&b)?.to_vec::<f32>()?, [11.0, 12.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn add(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.add(&rhs.0)?))
    }

    /// a - b. Every dtype but BOOL and BYTES; integers wrap around. ONNX Sub.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[1f32, 2.0])?;
    /// let b = Tensor::from_slice(&[1], &[1f32])?;
    /// assert_eq!(a.sub(&b)?.to_vec::<f32>()?, [0.0, 1.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn sub(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.sub(&rhs.0)?))
    }

    /// a * b. Every dtype but BOOL and BYTES; integers wrap around. ONNX Mul.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[1f32, 2.0])?;
    /// let b = Tensor::from_slice(&[1], &[3f32])?;
    /// assert_eq!(a.mul(&b)?.to_vec::<f32>()?, [3.0, 6.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn mul(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.mul(&rhs.0)?))
    }

    /// a / b. Every dtype but BOOL and BYTES; integers truncate towards zero. ONNX Div.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[7i32, -7])?;
    /// let b = Tensor::from_slice(&[1], &[2i32])?;
    /// assert_eq!(a.div(&b)?.to_vec::<i32>()?, [3, -3]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for an integer
    /// divided by zero.
    pub fn div(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.div(&rhs.0)?))
    }

    /// a to the power of b. ONNX Pow.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[2f32, 3.0])?;
    /// let b = Tensor::from_slice(&[1], &[2f32])?;
    /// assert_eq!(a.pow(&b)?.to_vec::<f32>()?, [4.0, 9.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn pow(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.pow(&rhs.0)?))
    }

    /// The larger of a and b, NaN if either is. Every dtype but BOOL and BYTES. ONNX Max.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[1i8, 5])?;
    /// let b = Tensor::from_slice(&[1], &[3i8])?;
    /// assert_eq!(a.maximum(&b)?.to_vec::<i8>()?, [3, 5]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn maximum(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.maximum(&rhs.0)?))
    }

    /// The smaller of a and b, NaN if either is. Every dtype but BOOL and BYTES. ONNX Min.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[1i8, 5])?;
    /// let b = Tensor::from_slice(&[1], &[3i8])?;
    /// assert_eq!(a.minimum(&b)?.to_vec::<i8>()?, [1, 3]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn minimum(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.minimum(&rhs.0)?))
    }

    /// a + value, the value first converted as [`cast`](Tensor::cast) would. Every dtype but BOOL
    /// and BYTES; integers wrap around.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[1f32, 2.0])?;
    /// assert_eq!(x.add_scalar(1.0)?.to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn add_scalar(&self, value: f64) -> Result<Tensor> {
        Ok(Tensor(self.0.add_scalar(value)?))
    }

    /// a * value, the value first converted as [`cast`](Tensor::cast) would. Every dtype but BOOL
    /// and BYTES; integers wrap around.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[1f32, 2.0])?;
    /// assert_eq!(x.mul_scalar(0.5)?.to_vec::<f32>()?, [0.5, 1.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn mul_scalar(&self, value: f64) -> Result<Tensor> {
        Ok(Tensor(self.0.mul_scalar(value)?))
    }

    /// -a. Signed integers too, wrapping around. ONNX Neg.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[1i32, -2])?;
    /// assert_eq!(x.neg()?.to_vec::<i32>()?, [-1, 2]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn neg(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.neg()?))
    }

    /// |a|. Integers too. ONNX Abs.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[1i32, -2])?;
    /// assert_eq!(x.abs()?.to_vec::<i32>()?, [1, 2]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn abs(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.abs()?))
    }

    /// e to the a. ONNX Exp.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1], &[0f32])?;
    /// assert_eq!(x.exp()?.to_vec::<f32>()?, [1.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn exp(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.exp()?))
    }

    /// The natural logarithm. ONNX Log.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1], &[1f32])?;
    /// assert_eq!(x.ln()?.to_vec::<f32>()?, [0.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn ln(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.ln()?))
    }

    /// The square root. ONNX Sqrt.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[4f32, 9.0])?;
    /// assert_eq!(x.sqrt()?.to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn sqrt(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.sqrt()?))
    }

    /// The hyperbolic tangent. ONNX Tanh.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1], &[1f32])?;
    /// let y = x.tanh()?.to_vec::<f32>()?;
    /// assert!((y[0] - 0.761_594_2).abs() < 1e-5);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn tanh(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.tanh()?))
    }

    /// 1 / (1 + e^-a). ONNX Sigmoid.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1], &[0f32])?;
    /// assert_eq!(x.sigmoid()?.to_vec::<f32>()?, [0.5]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn sigmoid(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.sigmoid()?))
    }

    /// max(a, 0). ONNX Relu.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2], &[-1f32, 2.0])?;
    /// assert_eq!(x.relu()?.to_vec::<f32>()?, [0.0, 2.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn relu(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.relu()?))
    }

    /// a * P(X <= a) for a standard normal X, by the error function. ONNX Gelu, approximate =
    /// "none".
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1], &[1f32])?;
    /// let y = x.gelu()?.to_vec::<f32>()?;
    /// assert!((y[0] - 0.841_344_7).abs() < 1e-5);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn gelu(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.gelu()?))
    }

    /// a * sigmoid(a). ONNX Swish with alpha = 1.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1], &[1f32])?;
    /// let y = x.silu()?.to_vec::<f32>()?;
    /// assert!((y[0] - 0.731_058_6).abs() < 1e-5);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn silu(&self) -> Result<Tensor> {
        Ok(Tensor(self.0.silu()?))
    }
}
