//! Element by element: comparing and choosing.

use crate::{Result, Tensor};

impl Tensor {
    /// BOOL: a = b; a NaN equals nothing. Every dtype but BYTES. ONNX Equal.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[1i64, 2])?;
    /// let b = Tensor::from_slice(&[1], &[2i64])?;
    /// assert_eq!(a.equal(&b)?.to_bools()?, [false, true]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn equal(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.equal(&rhs.0)?))
    }

    /// BOOL: a < b; false where either is NaN. Every dtype but BOOL and BYTES. ONNX Less.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[1i64, 2])?;
    /// let b = Tensor::from_slice(&[1], &[2i64])?;
    /// assert_eq!(a.less(&b)?.to_bools()?, [true, false]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn less(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.less(&rhs.0)?))
    }

    /// BOOL: a > b; false where either is NaN. Every dtype but BOOL and BYTES. ONNX Greater.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let a = Tensor::from_slice(&[2], &[1i64, 3])?;
    /// let b = Tensor::from_slice(&[1], &[2i64])?;
    /// assert_eq!(a.greater(&b)?.to_bools()?, [false, true]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn greater(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.greater(&rhs.0)?))
    }

    /// Where this BOOL tensor holds `a`, else `b`; all three broadcast. `a` and `b` of every dtype
    /// but BYTES. ONNX Where.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let condition = Tensor::from_bools(&[2], &[true, false])?;
    /// let a = Tensor::from_slice(&[2], &[1f32, 2.0])?;
    /// let b = Tensor::from_slice(&[], &[0f32])?;
    /// assert_eq!(condition.select(&a, &b)?.to_vec::<f32>()?, [1.0, 0.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn select(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.select(&a.0, &b.0)?))
    }
}
