//! Why a device cannot be used.

use crate::OpError;

/// Why a device cannot be used. The text says what was wanted, what came and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// There is no driver, library or device.
    #[error("{0}")]
    Absent(String),
    /// The memory that a tenant may use on the device is used up, or the device has no more.
    #[error("{0}")]
    Memory(String),
    /// A kernel source was not compiled. It is ours, so this is a fault of Innkeeper or of its installation.
    #[error("{0}")]
    Compiler(String),
    /// The driver or a library answered with an error.
    #[error("{0}")]
    Device(String),
}

impl From<CudaError> for OpError {
    fn from(error: CudaError) -> OpError {
        // An operation that a device fails at is one that this backend cannot do: nobody's argument is wrong.
        OpError::Unsupported(format!("cuda: {error}"))
    }
}
