//! Tests of the whole crate, each on a real folder. Time is a number that tests set.

mod audit;
mod blobs;
mod crash;
mod datasets;
mod jobs;
mod keys;
mod meters;
mod models;
mod policies;
mod rollouts;
mod sweep;
mod uploads;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use tempfile::TempDir;

use crate::{
    AuditLimits, Catalog, CatalogConfig, CatalogError, Clock, Digest, ModelKey, NewVersion,
    PublishLimits, UploadLimits,
};

type Watch = Box<dyn FnMut(&'static str) -> Result<(), CatalogError> + Send>;

/// Looks at every step between two writes, and may let the catalog fail there.
#[derive(Default)]
pub(crate) struct Probe(Mutex<Option<Watch>>);

impl Probe {
    pub(crate) fn step(&self, name: &'static str) -> Result<(), CatalogError> {
        match &mut *self.0.lock().expect("no watch panics") {
            Some(watch) => watch(name),
            None => Ok(()),
        }
    }
}

/// A clock that stands still until it is set.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

const CONFIG: CatalogConfig = CatalogConfig {
    unreferenced_blob_ttl_ms: 1000,
    stale_upload_ttl_ms: 500,
    audit: AuditLimits { ttl_ms: 10_000, entries_max: 3 },
};
const UPLOADS: UploadLimits =
    UploadLimits { stored_bytes_max: 1000, upload_bytes_max: 500, uploads_max: 3 };

/// A catalog in a folder of its own, with the tenants `acme` and `zeta`.
struct Bench {
    catalog: Catalog,
    clock: Hand,
    dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Hand::default();
        clock.set(1_000_000);
        let catalog = open(dir.path(), &clock).await;
        for tenant in ["acme", "zeta"] {
            catalog.create_tenant(&name(tenant)).await.expect("a tenant");
        }
        Self { catalog, clock, dir }
    }

    /// Closes the catalog and opens it again.
    async fn reopened(self) -> Self {
        let Self { catalog, clock, dir } = self;
        catalog.close().await;
        drop(catalog);
        Self { catalog: open(dir.path(), &clock).await, clock, dir }
    }

    async fn put(&self, tenant: &str, bytes: &'static [u8]) -> Digest {
        let put = self.catalog.put_blob(&name(tenant), Bytes::from_static(bytes), 1000).await;
        put.expect("a blob")
    }

    async fn publish(&self, new: NewVersion) {
        self.catalog.publish(&new).await.expect("published");
    }

    async fn stored(&self, tenant: &str) -> u64 {
        self.catalog.usage(&name(tenant)).await.expect("usage").stored_bytes
    }

    fn watch(&self, watch: impl FnMut(&'static str) -> Result<(), CatalogError> + Send + 'static) {
        *self.catalog.inner.probe.0.lock().expect("no watch panics") = Some(Box::new(watch));
    }

    fn unwatch(&self) {
        *self.catalog.inner.probe.0.lock().expect("no watch panics") = None;
    }

    fn blob_file(&self, digest: &Digest) -> PathBuf {
        blob_file(self.dir.path(), digest)
    }

    fn files(&self) -> Vec<String> {
        files(self.dir.path())
    }
}

async fn open(dir: &Path, clock: &Hand) -> Catalog {
    Catalog::open_with(dir, CONFIG, Arc::new(clock.clone())).await.expect("the catalog opens")
}

fn blob_file(dir: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    dir.join("blobs").join(&hex[..2]).join(hex)
}

/// The names of the files of blobs and uploads, in order.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("blobs"), dir.join("uploads")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.file_name().expect("a name").display().to_string()),
            }
        }
    }
    found.sort();
    found
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

/// `acme/digits` to the key.
fn key(text: &str) -> ModelKey {
    let (owner, model) = text.split_once('/').expect("owner/name");
    ModelKey::new(name(owner), name(model))
}

fn new_version(model: &str, version: &str, manifest: &str) -> NewVersion {
    NewVersion {
        model: key(model),
        version: name(version),
        digest: Digest::of(manifest.as_bytes()),
        manifest: manifest.to_owned(),
        facts: "{}".to_owned(),
        blobs: Vec::new(),
        aliases: Vec::new(),
        limits: PublishLimits { versions_max: 3, models_max: 2, stored_bytes_max: 1 << 20 },
    }
}

/// What an error is, in a word and its numbers, to compare in tables.
fn kind(error: &CatalogError) -> String {
    match error {
        CatalogError::NotFound { .. } => "not found".to_owned(),
        CatalogError::Conflict { .. } => "conflict".to_owned(),
        CatalogError::LimitExceeded { limit, max, got } => format!("{limit} {max} {got}"),
        CatalogError::WrongOffset { wanted, got } => format!("offset {wanted} {got}"),
        CatalogError::WrongDigest { .. } => "wrong digest".to_owned(),
        CatalogError::Corrupt { .. } => "corrupt".to_owned(),
        CatalogError::Damaged { .. } => "damaged".to_owned(),
        CatalogError::DiskFull => "disk full".to_owned(),
        CatalogError::InUse { .. } => "in use".to_owned(),
        other => format!("unforeseen: {other}"),
    }
}

/// `ok`, or what the error is.
fn outcome<T>(result: Result<T, CatalogError>) -> String {
    result.map_or_else(|error| kind(&error), |_| "ok".to_owned())
}
