//! Files that other software writes: weights as named tensors, data to learn from, and Keras's models as
//! ONNX files.
//!
//! This crate knows no WebAssembly, no catalog and no kernels, opens no file by its name and runs nothing: whoever calls it has
//! the bytes. It trusts none of them: every size is checked before anything of that size is made.

#![forbid(unsafe_code)]

pub mod dataset;
pub mod hdf5;
pub mod keras;
mod onnx;
pub mod safetensors;
