//! See `innkeeper_fuzz::operations`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| innkeeper_fuzz::operations::check(bytes));
