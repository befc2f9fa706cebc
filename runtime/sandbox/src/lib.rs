//! Guests: components validated, compiled, given what they may have, and run under limits.
//!
//! This is the only crate that knows wasmtime, and no type of wasmtime's stands in its public API. It has no notion of
//! a tenant, a model or a version: it is handed a component's bytes, assets, limits and a byte budget. It opens no
//! file and no socket; the one process it starts is the compiler's.

#![deny(unsafe_code)]

mod assets;
mod budget;
mod cancel;
mod compile;
mod engine;
mod error;
mod fair;
mod host;
mod inspect;
mod instance;
mod network;
mod program;
mod runner;
mod seal;
mod trainer;
mod work;

mod artefact;
mod bindings;

pub use assets::{Asset, AssetMemory, Assets};
pub use budget::{ByteBudget, Charge, OverBudget};
pub use cancel::{Cancel, CancelOnDrop};
pub use compile::{CompileError, CompileLimits, Compiler, compile_worker, confine};
pub use engine::{Engine, EngineConfig, EngineError};
pub use error::GuestError;
pub use fair::Share;
pub use host::{Level, LogSink};
pub use inspect::{ComponentLimits, Rejected, inspect};
pub use instance::{Call, Instance};
pub use network::{Network, NetworkError};
pub use program::{InstanceLimits, OpenError, Program, Setup};
pub use seal::Seal;
pub use trainer::{
    Column, Feed, Hyperparameter, Made, Metrics, Plan, Position, Setting, SettingKind, Statistics,
    Task, Trainer, Turn,
};
pub use work::Work;
