//! What exists on this host: tenants, keys, models, versions, aliases and blobs.
//!
//! This crate knows no WebAssembly, no HTTP and no tensors. It does not know what a manifest or a
//! blob means; it keeps them, says whose they are, and never forgets what it has acknowledged.
//!
//! Rows lie in an SQLite database, bytes in a blob store beside it. A row about bytes is written
//! after the bytes are on the disk and deleted before they are, so a crash leaves files without a
//! row and never the reverse; the next start removes them.

#![deny(unsafe_code)]

mod aliases;
mod audit;
mod blobs;
mod catalog;
mod clock;
mod datasets;
mod digest;
mod error;
mod jobs;
mod keys;
mod mapped;
mod meters;
mod models;
mod names;
mod policies;
mod publish;
mod records;
mod rollouts;
mod row;
mod staging;
mod store;
mod sweep;
mod tenants;
mod uploads;

#[cfg(test)]
mod tests;

pub use audit::{AuditEntry, AuditLimits, AuditRecord};
pub use catalog::{Catalog, CatalogConfig};
pub use clock::{Clock, SystemClock, utc, utc_ms};
pub use datasets::DatasetRecord;
pub use digest::{Digest, DigestError};
pub use error::CatalogError;
pub use jobs::{JobChange, JobEvent, JobRecord, JobState, NewJob};
pub use keys::{KeyInfo, Scope, ScopeError, key_id};
pub use mapped::map_nameless;
pub use meters::{Meter, Meters, UsageBy, UsagePeriod, Used};
pub use names::{AliasName, DatasetName, ModelKey, ModelName, NameError, TenantName, VersionName};
pub use policies::{Policy, Serve};
pub use records::{
    ModelRecord, NewVersion, PublishLimits, Published, Sharing, Swept, UploadLimits, Usage,
    VersionRecord,
};
pub use rollouts::{AliasAct, AliasChange, Rollout, RolloutId, Share};
pub use uploads::{UploadId, UploadIdError};
