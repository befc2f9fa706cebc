//! What exists on this host: tenants, keys, models, versions, aliases and blobs.
//!
//! This crate knows no WebAssembly, no HTTP and no tensors. It does not know what a manifest or a blob means; it keeps
//! them, says whose they are, and never forgets what it has acknowledged.

#![forbid(unsafe_code)]

mod clock;
mod digest;
mod error;
mod keys;
mod names;
mod records;
mod stub;

pub use clock::{Clock, SystemClock};
pub use digest::{Digest, DigestError};
pub use error::CatalogError;
pub use keys::{KeyInfo, Scope, ScopeError, key_id};
pub use names::{AliasName, ModelKey, ModelName, NameError, TenantName, VersionName};
pub use records::{
    ModelRecord, NewVersion, PublishLimits, Published, Sharing, Swept, UploadLimits, Usage,
    VersionRecord,
};
pub use stub::{Catalog, CatalogConfig, UploadId};
