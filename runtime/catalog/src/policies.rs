//! Which versions of a model are served, and which are kept.

use std::collections::HashSet;

use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError, ModelKey, ModelRecord, VersionName, models::no_model, row::parsed,
    tenants::within,
};

type Result<T> = std::result::Result<T, CatalogError>;
type Write = Transaction<'static, Sqlite>;

/// Versions that a list may name.
const LISTED_MAX: u64 = 1000;

/// Which versions are served. Those that an alias stands for or tries are served always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Serve {
    /// All that there are.
    #[default]
    All,
    /// So many of the newest.
    Latest(u32),
    /// These.
    Listed(Vec<VersionName>),
}

/// Which versions of a model are served and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which are served.
    pub serve: Serve,
    /// How many of the newest are kept; all without it. Those that an alias stands for or tries are kept always.
    pub keep: Option<u32>,
}

impl ModelRecord {
    /// Which versions are served, in the order of [`versions`](Self::versions).
    pub fn served(&self) -> Vec<bool> {
        let named = self.named();
        let newest = |at: usize, count: u32| at + count as usize >= self.versions.len();
        let served = self.versions.iter().enumerate().map(|(at, version)| {
            named.contains(&version.version)
                || match &self.policy.serve {
                    Serve::All => true,
                    Serve::Latest(count) => newest(at, *count),
                    Serve::Listed(listed) => listed.contains(&version.version),
                }
        });
        served.collect()
    }

    /// The versions that an alias stands for or tries.
    fn named(&self) -> HashSet<&VersionName> {
        let stand = self.aliases.iter().map(|(_, version)| version);
        stand.chain(self.rollouts.iter().map(|rollout| &rollout.candidate)).collect()
    }
}

impl Catalog {
    /// Sets which versions of a model are served and kept, and removes those that are not kept. Gives back how many
    /// were removed.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] for the model, and [`CatalogError::LimitExceeded`] for a list that is too long.
    pub async fn set_policy(&self, key: &ModelKey, policy: &Policy) -> Result<u64> {
        let (serve, latest, listed) = match &policy.serve {
            Serve::All => ("all", None, None),
            Serve::Latest(count) => ("latest", Some(*count), None),
            Serve::Listed(versions) => {
                within("listed_max", LISTED_MAX, versions.len() as u64)?;
                let names: Vec<&str> = versions.iter().map(VersionName::as_str).collect();
                ("listed", None, Some(names.join(",")))
            }
        };
        let mut write = self.inner.store.write().await?;
        sqlx::query("SELECT 1 FROM models WHERE owner = ? AND model = ?")
            .bind(key.owner.as_str())
            .bind(key.name.as_str())
            .fetch_optional(&mut *write)
            .await?
            .ok_or_else(|| no_model(key))?;
        sqlx::query(
            "INSERT INTO policies (owner, model, serve, latest, listed, keep)
             VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (owner, model) DO UPDATE SET serve = excluded.serve,
                     latest = excluded.latest, listed = excluded.listed, keep = excluded.keep",
        )
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(serve)
        .bind(latest)
        .bind(listed)
        .bind(policy.keep)
        .execute(&mut *write)
        .await?;
        let removed = retain(&mut write, key).await?;
        write.commit().await?;
        Ok(removed)
    }
}

/// Removes the versions of a model that its policy does not keep.
pub(crate) async fn retain(write: &mut Write, key: &ModelKey) -> Result<u64> {
    let removed = sqlx::query(
        "DELETE FROM model_names AS n
          WHERE n.owner = ?1 AND n.model = ?2 AND n.kind = 'version'
            AND n.name NOT IN (SELECT version FROM versions WHERE owner = ?1 AND model = ?2
                                ORDER BY sequence DESC
                                LIMIT (SELECT coalesce(max(keep), -1) FROM policies
                                        WHERE owner = ?1 AND model = ?2))
            AND n.name NOT IN (SELECT version FROM aliases WHERE owner = ?1 AND model = ?2)
            AND n.name NOT IN (SELECT version FROM rollouts WHERE owner = ?1 AND model = ?2)",
    )
    .bind(key.owner.as_str())
    .bind(key.name.as_str())
    .execute(&mut **write)
    .await?;
    Ok(removed.rows_affected())
}

/// A policy as the database gave it.
pub(crate) fn policy(row: &SqliteRow) -> Result<Policy> {
    let serve = match row.try_get("serve")? {
        "all" => Serve::All,
        "latest" => Serve::Latest(row.try_get("latest")?),
        "listed" => {
            let listed: &str = row.try_get("listed")?;
            let names = listed.split_terminator(',').map(parsed);
            Serve::Listed(names.collect::<Result<_>>()?)
        }
        other => {
            return Err(CatalogError::Damaged { what: format!("a model serves {other:?}") });
        }
    };
    Ok(Policy { serve, keep: row.try_get("keep")? })
}
