//! See `innkeeper_fuzz::onnx`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| innkeeper_fuzz::onnx::check(bytes));
