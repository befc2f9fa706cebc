//! Files that other software writes: weights as named tensors, and data to learn from.
//!
//! This crate knows no WebAssembly, no catalog and no kernels, opens no file by its name and runs nothing: whoever calls it has
//! the bytes. It trusts none of them: every size is checked before anything of that size is made.

#![forbid(unsafe_code)]

pub mod dataset;
pub mod safetensors;
