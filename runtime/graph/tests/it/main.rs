//! Graphs from the outside.

mod malformed;
mod node_tests;
mod simple;
