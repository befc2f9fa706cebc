//! What may be changed about a model: where its aliases point, and who may call it.

use sqlx::{Sqlite, Transaction};

use crate::{
    AliasName, Catalog, CatalogError, ModelKey, Sharing, TenantName, VersionName,
    models::{no_model, no_version},
    rollouts::{AliasAct, Change, find, stands_for},
    row::count,
    tenants::{require_tenant, within},
};

type Result<T> = std::result::Result<T, CatalogError>;
type Write = Transaction<'static, Sqlite>;

/// Aliases of one model: `stable`, `canary` and the like, a handful in practice.
const ALIASES_MAX: u64 = 100;
/// Tenants that one model is shared with by name; beyond, it is shared with all.
const SHARES_MAX: u64 = 1000;

impl Catalog {
    /// Points the alias at the version in one step, whether it is new or pointed elsewhere before. What was tried
    /// behind it is tried no more.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] when there is no such version, and [`CatalogError::Conflict`]
    /// when a version has the name of the alias.
    pub async fn set_alias(
        &self,
        key: &ModelKey,
        alias: &AliasName,
        version: &VersionName,
    ) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        self.move_alias(&mut write, key, alias, version).await?;
        self.inner.step("alias: written")?;
        write.commit().await?;
        self.inner.step("alias: committed")
    }

    /// Deletes an alias; the version it stood for stays.
    pub async fn delete_alias(&self, key: &ModelKey, alias: &AliasName) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        let before = stands_for(&mut write, key, alias).await?;
        // The alias and its rollout go with its name.
        sqlx::query(
            "DELETE FROM model_names WHERE owner = ? AND model = ? AND name = ? AND kind = 'alias'",
        )
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(alias.as_str())
        .execute(&mut *write)
        .await?;
        let act = AliasAct::Deleted;
        let change =
            Change { act, alias, version: None, before: Some(&before), candidate: None, why: "" };
        self.note(&mut write, key, change).await?;
        Ok(write.commit().await?)
    }

    /// Sets who but the owner may call the model.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] for the model or for a tenant named: a right given to nobody
    /// would wait for whoever takes that name later.
    pub async fn set_sharing(&self, key: &ModelKey, sharing: &Sharing) -> Result<()> {
        let (kind, tenants) = match sharing {
            Sharing::Private => ("private", &[][..]),
            Sharing::Tenants(tenants) => ("tenants", &tenants[..]),
            Sharing::All => ("all", &[][..]),
        };
        within("shares_max", SHARES_MAX, tenants.len() as u64)?;
        let mut write = self.inner.store.write().await?;
        let set = sqlx::query("UPDATE models SET sharing = ? WHERE owner = ? AND model = ?")
            .bind(kind)
            .bind(key.owner.as_str())
            .bind(key.name.as_str())
            .execute(&mut *write)
            .await?;
        if set.rows_affected() == 0 {
            return Err(no_model(key));
        }
        replace_shares(&mut write, key, tenants).await?;
        self.inner.step("sharing: written")?;
        Ok(write.commit().await?)
    }

    /// Points the alias at the version within a transaction.
    pub(crate) async fn move_alias(
        &self,
        write: &mut Write,
        key: &ModelKey,
        alias: &AliasName,
        version: &VersionName,
    ) -> Result<()> {
        if name_kind(write, key, version.as_str()).await? != Some(Kind::Version) {
            return Err(no_version(key, version));
        }
        match name_kind(write, key, alias.as_str()).await? {
            Some(Kind::Alias) => {}
            None => insert_alias_name(write, key, alias).await?,
            Some(Kind::Version) => {
                let what = format!("alias {alias} of model {key}");
                let why = "the model has a version of that name; choose another name".to_owned();
                return Err(CatalogError::Conflict { what, why });
            }
        }
        let before = find(write, key, alias).await?;
        point(write, key, alias, version).await?;
        let (act, before) = (AliasAct::Set, before.as_ref());
        let version = Some(version);
        let change = Change { act, alias, version, before, candidate: None, why: "" };
        self.note(write, key, change).await
    }
}

/// Points the alias at the version, and ends what was tried behind it.
pub(crate) async fn point(
    write: &mut Write,
    key: &ModelKey,
    alias: &AliasName,
    version: &VersionName,
) -> Result<()> {
    sqlx::query("DELETE FROM rollouts WHERE owner = ? AND model = ? AND alias = ?")
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(alias.as_str())
        .execute(&mut **write)
        .await?;
    sqlx::query(
        "INSERT INTO aliases (owner, model, alias, version) VALUES (?, ?, ?, ?)
             ON CONFLICT (owner, model, alias) DO UPDATE SET version = excluded.version",
    )
    .bind(key.owner.as_str())
    .bind(key.name.as_str())
    .bind(alias.as_str())
    .bind(version.as_str())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// What a name of a model names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Version,
    Alias,
}

/// What `name` names in the model, if anything.
pub(crate) async fn name_kind(
    write: &mut Write,
    key: &ModelKey,
    name: &str,
) -> Result<Option<Kind>> {
    let kind: Option<String> = sqlx::query_scalar(
        "SELECT kind FROM model_names WHERE owner = ? AND model = ? AND name = ?",
    )
    .bind(key.owner.as_str())
    .bind(key.name.as_str())
    .bind(name)
    .fetch_optional(&mut **write)
    .await?;
    Ok(kind.map(|kind| if kind == "alias" { Kind::Alias } else { Kind::Version }))
}

async fn insert_alias_name(write: &mut Write, key: &ModelKey, alias: &AliasName) -> Result<()> {
    let aliases = sqlx::query_scalar("SELECT count(*) FROM aliases WHERE owner = ? AND model = ?")
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .fetch_one(&mut **write)
        .await?;
    within("aliases_max", ALIASES_MAX, count(aliases) + 1)?;
    sqlx::query("INSERT INTO model_names (owner, model, name, kind) VALUES (?, ?, ?, 'alias')")
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(alias.as_str())
        .execute(&mut **write)
        .await?;
    Ok(())
}

async fn replace_shares(write: &mut Write, key: &ModelKey, tenants: &[TenantName]) -> Result<()> {
    sqlx::query("DELETE FROM model_shares WHERE owner = ? AND model = ?")
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .execute(&mut **write)
        .await?;
    for tenant in tenants {
        require_tenant(write, tenant).await?;
        sqlx::query(
            "INSERT INTO model_shares (owner, model, tenant) VALUES (?, ?, ?)
                 ON CONFLICT (owner, model, tenant) DO NOTHING",
        )
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(tenant.as_str())
        .execute(&mut **write)
        .await?;
    }
    Ok(())
}
