//! See `innkeeper_fuzz::rest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| innkeeper_fuzz::rest::check(bytes));
