//! Tenants, their limits, and what they hold.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::{
    Catalog, CatalogError, TenantName, Usage,
    meters::take_slot,
    row::{count, parsed},
};

type Result<T> = std::result::Result<T, CatalogError>;

/// Limits are a few numbers; this keeps a mistake out of the database.
const LIMITS_BYTES_MAX: u64 = 64 * 1024;

impl Catalog {
    /// Makes a tenant.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Conflict`] when there is one of that name, [`CatalogError::LimitExceeded`] for `tenants_max`.
    pub async fn create_tenant(&self, tenant: &TenantName) -> Result<()> {
        let made = sqlx::query(
            "INSERT INTO tenants (name, created_ms) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(self.inner.now_ms());
        let mut write = self.inner.store.write().await?;
        if made.execute(&mut *write).await?.rows_affected() == 0 {
            let why = "a tenant of that name exists; choose another".to_owned();
            return Err(CatalogError::Conflict { what: format!("tenant {tenant}"), why });
        }
        let slot = take_slot(&mut write, tenant).await?;
        write.commit().await?;
        self.inner.meters.assign(tenant.clone(), slot);
        Ok(())
    }

    /// The names of all tenants in alphabetical order.
    pub async fn list_tenants(&self) -> Result<Vec<TenantName>> {
        let mut read = self.inner.store.read().await?;
        let names: Vec<String> = sqlx::query_scalar("SELECT name FROM tenants ORDER BY name")
            .fetch_all(&mut *read)
            .await?;
        names.iter().map(|name| parsed(name)).collect()
    }

    /// The limits set for the tenant, or `None` where the host's defaults hold.
    pub async fn tenant_limits(&self, tenant: &TenantName) -> Result<Option<String>> {
        let mut read = self.inner.store.read().await?;
        let limits: Option<Option<String>> =
            sqlx::query_scalar("SELECT limits FROM tenants WHERE name = ?")
                .bind(tenant.as_str())
                .fetch_optional(&mut *read)
                .await?;
        limits.ok_or_else(|| no_tenant(tenant))
    }

    /// Sets the tenant's limits, which are JSON that the catalog does not read.
    pub async fn set_tenant_limits(&self, tenant: &TenantName, limits: &str) -> Result<()> {
        within("tenant_limits_bytes_max", LIMITS_BYTES_MAX, limits.len() as u64)?;
        let mut write = self.inner.store.write().await?;
        let set = sqlx::query("UPDATE tenants SET limits = ? WHERE name = ?")
            .bind(limits)
            .bind(tenant.as_str())
            .execute(&mut *write)
            .await?;
        if set.rows_affected() == 0 {
            return Err(no_tenant(tenant));
        }
        Ok(write.commit().await?)
    }

    /// What the tenant holds now.
    pub async fn usage(&self, tenant: &TenantName) -> Result<Usage> {
        let mut read = self.inner.store.read().await?;
        require_tenant(&mut read, tenant).await?;
        let (models, versions, uploads) = sqlx::query_as::<Sqlite, (i64, i64, i64)>(
            "SELECT (SELECT count(*) FROM models WHERE owner = ?1),
                    (SELECT count(*) FROM versions WHERE owner = ?1),
                    (SELECT count(*) FROM uploads WHERE tenant = ?1)",
        )
        .bind(tenant.as_str())
        .fetch_one(&mut *read)
        .await?;
        Ok(Usage {
            stored_bytes: stored_bytes(&mut read, tenant).await?,
            versions: count(versions),
            models: count(models),
            uploads: count(uploads),
        })
    }
}

/// The bytes that count towards the tenant's `stored_bytes_max`.
pub(crate) async fn stored_bytes(db: &mut SqliteConnection, tenant: &TenantName) -> Result<u64> {
    let stored = sqlx::query_scalar::<Sqlite, i64>(
        "SELECT (SELECT coalesce(sum(b.size), 0) FROM blob_owners o
                   JOIN blobs b ON b.digest = o.digest WHERE o.tenant = ?1)
              + (SELECT coalesce(sum(received), 0) FROM uploads WHERE tenant = ?1)
              + (SELECT coalesce(sum(octet_length(manifest) + octet_length(facts)), 0)
                   FROM versions WHERE owner = ?1)",
    )
    .bind(tenant.as_str())
    .fetch_one(db)
    .await?;
    Ok(count(stored))
}

/// Fails unless the tenant exists.
pub(crate) async fn require_tenant(
    db: &mut Transaction<'static, Sqlite>,
    tenant: &TenantName,
) -> Result<()> {
    sqlx::query("SELECT 1 FROM tenants WHERE name = ?")
        .bind(tenant.as_str())
        .fetch_optional(&mut **db)
        .await?
        .map(|_| ())
        .ok_or_else(|| no_tenant(tenant))
}

/// Fails if `got` is over the limit.
pub(crate) fn within(limit: &'static str, max: u64, got: u64) -> Result<()> {
    if got > max { Err(CatalogError::LimitExceeded { limit, max, got }) } else { Ok(()) }
}

fn no_tenant(tenant: &TenantName) -> CatalogError {
    CatalogError::not_found(format!("tenant {tenant}"))
}
