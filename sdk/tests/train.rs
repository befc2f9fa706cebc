//! Training: every operation's gradient against finite differences, whole runs against PyTorch.

#![allow(clippy::unwrap_used)]

#[path = "train/gradients.rs"]
mod gradients;
#[path = "train/pytorch.rs"]
mod pytorch;
#[path = "train/tape.rs"]
mod tape;
