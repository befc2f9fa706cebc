//! Reading models back.

use std::collections::{BTreeMap, HashMap};

use sqlx::{QueryBuilder, Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError, Digest, ModelKey, ModelRecord, Policy, Sharing, VersionName,
    VersionRecord,
    policies::policy,
    rollouts::rollout,
    row::{digest, parsed},
};

type Result<T> = std::result::Result<T, CatalogError>;
type Read = Transaction<'static, Sqlite>;

impl VersionRecord {
    /// Checks that the manifest still has the digest it was published under.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Damaged`] when it has another.
    pub fn verify(&self) -> Result<()> {
        let got = Digest::of(self.manifest.as_bytes());
        if got == self.digest {
            return Ok(());
        }
        let what = format!(
            "the manifest of {} {} has {got}, but was published with {}",
            self.model, self.version, self.digest
        );
        Err(CatalogError::Damaged { what })
    }
}

impl Catalog {
    /// Every model of every tenant, in the order of their keys. Meant for start-up.
    pub async fn models(&self) -> Result<Vec<ModelRecord>> {
        let mut read = self.inner.store.read().await?;
        load(&mut read, None).await
    }

    /// One model.
    pub async fn model(&self, key: &ModelKey) -> Result<ModelRecord> {
        let mut read = self.inner.store.read().await?;
        load(&mut read, Some(key)).await?.pop().ok_or_else(|| no_model(key))
    }

    /// One version of a model.
    pub async fn version(&self, key: &ModelKey, version: &VersionName) -> Result<VersionRecord> {
        let model = self.model(key).await?;
        let found = model.versions.into_iter().find(|found| found.version == *version);
        found.ok_or_else(|| no_version(key, version))
    }
}

pub(crate) fn no_model(key: &ModelKey) -> CatalogError {
    CatalogError::not_found(format!("model {key}"))
}

pub(crate) fn no_version(key: &ModelKey, version: &VersionName) -> CatalogError {
    CatalogError::not_found(format!("version {version} of model {key}"))
}

/// The models, or the one wanted, table by table; `read` is one moment, so the tables fit together.
async fn load(read: &mut Read, wanted: Option<&ModelKey>) -> Result<Vec<ModelRecord>> {
    let mut models = BTreeMap::new();
    for row in rows(read, "SELECT * FROM models", wanted, "owner, model").await? {
        let key = key(&row)?;
        models.insert(key.clone(), model(key, &row)?);
    }
    for row in rows(read, "SELECT * FROM model_shares", wanted, "tenant").await? {
        if let Some(model) = models.get_mut(&key(&row)?)
            && let Sharing::Tenants(tenants) = &mut model.sharing
        {
            tenants.push(parsed(row.try_get("tenant")?)?);
        }
    }
    let mut blobs: HashMap<(ModelKey, VersionName), Vec<Digest>> = HashMap::new();
    for row in rows(read, "SELECT * FROM version_blobs", wanted, "position").await? {
        let version = parsed(row.try_get("version")?)?;
        blobs.entry((key(&row)?, version)).or_default().push(digest(row.try_get("digest")?)?);
    }
    for row in rows(read, "SELECT * FROM versions", wanted, "sequence").await? {
        let mut version = version(&row)?;
        let blobs = blobs.remove(&(version.model.clone(), version.version.clone()));
        version.blobs = blobs.unwrap_or_default();
        if let Some(model) = models.get_mut(&version.model) {
            model.versions.push(version);
        }
    }
    for row in rows(read, "SELECT * FROM aliases", wanted, "alias").await? {
        let alias = (parsed(row.try_get("alias")?)?, parsed(row.try_get("version")?)?);
        if let Some(model) = models.get_mut(&key(&row)?) {
            model.aliases.push(alias);
        }
    }
    for row in rows(read, "SELECT * FROM rollouts", wanted, "alias").await? {
        if let Some(model) = models.get_mut(&key(&row)?) {
            model.rollouts.push(rollout(&row)?);
        }
    }
    for row in rows(read, "SELECT * FROM policies", wanted, "model").await? {
        if let Some(model) = models.get_mut(&key(&row)?) {
            model.policy = policy(&row)?;
        }
    }
    Ok(models.into_values().collect())
}

async fn rows(
    read: &mut Read,
    select: &'static str,
    wanted: Option<&ModelKey>,
    order: &'static str,
) -> Result<Vec<SqliteRow>> {
    let mut query = QueryBuilder::<Sqlite>::new(select);
    if let Some(key) = wanted {
        query.push(" WHERE owner = ").push_bind(key.owner.to_string());
        query.push(" AND model = ").push_bind(key.name.to_string());
    }
    query.push(" ORDER BY ").push(order);
    Ok(query.build().fetch_all(&mut **read).await?)
}

fn key(row: &SqliteRow) -> Result<ModelKey> {
    Ok(ModelKey { owner: parsed(row.try_get("owner")?)?, name: parsed(row.try_get("model")?)? })
}

fn model(key: ModelKey, row: &SqliteRow) -> Result<ModelRecord> {
    let sharing = match row.try_get("sharing")? {
        "private" => Sharing::Private,
        "tenants" => Sharing::Tenants(Vec::new()),
        "all" => Sharing::All,
        other => {
            return Err(CatalogError::Damaged { what: format!("model {key} is shared {other:?}") });
        }
    };
    let created_ms = row.try_get("created_ms")?;
    let (aliases, rollouts, versions) = (Vec::new(), Vec::new(), Vec::new());
    let policy = Policy::default();
    Ok(ModelRecord { key, sharing, aliases, rollouts, policy, versions, created_ms })
}

/// The version without its blobs.
fn version(row: &SqliteRow) -> Result<VersionRecord> {
    Ok(VersionRecord {
        model: key(row)?,
        version: parsed(row.try_get("version")?)?,
        digest: digest(row.try_get("digest")?)?,
        manifest: row.try_get("manifest")?,
        facts: row.try_get("facts")?,
        blobs: Vec::new(),
        created_ms: row.try_get("created_ms")?,
    })
}
