//! Requests that run together: collected, stacked on the host, run once, split by rows.

mod batcher;
mod clock;
mod config;
mod pad;
mod queue;
mod stack;

pub(crate) use batcher::{Batcher, Batchers};
pub(crate) use clock::Clock;
pub use config::{Batching, BatchingError};
pub use pad::Pad;
pub(crate) use pad::Padding;
pub(crate) use queue::Lane;
pub(crate) use stack::{rows, split, stack};
