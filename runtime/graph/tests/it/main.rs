//! Graphs from the outside.

// Every function here is part of a test, also those without the attribute that clippy looks for.
#![allow(clippy::unwrap_used)]

mod bounds;
mod malformed;
mod node_tests;
mod simple;
