//! The catalog itself: opening it, and what all its parts share.

use std::{future::Future, path::Path, sync::Arc};

use tokio::sync::{Mutex, MutexGuard};

use crate::{AuditLimits, CatalogError, Clock, Meters, SystemClock, store::Store};

/// How the catalog keeps house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogConfig {
    /// For how long a blob is kept that a tenant has sent but no version refers to.
    pub unreferenced_blob_ttl_ms: i64,
    /// For how long an upload is kept that nobody continues.
    pub stale_upload_ttl_ms: i64,
    /// How much of the audit log is kept.
    pub audit: AuditLimits,
}

const HOUR_MS: i64 = 60 * 60 * 1000;

impl Default for CatalogConfig {
    /// A day for blobs, so that a large model can be sent over a working day and published at its
    /// end; a day for uploads, so that one that broke off in the evening can go on in the morning.
    fn default() -> Self {
        Self {
            unreferenced_blob_ttl_ms: 24 * HOUR_MS,
            stale_upload_ttl_ms: 24 * HOUR_MS,
            audit: AuditLimits::default(),
        }
    }
}

/// Everything that exists on this host, kept in one folder.
///
/// Whatever a method has acknowledged survives a crash and a power loss. A method that fails has
/// changed nothing that can be seen. Cheap to clone; the clones are one catalog.
#[derive(Clone)]
pub struct Catalog {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) meters: Meters,
    /// Held while counters are moved into their hours.
    pub(crate) flushing: Mutex<()>,
    pub(crate) config: CatalogConfig,
    clock: Arc<dyn Clock>,
    /// Held while a blob's file and its row are brought in line, so that a sweep never takes one
    /// without the other.
    pub(crate) blob_locks: Locks,
    /// Held while an upload's file and its row are brought in line.
    pub(crate) upload_locks: Locks,
    #[cfg(test)]
    pub(crate) probe: crate::tests::Probe,
}

impl Catalog {
    /// Opens the catalog in `dir`, or makes it there.
    ///
    /// # Errors
    ///
    /// [`CatalogError::InUse`] when another process has it open.
    pub async fn open(dir: &Path) -> Result<Self, CatalogError> {
        Self::open_with(dir, CatalogConfig::default(), Arc::new(SystemClock)).await
    }

    /// As [`open`](Self::open), with other lifetimes and another clock.
    ///
    /// Brings uploads and blobs that a crash left half-way in line, and sweeps.
    pub async fn open_with(
        dir: &Path,
        config: CatalogConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CatalogError> {
        let inner = Inner {
            store: Store::open(dir).await?,
            // After the store, which has locked the folder.
            meters: Meters::open(dir)?,
            flushing: Mutex::new(()),
            config,
            clock,
            blob_locks: Locks::default(),
            upload_locks: Locks::default(),
            #[cfg(test)]
            probe: Default::default(),
        };
        let catalog = Self { inner: Arc::new(inner) };
        catalog.recover_usage().await?;
        catalog.recover_uploads().await?;
        catalog.remove_half_blobs().await?;
        catalog.sweep().await?;
        Ok(catalog)
    }

    /// Moves what was counted to its place and closes the database, after the write that is under way. Every later call
    /// fails.
    pub async fn close(&self) {
        if let Err(error) = self.flush_usage().await {
            tracing::warn!(%error, "usage stays in its counters until the next start");
        }
        self.inner.store.close().await;
    }

    /// Runs `work` to its end even if the caller goes away, for steps that go together but that no
    /// transaction can hold together: a file and the row about it.
    pub(crate) async fn to_the_end<T, F>(&self, work: F) -> Result<T, CatalogError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CatalogError>> + Send + 'static,
    {
        joined(tokio::spawn(work).await)
    }
}

impl Inner {
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// A point between two steps, where a test may look at the folder or let the catalog fail.
    #[cfg(not(test))]
    #[inline]
    pub(crate) fn step(&self, _name: &'static str) -> Result<(), CatalogError> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn step(&self, name: &'static str) -> Result<(), CatalogError> {
        self.probe.step(name)
    }
}

/// Runs what blocks on its own thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, CatalogError> {
    joined(tokio::task::spawn_blocking(work).await)
}

fn joined<T>(
    outcome: Result<Result<T, CatalogError>, tokio::task::JoinError>,
) -> Result<T, CatalogError> {
    outcome.unwrap_or_else(|error| {
        Err(CatalogError::io("waiting for a task of the catalog", std::io::Error::other(error)))
    })
}

/// A fixed number of locks shared by ever so many keys: two keys may wait for each other, never for
/// long.
pub(crate) struct Locks([Mutex<()>; LOCKS]);

const LOCKS: usize = 64;

impl Default for Locks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Locks {
    /// Waits for the lock of `key`, whose last byte is taken for random.
    pub(crate) async fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let last = key.last().copied().unwrap_or_default();
        self.0[usize::from(last) % LOCKS].lock().await
    }
}
