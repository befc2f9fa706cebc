//! The way of a prediction, from a decoded request to its answer.
//!
//! This crate knows no HTTP, no JSON and opens no file. What is deployed is installed here by `innkeeper-deploy`; who
//! may call is decided by `innkeeper-gateway`.

#![forbid(unsafe_code)]

mod admission;
mod batch;
mod cache;
mod deployment;
mod error;
mod instances;
mod limits;
mod logs;
mod memory;
mod predictor;
mod registry;
mod run;
mod schedule;
mod sequences;
mod shadow;
mod stations;
mod stats;
mod tenant;
mod traffic;
mod training;

pub use admission::InFlight;
pub use batch::{Batching, BatchingError, Pad};
pub use cache::Caching;
pub use deployment::{Breaker, Deployment, DeploymentParts, Isolation, LoadError, Loaded, Loader};
pub use error::{Fault, PredictError};
/// How a guest can fail, for whoever maps errors and must not know the sandbox.
pub use innkeeper_sandbox::GuestError;
pub use instances::Instances;
pub use limits::{LimitOverrides, Limits};
pub use logs::{LogLevels, LogLine, Logs};
pub use predictor::{Prediction, Predictor, PredictorConfig, Request};
pub use registry::{Endpoint, NotFound, Registry};
pub use schedule::{Schedule, SequenceId};
pub use sequences::Sequencing;
pub use shadow::ShadowReport;
pub use stations::{Stations, Timeline};
pub use stats::{BatchStatistics, Counted, Failures, LATENCY_BOUNDS_US, Statistics};
pub use tenant::Usage;
pub use traffic::{Bounds, Breach, Choice, Side, SideReport, Traffic, Via};
