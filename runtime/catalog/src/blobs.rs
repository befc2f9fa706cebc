//! Bytes by their digest: stored once, owned by every tenant that has sent them.

use bytes::Bytes;
use object_store::{GetResult, GetResultPayload, ObjectStoreExt};
use sqlx::{Row, SqliteConnection};

use crate::{
    Catalog, CatalogError, Digest, TenantName,
    catalog::blocking,
    mapped,
    row::{bytes as digest_bytes, column, count},
    store::blob_path,
    tenants::{require_tenant, stored_bytes, within},
};

type Result<T> = std::result::Result<T, CatalogError>;

impl Catalog {
    /// Stores the bytes and makes the tenant an owner of them. Storing them again changes nothing,
    /// or mends a blob that was damaged.
    ///
    /// # Errors
    ///
    /// [`CatalogError::LimitExceeded`] for `stored_bytes_max`, [`CatalogError::NotFound`] for the
    /// tenant, [`CatalogError::DiskFull`].
    pub async fn put_blob(
        &self,
        tenant: &TenantName,
        bytes: Bytes,
        stored_bytes_max: u64,
    ) -> Result<Digest> {
        let (catalog, tenant) = (self.clone(), tenant.clone());
        self.to_the_end(async move { catalog.put(&tenant, bytes, stored_bytes_max).await }).await
    }

    /// The size of a blob that the tenant has sent itself. Asking keeps the blob for a while from
    /// being swept.
    pub async fn has_blob(&self, tenant: &TenantName, digest: &Digest) -> Result<Option<u64>> {
        let mut read = self.inner.store.read().await?;
        let row = sqlx::query(
            "SELECT b.size, o.touched_ms FROM blob_owners o JOIN blobs b ON b.digest = o.digest
              WHERE o.tenant = ? AND o.digest = ?",
        )
        .bind(tenant.as_str())
        .bind(digest_bytes(digest))
        .fetch_optional(&mut *read)
        .await?;
        drop(read);
        let Some(row) = row else { return Ok(None) };
        let (now_ms, touched_ms) = (self.inner.now_ms(), row.try_get::<i64, _>(1)?);
        // Asking often must not write often; an eighth of the lifetime is near enough.
        if now_ms - touched_ms > self.inner.config.unreferenced_blob_ttl_ms / 8
            && !self.touch(tenant, digest, now_ms).await?
        {
            return Ok(None);
        }
        Ok(Some(count(row.try_get(0)?)))
    }

    /// The bytes of a blob, checked against the digest. Those of a large one are mapped from its file, so that they
    /// take no memory that the system cannot take back; others are read whole.
    ///
    /// This does not ask whose blob it is: the digest must come from a version, or from
    /// [`has_blob`](Self::has_blob).
    ///
    /// # Errors
    ///
    /// [`CatalogError::Corrupt`] when the bytes are no longer the ones stored.
    pub async fn blob(&self, digest: &Digest) -> Result<Bytes> {
        let wanted = *digest;
        let found = match self.inner.store.objects.get(&blob_path(digest)).await {
            Ok(found) => bytes_of(found).await?,
            Err(object_store::Error::NotFound { .. }) => return Err(self.no_file(digest).await?),
            Err(error) => return Err(error.into()),
        };
        blocking(move || match Digest::of(&found) {
            got if got == wanted => Ok(found),
            got => {
                let found = format!("its {} bytes have {got}", found.len());
                Err(CatalogError::Corrupt { digest: wanted, found })
            }
        })
        .await
    }

    async fn put(
        &self,
        tenant: &TenantName,
        bytes: Bytes,
        stored_bytes_max: u64,
    ) -> Result<Digest> {
        let (digest, bytes) = blocking(move || Ok((Digest::of(&bytes), bytes))).await?;
        let size = bytes.len() as u64;
        let _lock = self.inner.blob_locks.lock(digest.as_bytes()).await;
        let owned = self.has_blob(tenant, &digest).await?.is_some();
        if owned && self.blob(&digest).await.is_ok() {
            return Ok(digest);
        }
        if !owned {
            let mut read = self.inner.store.read().await?;
            require_tenant(&mut read, tenant).await?;
            let stored = stored_bytes(&mut read, tenant).await?;
            within("stored_bytes_max", stored_bytes_max, stored.saturating_add(size))?;
        }
        // Written anew even where another tenant's bytes are there already: else the time taken
        // would tell that they are. The file appears whole under its name, or not at all.
        self.inner.store.objects.put(&blob_path(&digest), bytes.into()).await?;
        self.inner.step("blob: stored")?;
        let recorded = self.record_blob(tenant, &digest, size, stored_bytes_max).await;
        if recorded.is_err() {
            self.forget_unrecorded(&digest).await?;
        }
        recorded?;
        self.inner.step("blob: recorded")?;
        Ok(digest)
    }

    /// Writes the rows of a blob whose file is there. The limit is checked once more, since other
    /// blobs of the tenant may have come meanwhile.
    async fn record_blob(
        &self,
        tenant: &TenantName,
        digest: &Digest,
        size: u64,
        stored_bytes_max: u64,
    ) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        if own_blob(&mut write, tenant, digest, size, self.inner.now_ms()).await? {
            let stored = stored_bytes(&mut write, tenant).await?;
            within("stored_bytes_max", stored_bytes_max, stored)?;
        }
        Ok(write.commit().await?)
    }

    /// Removes the file of a blob that no row knows of. The caller holds the blob's lock.
    pub(crate) async fn forget_unrecorded(&self, digest: &Digest) -> Result<bool> {
        if self.is_recorded(digest).await? {
            return Ok(false);
        }
        match self.inner.store.objects.delete(&blob_path(digest)).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn is_recorded(&self, digest: &Digest) -> Result<bool> {
        let mut read = self.inner.store.read().await?;
        let row = sqlx::query("SELECT 1 FROM blobs WHERE digest = ?")
            .bind(digest_bytes(digest))
            .fetch_optional(&mut *read)
            .await?;
        Ok(row.is_some())
    }

    /// Renews the lifetime of the tenant's blob; false if it was swept meanwhile.
    async fn touch(&self, tenant: &TenantName, digest: &Digest, now_ms: i64) -> Result<bool> {
        let mut write = self.inner.store.write().await?;
        let touched =
            sqlx::query("UPDATE blob_owners SET touched_ms = ? WHERE tenant = ? AND digest = ?")
                .bind(now_ms)
                .bind(tenant.as_str())
                .bind(digest_bytes(digest))
                .execute(&mut *write)
                .await?;
        write.commit().await?;
        Ok(touched.rows_affected() == 1)
    }

    /// Why a blob has no file: it never was, or it is lost.
    async fn no_file(&self, digest: &Digest) -> Result<CatalogError> {
        Ok(if self.is_recorded(digest).await? {
            let found = "its file is gone".to_owned();
            CatalogError::Corrupt { digest: *digest, found }
        } else {
            CatalogError::not_found(format!("blob {digest}"))
        })
    }
}

async fn bytes_of(found: GetResult) -> Result<Bytes> {
    if let GetResultPayload::File(file, _) = &found.payload
        && found.meta.size >= mapped::BYTES_MIN
        && let Ok(file) = file.try_clone()
    {
        return blocking(move || {
            mapped::map(&file).map_err(|error| CatalogError::io("mapping a blob", error))
        })
        .await;
    }
    Ok(found.bytes().await?)
}

/// Writes the rows of a blob; false if the tenant owned it before.
pub(crate) async fn own_blob(
    write: &mut SqliteConnection,
    tenant: &TenantName,
    digest: &Digest,
    size: u64,
    now_ms: i64,
) -> Result<bool> {
    sqlx::query(
        "INSERT INTO blobs (digest, size, created_ms) VALUES (?, ?, ?)
             ON CONFLICT (digest) DO NOTHING",
    )
    .bind(digest_bytes(digest))
    .bind(column(size))
    .bind(now_ms)
    .execute(&mut *write)
    .await?;
    let owned = sqlx::query(
        "INSERT INTO blob_owners (tenant, digest, touched_ms) VALUES (?, ?, ?)
             ON CONFLICT (tenant, digest) DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(digest_bytes(digest))
    .bind(now_ms)
    .execute(&mut *write)
    .await?;
    if owned.rows_affected() == 0 {
        sqlx::query("UPDATE blob_owners SET touched_ms = ? WHERE tenant = ? AND digest = ?")
            .bind(now_ms)
            .bind(tenant.as_str())
            .bind(digest_bytes(digest))
            .execute(&mut *write)
            .await?;
    }
    Ok(owned.rows_affected() == 1)
}
