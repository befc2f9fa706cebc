//! Removing what nobody needs: blobs without a version, uploads without a client, files without a
//! row.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt;
use object_store::ObjectStore;
use sqlx::{Sqlite, Transaction};

use crate::{
    Catalog, CatalogError, Digest, Swept,
    catalog::blocking,
    row::{digest, parsed},
    staging,
    store::BLOBS,
    uploads::UploadId,
};

type Result<T> = std::result::Result<T, CatalogError>;

impl Catalog {
    /// Removes uploads that nobody continued, blobs that no version refers to, both when they are
    /// older than the lifetimes in [`CatalogConfig`](crate::CatalogConfig), files that a
    /// failure left behind, and what is beyond the bounds of the audit log.
    ///
    /// Runs beside everything else; call it now and then.
    pub async fn sweep(&self) -> Result<Swept> {
        let catalog = self.clone();
        self.to_the_end(async move {
            Ok(Swept {
                uploads: catalog.sweep_uploads().await?,
                references: catalog.sweep_references().await?,
                blobs: catalog.sweep_blobs().await?,
                files: catalog.sweep_files().await?,
                audit: catalog.sweep_audit().await?,
            })
        })
        .await
    }

    /// Removes blob files that a crash left half-written. Only while nobody writes, which is at the
    /// start.
    pub(crate) async fn remove_half_blobs(&self) -> Result<()> {
        let blobs = self.inner.store.blobs();
        blocking(move || {
            for folder in entries(&blobs)?.iter().filter(|path| path.is_dir()) {
                for path in entries(folder)? {
                    // The blob store writes `<name>#<number>` and renames it when it is whole.
                    if file_name(&path).contains('#') {
                        staging::remove(&path)?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    async fn sweep_uploads(&self) -> Result<u64> {
        let before_ms = self.inner.now_ms() - self.inner.config.stale_upload_ttl_ms;
        let stale = "SELECT id FROM uploads WHERE touched_ms < ?";
        let mut read = self.inner.store.read().await?;
        let ids: Vec<String> =
            sqlx::query_scalar(stale).bind(before_ms).fetch_all(&mut *read).await?;
        drop(read);
        let mut swept = 0;
        for id in ids {
            let id: UploadId = parsed(&id)?;
            let _lock = self.inner.upload_locks.lock(id.key()).await;
            // It may have gone on, or ended, while we waited for the lock.
            let mut read = self.inner.store.read().await?;
            let still = sqlx::query("SELECT 1 FROM uploads WHERE id = ? AND touched_ms < ?")
                .bind(id.as_str())
                .bind(before_ms)
                .fetch_optional(&mut *read)
                .await?;
            drop(read);
            if still.is_some() {
                self.drop_upload(&id).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Takes blobs from tenants whose versions and datasets do not refer to them.
    async fn sweep_references(&self) -> Result<u64> {
        let before_ms = self.inner.now_ms() - self.inner.config.unreferenced_blob_ttl_ms;
        let mut write = self.inner.store.write().await?;
        let swept = sqlx::query(
            "DELETE FROM blob_owners
              WHERE touched_ms < ?
                AND NOT EXISTS (SELECT 1 FROM version_blobs v
                                 WHERE v.owner = blob_owners.tenant
                                   AND v.digest = blob_owners.digest)
                AND NOT EXISTS (SELECT 1 FROM datasets d
                                 WHERE d.tenant = blob_owners.tenant
                                   AND d.digest = blob_owners.digest)",
        )
        .bind(before_ms)
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        self.inner.step("sweep: references")?;
        Ok(swept.rows_affected())
    }

    /// Removes blobs that nobody owns: the row first, so that a crash between the two leaves a file
    /// without a row, which the next sweep finds, and never a row without a file.
    async fn sweep_blobs(&self) -> Result<u64> {
        let mut read = self.inner.store.read().await?;
        let unowned: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT digest FROM blobs
              WHERE NOT EXISTS (SELECT 1 FROM blob_owners o WHERE o.digest = blobs.digest)",
        )
        .fetch_all(&mut *read)
        .await?;
        drop(read);
        let mut swept = 0;
        for blob in unowned {
            let blob = digest(&blob)?;
            let _lock = self.inner.blob_locks.lock(blob.as_bytes()).await;
            let mut write = self.inner.store.write().await?;
            if delete_unowned(&mut write, &blob).await? {
                write.commit().await?;
                self.inner.step("sweep: blob row")?;
                self.forget_unrecorded(&blob).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Removes files that no row knows of, as a failure or a crash leaves them.
    async fn sweep_files(&self) -> Result<u64> {
        let mut swept = 0;
        let known = self.known_blobs().await?;
        let mut blobs = self.inner.store.objects.list(Some(&BLOBS.into()));
        while let Some(file) = blobs.try_next().await? {
            let name = file.location.filename().unwrap_or_default();
            // Another name is not ours: somebody put it there.
            let Ok(blob) = format!("sha256:{name}").parse::<Digest>() else { continue };
            if !known.contains(&blob) {
                // It may be arriving at this moment; with the lock held, it has arrived.
                let _lock = self.inner.blob_locks.lock(blob.as_bytes()).await;
                swept += u64::from(self.forget_unrecorded(&blob).await?);
            }
        }
        let uploads = self.inner.store.uploads();
        for path in blocking(move || entries(&uploads)).await? {
            if let Ok(id) = file_name(&path).parse::<UploadId>() {
                let _lock = self.inner.upload_locks.lock(id.key()).await;
                swept += u64::from(self.forget_unrecorded_upload(&id, path).await?);
            }
        }
        Ok(swept)
    }

    async fn known_blobs(&self) -> Result<HashSet<Digest>> {
        let mut read = self.inner.store.read().await?;
        let rows: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT digest FROM blobs").fetch_all(&mut *read).await?;
        rows.iter().map(|row| digest(row)).collect()
    }

    async fn forget_unrecorded_upload(&self, id: &UploadId, path: PathBuf) -> Result<bool> {
        let mut read = self.inner.store.read().await?;
        let row = sqlx::query("SELECT 1 FROM uploads WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&mut *read)
            .await?;
        match row {
            Some(_) => Ok(false),
            None => blocking(move || staging::remove(&path)).await,
        }
    }
}

/// Deletes the row unless somebody has become an owner meanwhile.
async fn delete_unowned(write: &mut Transaction<'static, Sqlite>, blob: &Digest) -> Result<bool> {
    let deleted = sqlx::query(
        "DELETE FROM blobs
          WHERE digest = ?
            AND NOT EXISTS (SELECT 1 FROM blob_owners o WHERE o.digest = blobs.digest)",
    )
    .bind(&blob.as_bytes()[..])
    .execute(&mut **write)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| CatalogError::io(format!("reading {}", folder.display()), error);
    fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}
