//! Blobs that come in pieces, and go on where they broke off.
//!
//! An upload is a file that grows and a row that says how much of it was acknowledged. The row is
//! the truth: after a power loss a file may be longer than what was written to it, never shorter
//! than what was synced. So bytes beyond the row are cut off, and sent again by the client, which
//! asks for the offset.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use bytes::Bytes;
use object_store::ObjectStoreExt;
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError, Digest, TenantName, UploadLimits,
    blobs::own_blob,
    catalog::blocking,
    keys::random,
    row::{self, column, count},
    staging,
    store::{UPLOADS, blob_path},
    tenants::{require_tenant, stored_bytes, within},
};

type Result<T> = std::result::Result<T, CatalogError>;

/// Names an open upload: 32 hex digits that nobody can guess.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Arc<str>);

/// A text that is no upload's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an upload id: wanted 32 lower-case hex digits")]
pub struct UploadIdError {
    /// The text as given, cut after 100 characters.
    pub given: String,
}

/// The row of an upload.
pub(crate) struct Upload {
    pub(crate) id: UploadId,
    pub(crate) tenant: TenantName,
    received: u64,
    /// Set once the bytes are verified: from then on the file may be among the blobs already.
    finishing: Option<Digest>,
}

impl Catalog {
    /// Opens an upload.
    ///
    /// # Errors
    ///
    /// [`CatalogError::LimitExceeded`] for `uploads_max`, [`CatalogError::NotFound`] for the
    /// tenant.
    pub async fn begin_upload(
        &self,
        tenant: &TenantName,
        limits: &UploadLimits,
    ) -> Result<UploadId> {
        let id = UploadId(hex::encode(random::<{ ID_CHARS / 2 }>()?).into());
        let mut write = self.inner.store.write().await?;
        require_tenant(&mut write, tenant).await?;
        let open = sqlx::query_scalar("SELECT count(*) FROM uploads WHERE tenant = ?")
            .bind(tenant.as_str())
            .fetch_one(&mut *write)
            .await?;
        within("uploads_max", limits.uploads_max, count(open) + 1)?;
        let now_ms = self.inner.now_ms();
        sqlx::query(
            "INSERT INTO uploads (id, tenant, received, created_ms, touched_ms)
             VALUES (?, ?, 0, ?, ?)",
        )
        .bind(id.as_str())
        .bind(tenant.as_str())
        .bind(now_ms)
        .bind(now_ms)
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        Ok(id)
    }

    /// How many bytes of the upload are safe, which is where it goes on.
    pub async fn upload_offset(&self, tenant: &TenantName, id: &UploadId) -> Result<u64> {
        Ok(self.upload(tenant, id).await?.received)
    }

    /// Adds the next bytes and returns where the upload goes on. They are on the disk by then.
    ///
    /// # Errors
    ///
    /// [`CatalogError::WrongOffset`] when `offset` is not where the upload goes on, and
    /// [`CatalogError::LimitExceeded`] for `upload_bytes_max` and `stored_bytes_max`.
    pub async fn append(
        &self,
        tenant: &TenantName,
        id: &UploadId,
        offset: u64,
        chunk: Bytes,
        limits: &UploadLimits,
    ) -> Result<u64> {
        let (catalog, tenant, id, limits) = (self.clone(), tenant.clone(), id.clone(), *limits);
        self.to_the_end(async move { catalog.extend(&tenant, &id, offset, chunk, limits).await })
            .await
    }

    /// Makes the upload a blob of the tenant, if its bytes have the digest promised, and returns
    /// the blob's size.
    ///
    /// Finishing once more, for want of an answer the first time, succeeds as well.
    ///
    /// # Errors
    ///
    /// [`CatalogError::WrongDigest`]; the upload stays open then, to go on or to be cancelled.
    pub async fn finish_upload(
        &self,
        tenant: &TenantName,
        id: &UploadId,
        digest: &Digest,
    ) -> Result<u64> {
        let (catalog, tenant, id, digest) = (self.clone(), tenant.clone(), id.clone(), *digest);
        self.to_the_end(async move { catalog.finish(&tenant, &id, digest).await }).await
    }

    /// Ends the upload and forgets its bytes.
    pub async fn cancel_upload(&self, tenant: &TenantName, id: &UploadId) -> Result<()> {
        let (catalog, tenant, id) = (self.clone(), tenant.clone(), id.clone());
        self.to_the_end(async move {
            let _lock = catalog.inner.upload_locks.lock(id.key()).await;
            catalog.upload(&tenant, &id).await?;
            catalog.drop_upload(&id).await
        })
        .await
    }

    async fn extend(
        &self,
        tenant: &TenantName,
        id: &UploadId,
        offset: u64,
        chunk: Bytes,
        limits: UploadLimits,
    ) -> Result<u64> {
        let _lock = self.inner.upload_locks.lock(id.key()).await;
        self.upload(tenant, id).await?.check_offset(offset)?;
        let added = chunk.len() as u64;
        let end = offset.saturating_add(added);
        within("upload_bytes_max", limits.upload_bytes_max, end)?;
        let mut read = self.inner.store.read().await?;
        let stored = stored_bytes(&mut read, tenant).await?.saturating_add(added);
        drop(read);
        within("stored_bytes_max", limits.stored_bytes_max, stored)?;
        let path = self.upload_path(id);
        blocking(move || staging::write(&path, offset, &chunk)).await?;
        self.inner.step("upload: written")?;
        let recorded = self.record_received(tenant, id, end, limits.stored_bytes_max).await;
        if recorded.is_err() {
            let path = self.upload_path(id);
            blocking(move || staging::truncate(&path, offset)).await?;
        }
        recorded?;
        self.inner.step("upload: recorded")?;
        Ok(end)
    }

    /// Acknowledges the bytes in the file. The limit is checked once more, since the tenant's other
    /// uploads may have grown meanwhile.
    async fn record_received(
        &self,
        tenant: &TenantName,
        id: &UploadId,
        received: u64,
        stored_bytes_max: u64,
    ) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        sqlx::query("UPDATE uploads SET received = ?, touched_ms = ? WHERE id = ?")
            .bind(column(received))
            .bind(self.inner.now_ms())
            .bind(id.as_str())
            .execute(&mut *write)
            .await?;
        let stored = stored_bytes(&mut write, tenant).await?;
        within("stored_bytes_max", stored_bytes_max, stored)?;
        Ok(write.commit().await?)
    }

    async fn finish(&self, tenant: &TenantName, id: &UploadId, wanted: Digest) -> Result<u64> {
        let _lock = self.inner.upload_locks.lock(id.key()).await;
        let upload = match self.upload(tenant, id).await {
            Err(CatalogError::NotFound { what }) => {
                let size = self.has_blob(tenant, &wanted).await?;
                return size.ok_or(CatalogError::NotFound { what });
            }
            other => other?,
        };
        let got = match upload.finishing {
            Some(verified) => verified,
            None => {
                let (path, received) = (self.upload_path(id), upload.received);
                blocking(move || staging::digest(&path, received)).await?
            }
        };
        if got != wanted {
            return Err(CatalogError::WrongDigest { wanted, got });
        }
        self.inner.step("upload: verified")?;
        self.mark_finishing(id, &wanted).await?;
        self.inner.step("upload: marked")?;
        self.settle(&upload, &wanted).await?;
        Ok(upload.received)
    }

    /// Writes down that the bytes are verified, so that whatever happens next can be taken up where
    /// it stopped.
    async fn mark_finishing(&self, id: &UploadId, digest: &Digest) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        sqlx::query("UPDATE uploads SET finishing = ?, touched_ms = ? WHERE id = ?")
            .bind(row::bytes(digest))
            .bind(self.inner.now_ms())
            .bind(id.as_str())
            .execute(&mut *write)
            .await?;
        Ok(write.commit().await?)
    }

    /// Makes a blob of verified bytes: the file moves, then the rows follow. May be done again
    /// after a crash.
    async fn settle(&self, upload: &Upload, digest: &Digest) -> Result<()> {
        let _lock = self.inner.blob_locks.lock(digest.as_bytes()).await;
        let from = object_store::path::Path::from_iter([UPLOADS, upload.id.as_str()]);
        let objects = &self.inner.store.objects;
        match objects.rename(&from, &blob_path(digest)).await {
            // It moved before a crash, if the blob is there.
            Err(object_store::Error::NotFound { .. }) => {
                objects.head(&blob_path(digest)).await?;
            }
            other => other?,
        }
        self.inner.step("upload: moved")?;
        let mut write = self.inner.store.write().await?;
        let now_ms = self.inner.now_ms();
        own_blob(&mut write, &upload.tenant, digest, upload.received, now_ms).await?;
        sqlx::query("DELETE FROM uploads WHERE id = ?")
            .bind(upload.id.as_str())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        self.inner.step("upload: settled")
    }

    /// Removes the row, then the file; should that fail, the next sweep removes it.
    pub(crate) async fn drop_upload(&self, id: &UploadId) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        sqlx::query("DELETE FROM uploads WHERE id = ?")
            .bind(id.as_str())
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        self.inner.step("upload: dropped")?;
        let path = self.upload_path(id);
        blocking(move || staging::remove(&path).map(|_| ())).await
    }

    /// Brings rows and files of uploads in line after a crash. Nobody else is at them yet.
    pub(crate) async fn recover_uploads(&self) -> Result<()> {
        let mut read = self.inner.store.read().await?;
        let rows = sqlx::query("SELECT * FROM uploads").fetch_all(&mut *read).await?;
        drop(read);
        for row in rows {
            let upload = upload(&row)?;
            match upload.finishing {
                Some(digest) => self.resume_finishing(&upload, &digest).await?,
                None => self.align(&upload).await?,
            }
        }
        Ok(())
    }

    async fn resume_finishing(&self, upload: &Upload, digest: &Digest) -> Result<()> {
        match self.settle(upload, digest).await {
            // Someone removed the file by hand. Nothing was acknowledged; the client starts anew.
            Err(CatalogError::Blobs(object_store::Error::NotFound { .. })) => {
                self.drop_upload(&upload.id).await
            }
            other => other,
        }
    }

    /// Cuts the file to what was acknowledged, or, should the disk have lost bytes, the row to what
    /// is left.
    async fn align(&self, upload: &Upload) -> Result<()> {
        let (path, received) = (self.upload_path(&upload.id), upload.received);
        let left = blocking(move || staging::truncate(&path, received)).await?;
        if left == received {
            return Ok(());
        }
        tracing::warn!(upload = %upload.id, received, left, "an upload lost bytes");
        let mut write = self.inner.store.write().await?;
        sqlx::query("UPDATE uploads SET received = ? WHERE id = ?")
            .bind(column(left))
            .bind(upload.id.as_str())
            .execute(&mut *write)
            .await?;
        Ok(write.commit().await?)
    }

    /// The tenant's upload; another tenant's looks as if it did not exist.
    async fn upload(&self, tenant: &TenantName, id: &UploadId) -> Result<Upload> {
        let mut read = self.inner.store.read().await?;
        let row = sqlx::query("SELECT * FROM uploads WHERE id = ? AND tenant = ?")
            .bind(id.as_str())
            .bind(tenant.as_str())
            .fetch_optional(&mut *read)
            .await?;
        row.map(|row| upload(&row))
            .unwrap_or_else(|| Err(CatalogError::not_found(format!("upload {id}"))))
    }

    fn upload_path(&self, id: &UploadId) -> PathBuf {
        self.inner.store.uploads().join(id.as_str())
    }
}

impl Upload {
    fn check_offset(&self, got: u64) -> Result<()> {
        if self.finishing.is_some() {
            let what = format!("upload {}", self.id);
            let why = "its bytes are complete; finish it".to_owned();
            return Err(CatalogError::Conflict { what, why });
        }
        match self.received {
            wanted if wanted == got => Ok(()),
            wanted => Err(CatalogError::WrongOffset { wanted, got }),
        }
    }
}

fn upload(row: &SqliteRow) -> Result<Upload> {
    let finishing: Option<&[u8]> = row.try_get("finishing")?;
    Ok(Upload {
        id: row::parsed(row.try_get("id")?)?,
        tenant: row::parsed(row.try_get("tenant")?)?,
        received: count(row.try_get("received")?),
        finishing: finishing.map(row::digest).transpose()?,
    })
}

const ID_CHARS: usize = 32;

impl UploadId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What to lock the upload by.
    pub(crate) fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> std::result::Result<Self, UploadIdError> {
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == ID_CHARS && text.bytes().all(is_hex) {
            return Ok(Self(text.into()));
        }
        Err(UploadIdError { given: text.chars().take(100).collect() })
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
