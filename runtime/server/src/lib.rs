//! The binary `innkeeper`, as a library: configuration, wiring, signals and the command line.
//!
//! Only this crate reads the environment and configuration files, and only here are the others put together. It takes
//! no decision about a request: what a tenant may do is the gateway's to say, and what a guest may do the sandbox's.

#![forbid(unsafe_code)]

pub mod cli;
mod clock;
pub mod failure;
pub mod guest;
pub mod serve;
