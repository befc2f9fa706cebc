//! Why something could not be done.

use std::fmt;

/// What the functions of this crate answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done. The text is for a person: it says what was wanted, what came and what to do.
///
/// A model that answers an error from [`predict`](crate::Model::predict) decides by the case what its caller sees:
/// [`InvalidArgument`](Error::InvalidArgument) is the caller's fault (HTTP 422), the others are the model's (HTTP 500).
///
/// ```
/// use innkeeper_sdk::{Error, Result};
///
/// fn temperature(value: f32) -> Result<f32> {
///     if value <= 0.0 {
///         return Err(Error::invalid_argument(format!("TEMPERATURE must be above 0, got {value}")));
///     }
///     Ok(value)
/// }
/// assert_eq!(temperature(-1.0).unwrap_err().to_string(), "TEMPERATURE must be above 0, got -1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// An argument has the wrong dtype, shape, value or name.
    InvalidArgument(String),
    /// There is nothing of that name.
    NotFound(String),
    /// The host or the model does not do this.
    Unsupported(String),
    /// A limit was met: the text names the limit and its value.
    ResourceExhausted(String),
    /// Something broke that the caller did not cause.
    Internal(String),
}

impl Error {
    /// An [`Error::InvalidArgument`].
    pub fn invalid_argument(text: impl Into<String>) -> Error {
        Error::InvalidArgument(text.into())
    }

    /// An [`Error::NotFound`].
    pub fn not_found(text: impl Into<String>) -> Error {
        Error::NotFound(text.into())
    }

    /// An [`Error::Unsupported`].
    pub fn unsupported(text: impl Into<String>) -> Error {
        Error::Unsupported(text.into())
    }

    /// An [`Error::ResourceExhausted`].
    pub fn resource_exhausted(text: impl Into<String>) -> Error {
        Error::ResourceExhausted(text.into())
    }

    /// An [`Error::Internal`].
    pub fn internal(text: impl Into<String>) -> Error {
        Error::Internal(text.into())
    }

    /// The text.
    pub fn text(&self) -> &str {
        match self {
            Error::InvalidArgument(text)
            | Error::NotFound(text)
            | Error::Unsupported(text)
            | Error::ResourceExhausted(text)
            | Error::Internal(text) => text,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Error {}
