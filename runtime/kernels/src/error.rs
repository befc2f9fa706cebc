//! Why an operation cannot be done.

use std::fmt::Display;

/// Why an operation cannot be done. The text says what was wanted, what came and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Operands or attributes that do not fit: their number, dtypes, shapes, axes or values.
    #[error("{0}")]
    InvalidArgument(String),
    /// This backend does not do the operation on that dtype, or has no memory for the result.
    #[error("{0}")]
    Unsupported(String),
    /// The call was stopped before the operation was done: its deadline passed, or nobody waits for it.
    #[error("the operation was stopped: its call has to end")]
    Stopped,
}

/// An [`OpError::InvalidArgument`] of the operation `op`.
pub(crate) fn invalid(op: &str, text: impl Display) -> OpError {
    OpError::InvalidArgument(format!("{op}: {text}"))
}

/// An [`OpError::Unsupported`] of the operation `op`.
pub(crate) fn unsupported(op: &str, text: impl Display) -> OpError {
    OpError::Unsupported(format!("{op}: {text}"))
}
