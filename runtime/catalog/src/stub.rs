//! Signatures, to be spread over their files.
#![allow(missing_docs)]
use crate::*;
use bytes::Bytes;
use std::{path::Path, sync::Arc};
type Result<T> = std::result::Result<T, CatalogError>;
fn no<T>() -> Result<T> {
    Err(CatalogError::not_found(""))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogConfig {
    /// For how long a blob that no version refers to is kept.
    pub unreferenced_blob_ttl_ms: i64,
    /// For how long an upload that nobody continues is kept.
    pub stale_upload_ttl_ms: i64,
}

/// Names an open upload: 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Arc<str>);
impl UploadId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl std::str::FromStr for UploadId {
    type Err = CatalogError;
    fn from_str(_: &str) -> Result<Self> {
        no()
    }
}
impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone)]
pub struct Catalog;
#[allow(unused_variables)]
impl Catalog {
    pub async fn open(dir: &Path) -> Result<Catalog> {
        no()
    }
    pub async fn open_with(
        dir: &Path,
        config: CatalogConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Catalog> {
        no()
    }
    /// Waits for what is being written and closes the database.
    pub async fn close(&self) {}

    pub async fn create_tenant(&self, tenant: &TenantName) -> Result<()> {
        no()
    }
    pub async fn list_tenants(&self) -> Result<Vec<TenantName>> {
        no()
    }
    pub async fn tenant_limits(&self, tenant: &TenantName) -> Result<Option<String>> {
        no()
    }
    pub async fn set_tenant_limits(&self, tenant: &TenantName, limits: &str) -> Result<()> {
        no()
    }
    pub async fn usage(&self, tenant: &TenantName) -> Result<Usage> {
        no()
    }

    pub async fn models(&self) -> Result<Vec<ModelRecord>> {
        no()
    }
    pub async fn model(&self, key: &ModelKey) -> Result<ModelRecord> {
        no()
    }
    pub async fn version(&self, key: &ModelKey, version: &VersionName) -> Result<VersionRecord> {
        no()
    }
    pub async fn publish(&self, new: &NewVersion) -> Result<Published> {
        no()
    }
    pub async fn delete_version(&self, key: &ModelKey, version: &VersionName) -> Result<()> {
        no()
    }
    pub async fn delete_model(&self, key: &ModelKey) -> Result<()> {
        no()
    }
    pub async fn set_alias(
        &self,
        key: &ModelKey,
        alias: &AliasName,
        version: &VersionName,
    ) -> Result<()> {
        no()
    }
    pub async fn delete_alias(&self, key: &ModelKey, alias: &AliasName) -> Result<()> {
        no()
    }
    pub async fn set_sharing(&self, key: &ModelKey, sharing: &Sharing) -> Result<()> {
        no()
    }

    pub async fn put_blob(
        &self,
        tenant: &TenantName,
        bytes: Bytes,
        stored_bytes_max: u64,
    ) -> Result<Digest> {
        no()
    }
    pub async fn has_blob(&self, tenant: &TenantName, digest: &Digest) -> Result<Option<u64>> {
        no()
    }
    pub async fn blob(&self, digest: &Digest) -> Result<Bytes> {
        no()
    }

    pub async fn begin_upload(
        &self,
        tenant: &TenantName,
        limits: &UploadLimits,
    ) -> Result<UploadId> {
        no()
    }
    pub async fn upload_offset(&self, tenant: &TenantName, id: &UploadId) -> Result<u64> {
        no()
    }
    pub async fn append(
        &self,
        tenant: &TenantName,
        id: &UploadId,
        offset: u64,
        chunk: Bytes,
        limits: &UploadLimits,
    ) -> Result<u64> {
        no()
    }
    pub async fn finish_upload(
        &self,
        tenant: &TenantName,
        id: &UploadId,
        digest: &Digest,
    ) -> Result<u64> {
        no()
    }
    pub async fn cancel_upload(&self, tenant: &TenantName, id: &UploadId) -> Result<()> {
        no()
    }

    pub async fn sweep(&self) -> Result<Swept> {
        no()
    }
}
