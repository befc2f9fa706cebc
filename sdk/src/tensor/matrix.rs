//! Matrix products.

use crate::{Result, Tensor};

impl Tensor {
    /// The matrix product over the last two dimensions, the others broadcast: `[.., m, k]` by `[..,
    /// k, n]` gives `[.., m, n]`. A rank-1 left side is a row, a rank-1 right side a column, and
    /// that dimension is dropped from the result. ONNX MatMul.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0])?;
    /// let column = Tensor::from_slice(&[2], &[1f32, 1.0])?;
    /// assert_eq!(x.matmul(&column)?.to_vec::<f32>()?, [3.0, 7.0]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn matmul(&self, rhs: &Tensor) -> Result<Tensor> {
        Ok(Tensor(self.0.matmul(&rhs.0)?))
    }

    /// x W^T + b: this is `[.., in]`, `weight` `[out, in]`, `bias` `[out]`; gives `[.., out]`. As
    /// PyTorch's `linear`.
    ///
    /// ```
    /// # use innkeeper_sdk::Tensor;
    /// let x = Tensor::from_slice(&[1, 2], &[1f32, 2.0])?;
    /// let weight = Tensor::from_slice(&[3, 2], &[1f32, 0.0, 0.0, 1.0, 1.0, 1.0])?;
    /// let bias = Tensor::from_slice(&[3], &[0f32, 0.0, 0.5])?;
    /// assert_eq!(x.linear(&weight, Some(&bias))?.to_vec::<f32>()?, [1.0, 2.0, 3.5]);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok(Tensor(self.0.linear(&weight.0, bias.map(|bias| &bias.0))?))
    }
}
