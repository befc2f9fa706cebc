//! Tensors: a dtype, a checked shape, and bytes.
//!
//! This crate knows no async, no serialisation, no WebAssembly and no arithmetic but how coded elements are written out. Whoever holds a [`Tensor`] may rely
//! on it: its byte length fits its shape and dtype, its booleans are 0 or 1, its strings are framed.

#![forbid(unsafe_code)]

mod buffer;
mod coded;
mod dtype;
mod memo;
mod shape;
mod signature;
mod stack;
mod tensor;

pub use buffer::{Buffer, FetchError, Remote};
pub use coded::{Code, Coded, CodedError};
pub use dtype::{DType, Element, UnknownDType};
pub use memo::Derived;
pub use shape::{RANK_MAX, Shape, ShapeError};
pub use signature::{Mismatch, Named, Signature, SignatureError, TensorSpec};
pub use stack::StackError;
pub use tensor::{Strings, Tensor, TensorError};

/// The 16-bit floats, so that users of this crate need not name the `half` crate.
pub use half::{bf16, f16};
