//! What comes from outside, made up by libFuzzer.
//!
//! Each module is a target: its `check` takes any bytes and panics where a promise is broken. What is refused is fine;
//! what is taken must be what it says it is, and whatever was counted must be given back.

#![forbid(unsafe_code)]

mod source;

pub mod binary;
pub mod bundle;
pub mod grpc;
pub mod onnx;
pub mod operations;
pub mod rest;
pub mod safetensors;
