//! The way of a version: from a bundle's bytes to a served endpoint, and away again.
//!
//! [`Deployer::deploy`] is the journey. This crate knows no HTTP and no status codes, does not know wasmtime, and
//! never decides who may do something: whoever calls it has checked the credential. Nothing becomes visible here
//! before it is durable in the catalog.

#![forbid(unsafe_code)]

mod artefacts;
mod compatibility;
mod deployer;
mod endpoint;
mod manage;
mod rollouts;
mod stock;
mod warm_up;

pub mod bundle;
pub mod compress;
mod error;
mod facts;
mod shared;
mod turns;

pub use compatibility::{Breaks, Compatibility, Difference};
pub use deployer::{DeployConfig, DeployRequest, Deployed, Deployer, Source};
pub use endpoint::Restored;
pub use error::{DeployError, Stage};
pub use rollouts::RolloutRequest;

#[cfg(test)]
mod tests;
