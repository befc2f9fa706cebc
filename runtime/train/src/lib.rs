//! The way of a job: from a dataset and a version that can be trained to a new version.
//!
//! [`Jobs`] takes jobs, lets tenants have their turns, and keeps every job through restarts; `run` is the journey of one.
//! This crate knows no HTTP and no status codes, does not know wasmtime, and never decides who may do something. It holds
//! no rows in memory beyond a mini-batch, publishes nothing by itself but through `deploy`, and takes no chance that does
//! not come from a job's seed.

#![forbid(unsafe_code)]

mod checkpoint;
mod compress;
mod data;
mod error;
mod feeds;
mod import;
mod jobs;
mod learn;
mod progress;
mod queue;
mod request;
mod run;

pub use compress::CompressRequest;
pub use data::{ColumnFacts, DatasetFacts, DatasetOptions, Received};
pub use error::TrainError;
pub use import::{Importer, import_worker};
pub use jobs::{Jobs, JobsConfig, Watch};
pub use progress::{Epoch, Progress};
pub use request::{AliasBar, Into, Request, TrainRequest};
