//! The messages of `proto/`, as `build.rs` makes them.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic)]

/// `inference.proto`
pub(crate) mod inference {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

/// `health.proto`
pub(crate) mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The definitions themselves, for reflection.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
