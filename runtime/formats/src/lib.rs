//! Files of weights that other software writes, as named tensors.
//!
//! This crate knows no WebAssembly, no catalog and no kernels, opens no file and runs nothing: whoever calls it has the
//! bytes. It trusts none of them: every size is checked before anything of that size is made.

#![forbid(unsafe_code)]

pub mod safetensors;
