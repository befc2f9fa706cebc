//! What the catalog holds and is given, as plain data.

use crate::{AliasName, Digest, ModelKey, Policy, Rollout, TenantName, VersionName};

/// An immutable version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    /// The model it is a version of.
    pub model: ModelKey,
    /// Its name.
    pub version: VersionName,
    /// The digest of the manifest's bytes, which is the identity of the version: the manifest holds
    /// every blob's digest.
    pub digest: Digest,
    /// The manifest as published.
    pub manifest: String,
    /// What the publisher found out about the version, such as its signature. JSON that the catalog
    /// does not read.
    pub facts: String,
    /// The blobs it refers to, in the order given and each once.
    pub blobs: Vec<Digest>,
    /// When it was published, in milliseconds since 1970.
    pub created_ms: i64,
}

/// Who but its owner may call a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    #[default]
    Private,
    /// The tenants named, in alphabetical order when read back.
    Tenants(Vec<TenantName>),
    /// Every tenant of this host.
    All,
}

/// A model with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRecord {
    /// Its owner and name.
    pub key: ModelKey,
    /// Who else may call it.
    pub sharing: Sharing,
    /// Its aliases in alphabetical order, each with the version it stands for.
    pub aliases: Vec<(AliasName, VersionName)>,
    /// What is tried behind its aliases, at most one for each.
    pub rollouts: Vec<Rollout>,
    /// Which versions are served and kept.
    pub policy: Policy,
    /// Its versions in the order they were published, the newest last.
    pub versions: Vec<VersionRecord>,
    /// When its first version was published, in milliseconds since 1970.
    pub created_ms: i64,
}

/// A version to publish.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// The model; it is made when its first version is published.
    pub model: ModelKey,
    /// The name of the version.
    pub version: VersionName,
    /// The digest of the manifest's bytes.
    pub digest: Digest,
    /// The manifest.
    pub manifest: String,
    /// JSON for the publisher's own use.
    pub facts: String,
    /// The blobs it refers to. The owner of the model must have sent each of them.
    pub blobs: Vec<Digest>,
    /// Aliases to set to this version in the same step.
    pub aliases: Vec<AliasName>,
    /// How much the owner may have.
    pub limits: PublishLimits,
}

/// How much a tenant may publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishLimits {
    /// Versions of one model.
    pub versions_max: u64,
    /// Models of one tenant.
    pub models_max: u64,
    /// Bytes that the tenant may store, see [`Usage::stored_bytes`].
    pub stored_bytes_max: u64,
}

/// What publishing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The version is new.
    New,
    /// The version was there already with the same digest, and stays as it was.
    Same,
}

/// How much a tenant may upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// Bytes that the tenant may store, see [`Usage::stored_bytes`].
    pub stored_bytes_max: u64,
    /// Bytes of one upload.
    pub upload_bytes_max: u64,
    /// Uploads that the tenant may have open at once.
    pub uploads_max: u64,
}

/// What a tenant holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of its blobs, each counted in full however many tenants share it, of its open
    /// uploads, and of its versions' manifests and facts.
    pub stored_bytes: u64,
    /// Versions over all its models.
    pub versions: u64,
    /// Models.
    pub models: u64,
    /// Open uploads.
    pub uploads: u64,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that nobody continued.
    pub uploads: u64,
    /// Blobs that tenants sent but no version refers to, counted once per tenant.
    pub references: u64,
    /// Blobs that no tenant holds any more.
    pub blobs: u64,
    /// Files that no row knows of, as a crash leaves them.
    pub files: u64,
    /// Entries of the audit log that were too old or too many.
    pub audit: u64,
}
