//! Losses: the host works out their gradients in the same pass.

use crate::train::call::Backward;
use crate::train::{Reduction, Var};
use crate::{Result, Tensor};

impl Var {
    /// The mean of -ln softmax(this)\[label\] over all labels: this is `[.., classes]`, `labels` INT32 or INT64 `[..]`.
    /// The sparse categorical cross-entropy, PyTorch's `cross_entropy` with the classes last.
    ///
    /// ```
    /// use innkeeper_sdk::Tensor;
    /// use innkeeper_sdk::train::Var;
    ///
    /// let logits = Var::constant(Tensor::from_slice(&[1, 2], &[0f32, 0.0])?);
    /// let loss = logits.cross_entropy(&Tensor::from_slice(&[1], &[1i64])?)?;
    /// assert!((loss.item()? - 2f64.ln()).abs() < 1e-6);
    /// # Ok::<(), innkeeper_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`Tensor`]; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a label that is no class.
    pub fn cross_entropy(&self, labels: &Tensor) -> Result<Var> {
        self.cross_entropy_with(labels, None, 0.0, Reduction::Mean)
    }

    /// [`Var::cross_entropy`] where labels equal to `ignore` are passed over, and each label weighs 1 - `smoothing`
    /// with the rest spread over all classes (Szegedy et al. 2016, *Rethinking the Inception Architecture*).
    ///
    /// # Errors
    /// As [`Var::cross_entropy`].
    pub fn cross_entropy_with(
        &self,
        labels: &Tensor,
        ignore: Option<i64>,
        smoothing: f64,
        reduction: Reduction,
    ) -> Result<Var> {
        self.loss(&Backward::CrossEntropy { ignore, smoothing, reduction }, labels)
    }

    /// The mean of (this - target)^2. PyTorch's `mse_loss`.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn mean_squared_error(&self, target: &Tensor) -> Result<Var> {
        self.loss(&Backward::MeanSquaredError(Reduction::Mean), target)
    }

    /// The sum of (this - target)^2.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn squared_error_sum(&self, target: &Tensor) -> Result<Var> {
        self.loss(&Backward::MeanSquaredError(Reduction::Sum), target)
    }

    /// The mean of -t ln sigmoid(this) - (1 - t) ln(1 - sigmoid(this)), for targets t from 0 to 1. PyTorch's
    /// `binary_cross_entropy_with_logits`.
    ///
    /// # Errors
    /// See [`Tensor`].
    pub fn binary_cross_entropy(&self, targets: &Tensor) -> Result<Var> {
        self.loss(&Backward::BinaryCrossEntropy(Reduction::Mean), targets)
    }
}
