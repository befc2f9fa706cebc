//! Data to learn from: immutable, each a blob with a description.

use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError, DatasetName, Digest, TenantName,
    row::{bytes, count, digest, parsed},
    tenants::within,
};

type Result<T> = std::result::Result<T, CatalogError>;

/// A dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetRecord {
    /// Whose it is.
    pub tenant: TenantName,
    /// Its name.
    pub name: DatasetName,
    /// What the file that was sent hashes to.
    pub source: Digest,
    /// How it was read; JSON that the catalog does not read.
    pub options: String,
    /// The blob with its rows.
    pub digest: Digest,
    /// What it has; JSON that the catalog does not read.
    pub schema: String,
    /// When it was made.
    pub created_ms: i64,
}

impl Catalog {
    /// Makes a dataset of a blob of the tenant's. False if it was there with the same source, read in the same way.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Conflict`] for other bytes under the same name, [`CatalogError::LimitExceeded`],
    /// [`CatalogError::NotFound`] for the blob.
    pub async fn create_dataset(&self, new: &DatasetRecord, datasets_max: u64) -> Result<bool> {
        let mut write = self.inner.store.write().await?;
        let there =
            sqlx::query("SELECT source, options FROM datasets WHERE tenant = ? AND dataset = ?")
                .bind(new.tenant.as_str())
                .bind(new.name.as_str())
                .fetch_optional(&mut *write)
                .await?;
        if let Some(row) = there {
            let same = digest(row.try_get("source")?)? == new.source
                && row.try_get::<String, _>("options")? == new.options;
            return if same { Ok(false) } else { Err(other_bytes(&new.name)) };
        }
        let have: i64 = sqlx::query_scalar("SELECT count(*) FROM datasets WHERE tenant = ?")
            .bind(new.tenant.as_str())
            .fetch_one(&mut *write)
            .await?;
        within("datasets_max", datasets_max, count(have) + 1)?;
        sqlx::query(
            "INSERT INTO datasets (tenant, dataset, source, options, digest, schema, created_ms)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
              WHERE EXISTS (SELECT 1 FROM blob_owners WHERE tenant = ?1 AND digest = ?5)",
        )
        .bind(new.tenant.as_str())
        .bind(new.name.as_str())
        .bind(bytes(&new.source))
        .bind(&new.options)
        .bind(bytes(&new.digest))
        .bind(&new.schema)
        .bind(self.inner.now_ms())
        .execute(&mut *write)
        .await?
        .rows_affected()
        .checked_sub(1)
        .ok_or_else(|| CatalogError::not_found(format!("blob {}", new.digest)))?;
        write.commit().await?;
        Ok(true)
    }

    /// A tenant's dataset.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`].
    pub async fn dataset(&self, tenant: &TenantName, name: &DatasetName) -> Result<DatasetRecord> {
        let mut read = self.inner.store.read().await?;
        let row = sqlx::query("SELECT * FROM datasets WHERE tenant = ? AND dataset = ?")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .fetch_optional(&mut *read)
            .await?;
        row.as_ref().map_or_else(|| Err(no_dataset(name)), record)
    }

    /// A tenant's datasets by name.
    pub async fn datasets(&self, tenant: &TenantName) -> Result<Vec<DatasetRecord>> {
        let mut read = self.inner.store.read().await?;
        sqlx::query("SELECT * FROM datasets WHERE tenant = ? ORDER BY dataset")
            .bind(tenant.as_str())
            .fetch_all(&mut *read)
            .await?
            .iter()
            .map(record)
            .collect()
    }

    /// Deletes a dataset. What was learnt from it stays.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`].
    pub async fn delete_dataset(&self, tenant: &TenantName, name: &DatasetName) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        let gone = sqlx::query("DELETE FROM datasets WHERE tenant = ? AND dataset = ?")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .execute(&mut *write)
            .await?;
        if gone.rows_affected() == 0 {
            return Err(no_dataset(name));
        }
        Ok(write.commit().await?)
    }
}

fn no_dataset(name: &DatasetName) -> CatalogError {
    CatalogError::not_found(format!("dataset {name}"))
}

fn other_bytes(name: &DatasetName) -> CatalogError {
    CatalogError::Conflict {
        what: format!("dataset {name}"),
        why: "there is one of that name, made of another file or read in another way; a dataset never changes: take \
              another name, or delete it first"
            .into(),
    }
}

fn record(row: &SqliteRow) -> Result<DatasetRecord> {
    Ok(DatasetRecord {
        tenant: parsed(row.try_get("tenant")?)?,
        name: parsed(row.try_get("dataset")?)?,
        source: digest(row.try_get("source")?)?,
        options: row.try_get("options")?,
        digest: digest(row.try_get("digest")?)?,
        schema: row.try_get("schema")?,
        created_ms: row.try_get("created_ms")?,
    })
}
