//! The host as a native test meets it: the same operations on the same kernels, without a sandbox and its limits.

pub(crate) mod arrays;
mod assets;
mod graph;
mod handle;
pub(crate) mod layers;
pub(crate) mod quantised;
pub(crate) mod random;

pub(crate) use assets::Assets;
pub(crate) use graph::Graph;
pub(crate) use handle::Handle;
pub(crate) mod request;
pub(crate) mod training;

use crate::DType;
use crate::log::Level;

/// Writes one message to standard error, where a test's output is kept.
pub(crate) fn log(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

/// A tensor and its name, as this crate has them.
pub(crate) fn named(tensor: innkeeper_tensor::Named) -> (String, crate::Tensor) {
    (tensor.name, crate::Tensor(Handle(tensor.tensor)))
}

/// The two kinds of host name dtypes differently; this one as the crate does.
pub(crate) fn dtype(dtype: DType) -> DType {
    dtype
}

/// The way back from [`dtype`].
pub(crate) fn dtype_back(dtype: DType) -> DType {
    dtype
}
