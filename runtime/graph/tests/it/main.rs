//! Graphs from the outside.

mod node_tests;
mod simple;
