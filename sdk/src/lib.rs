//! Write models that run as guests of Innkeeper.
//!
//! A model is a type that implements [`Model`]: it loads its weights, says what it takes and gives, and predicts.
//! [`macro@model`] makes it the model of the component. Numeric work is done by the host on [`Tensor`]s; the guest
//! holds handles on them.
//!
//! ```
//! use innkeeper_sdk::{Assets, DType, Inputs, Model, Outputs, Result, Signature};
//!
//! struct AddOne;
//!
//! #[innkeeper_sdk::model]
//! impl Model for AddOne {
//!     fn load(_assets: &Assets) -> Result<Self> {
//!         Ok(AddOne)
//!     }
//!
//!     fn signature(&self) -> Signature {
//!         Signature::new()
//!             .input("INPUT0", DType::Fp32, &[-1, 16])
//!             .output("OUTPUT0", DType::Fp32, &[-1, 16])
//!     }
//!
//!     fn predict(&self, inputs: Inputs) -> Result<Outputs> {
//!         let x = inputs.tensor("INPUT0")?;
//!         Ok(Outputs::new().with("OUTPUT0", x.add_scalar(1.0)?))
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Compiled for WebAssembly, everything here goes through the imports of `wit/model.wit`. Compiled for the author's own
//! machine the same tensors run on the host's kernels directly, so a plugin has plain unit tests; see `test`.
//!
//! This crate must not know how the host stores, checks, limits or serves models. It keeps no tensor bytes in a guest
//! that nobody asked for, and does no arithmetic of its own.

#![deny(missing_docs)]
// The two hosts have different errors, and `?` converts those that need it.
#![allow(clippy::needless_question_mark)]

mod assets;
mod error;
mod graph;
mod host;
pub mod layers;
pub mod log;
mod model;
mod named;
pub mod request;
mod signature;
mod tensor;
#[cfg(not(target_family = "wasm"))]
pub mod test;
pub mod train;
pub mod trainer;

pub use assets::{AssetInfo, Assets, Weights};
pub use error::{Error, Result};
pub use graph::Graph;
pub use innkeeper_sdk_macros::{model, trainer};
pub use innkeeper_tensor::{DType, Element, bf16, f16};
pub use model::Model;
pub use named::{Inputs, Outputs};
pub use signature::{Signature, TensorSpec};
pub use tensor::{Coordinates, DepthOrder, Key, Nearest, Padding, Sample, Scatter, Tensor, Unique};

/// What [`export!`] refers to. Not part of the API.
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub use host::guest;

/// The code in the book's pages compiles and runs.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../book/tensors.md")]
    struct Tensors;

    #[doc = include_str!("../../book/graphs.md")]
    struct Graphs;
}
