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
mod blobs;
mod catalog;
mod clock;
mod digest;
mod error;
mod keys;
mod mapped;
mod models;
mod names;
mod publish;
mod records;
mod row;
mod staging;
mod store;
mod sweep;
mod tenants;
mod uploads;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, CatalogConfig};
pub use clock::{Clock, SystemClock};
pub use digest::{Digest, DigestError};
pub use error::CatalogError;
pub use keys::{KeyInfo, Scope, ScopeError, key_id};
pub use names::{AliasName, ModelKey, ModelName, NameError, TenantName, VersionName};
pub use records::{
    ModelRecord, NewVersion, PublishLimits, Published, Sharing, Swept, UploadLimits, Usage,
    VersionRecord,
};
pub use uploads::{UploadId, UploadIdError};
