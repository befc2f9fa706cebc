//! Who changed what and when, and how it ended.
//!
//! An entry is written before the change and completed after it, so that no change is without a trace: one whose
//! outcome stays `begun` was cut off by the end of the process.

use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use crate::{Catalog, CatalogError, TenantName, row::parsed};

type Result<T> = std::result::Result<T, CatalogError>;

/// A change as it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Whose the changed thing is.
    pub tenant: TenantName,
    /// Who changes it: a tenant, or `innkeeper` itself.
    pub actor: String,
    /// The id of the key; none where there is none.
    pub key_id: Option<String>,
    /// What is done, such as `alias.set`.
    pub act: String,
    /// To what, such as `digits@stable`. Never a secret.
    pub target: String,
    /// The request that asked for it, as in the log.
    pub request_id: String,
}

/// A change as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Counts up over all entries.
    pub sequence: i64,
    /// What was done by whom.
    pub entry: AuditEntry,
    /// `begun`, `done`, or the code of the error.
    pub outcome: String,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// When its outcome was known.
    pub ended_ms: Option<i64>,
}

/// For how long entries are kept, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// Milliseconds for which an entry is kept.
    pub ttl_ms: i64,
    /// Entries that are kept of each tenant.
    pub entries_max: u32,
}

impl Default for AuditLimits {
    /// A year, and more entries than a busy tenant makes in one.
    fn default() -> Self {
        Self { ttl_ms: 365 * 24 * 60 * 60 * 1000, entries_max: 100_000 }
    }
}

/// The outcome of a change that is under way.
const BEGUN: &str = "begun";

impl Catalog {
    /// Writes down that a change begins; gives back the entry's number.
    pub async fn begin_audit(&self, entry: &AuditEntry) -> Result<i64> {
        let mut write = self.inner.store.write().await?;
        let sequence = sqlx::query_scalar(
            "INSERT INTO audit
                 (sequence, tenant, actor, key_id, act, target, outcome, request_id, began_ms)
             VALUES ((SELECT coalesce(max(sequence), 0) + 1 FROM audit), ?, ?, ?, ?, ?, ?, ?, ?)
             RETURNING sequence",
        )
        .bind(entry.tenant.as_str())
        .bind(&entry.actor)
        .bind(&entry.key_id)
        .bind(&entry.act)
        .bind(&entry.target)
        .bind(BEGUN)
        .bind(&entry.request_id)
        .bind(self.inner.now_ms())
        .fetch_one(&mut *write)
        .await?;
        write.commit().await?;
        Ok(sequence)
    }

    /// Completes an entry: `done`, or the code of the error.
    pub async fn end_audit(&self, sequence: i64, outcome: &str) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        sqlx::query("UPDATE audit SET outcome = ?, ended_ms = ? WHERE sequence = ?")
            .bind(outcome)
            .bind(self.inner.now_ms())
            .bind(sequence)
            .execute(&mut *write)
            .await?;
        Ok(write.commit().await?)
    }

    /// The entries before number `before`, the newest first and at most `max`: those about one tenant's
    /// things, or all.
    pub async fn audit(
        &self,
        tenant: Option<&TenantName>,
        before: i64,
        max: u32,
    ) -> Result<Vec<AuditRecord>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM audit WHERE sequence < ");
        query.push_bind(before);
        if let Some(tenant) = tenant {
            query.push(" AND tenant = ").push_bind(tenant.to_string());
        }
        query.push(" ORDER BY sequence DESC LIMIT ").push_bind(max);
        let mut read = self.inner.store.read().await?;
        query.build().fetch_all(&mut *read).await?.iter().map(record).collect()
    }

    /// Removes entries that are too old or too many; gives back how many.
    pub(crate) async fn sweep_audit(&self) -> Result<u64> {
        let AuditLimits { ttl_ms, entries_max } = self.inner.config.audit;
        let before_ms = self.inner.now_ms().saturating_sub(ttl_ms);
        let mut write = self.inner.store.write().await?;
        let old = sqlx::query("DELETE FROM audit WHERE began_ms < ?")
            .bind(before_ms)
            .execute(&mut *write)
            .await?;
        let mut swept = old.rows_affected();
        let many: Vec<String> =
            sqlx::query_scalar("SELECT tenant FROM audit GROUP BY tenant HAVING count(*) > ?")
                .bind(entries_max)
                .fetch_all(&mut *write)
                .await?;
        for tenant in many {
            let gone = sqlx::query(
                "DELETE FROM audit WHERE tenant = ?1 AND sequence <= (
                     SELECT sequence FROM audit WHERE tenant = ?1
                      ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
            )
            .bind(tenant)
            .bind(entries_max)
            .execute(&mut *write)
            .await?;
            swept += gone.rows_affected();
        }
        write.commit().await?;
        Ok(swept)
    }
}

fn record(row: &SqliteRow) -> Result<AuditRecord> {
    Ok(AuditRecord {
        sequence: row.try_get("sequence")?,
        entry: AuditEntry {
            tenant: parsed(row.try_get("tenant")?)?,
            actor: row.try_get("actor")?,
            key_id: row.try_get("key_id")?,
            act: row.try_get("act")?,
            target: row.try_get("target")?,
            request_id: row.try_get("request_id")?,
        },
        outcome: row.try_get("outcome")?,
        began_ms: row.try_get("began_ms")?,
        ended_ms: row.try_get("ended_ms")?,
    })
}
