//! Versions come and go, each in one transaction.

use sqlx::{Row, Sqlite, Transaction};

use crate::{
    Catalog, CatalogError, Digest, ModelKey, NewVersion, Published, VersionName,
    aliases::name_kind,
    models::{no_model, no_version},
    policies::retain,
    row::{bytes, column, count, digest},
    tenants::{require_tenant, stored_bytes, within},
};

type Result<T> = std::result::Result<T, CatalogError>;
type Write = Transaction<'static, Sqlite>;

/// A manifest lists a few dozen files with their digests; facts hold a signature.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;
const FACTS_BYTES_MAX: u64 = 1024 * 1024;
const VERSION_BLOBS_MAX: u64 = 4096;

impl Catalog {
    /// Publishes a version, wholly or not at all.
    ///
    /// Publishing the same digest under the same name again changes nothing about the version; the
    /// aliases asked for are set all the same. Older versions that the model's policy does not keep
    /// go in the same step.
    ///
    /// # Errors
    ///
    /// * [`CatalogError::Conflict`] when the version exists with another digest, when its name is
    ///   an alias, or when one of the aliases is the name of a version.
    /// * [`CatalogError::NotFound`] when the owner, or a blob among those it has sent, does not
    ///   exist.
    /// * [`CatalogError::WrongDigest`] when the digest is not the manifest's.
    /// * [`CatalogError::LimitExceeded`] for `versions_max`, `models_max`, `stored_bytes_max` and
    ///   the sizes of what comes along.
    pub async fn publish(&self, new: &NewVersion) -> Result<Published> {
        check(new)?;
        let mut write = self.inner.store.write().await?;
        require_tenant(&mut write, &new.model.owner).await?;
        let published = match published_digest(&mut write, new).await? {
            Some(found) if found == new.digest => Published::Same,
            Some(found) => return Err(other_digest(new, found)),
            None => {
                self.make_model(&mut write, new).await?;
                self.insert_version(&mut write, new).await?;
                insert_blobs(&mut write, new).await?;
                let stored = stored_bytes(&mut write, &new.model.owner).await?;
                within("stored_bytes_max", new.limits.stored_bytes_max, stored)?;
                Published::New
            }
        };
        for alias in &new.aliases {
            self.move_alias(&mut write, &new.model, alias, &new.version).await?;
        }
        retain(&mut write, &new.model).await?;
        self.inner.step("publish: written")?;
        write.commit().await?;
        self.inner.step("publish: committed")?;
        Ok(published)
    }

    /// Deletes a version. The model stays, even without any.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Conflict`] when an alias stands for it or tries it, and [`CatalogError::NotFound`].
    pub async fn delete_version(&self, key: &ModelKey, version: &VersionName) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        let alias: Option<String> = sqlx::query_scalar(
            "SELECT alias FROM aliases WHERE owner = ?1 AND model = ?2 AND version = ?3
              UNION SELECT alias FROM rollouts WHERE owner = ?1 AND model = ?2 AND version = ?3
              ORDER BY alias LIMIT 1",
        )
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(version.as_str())
        .fetch_optional(&mut *write)
        .await?;
        if let Some(alias) = alias {
            let what = format!("version {version} of model {key}");
            let why = format!(
                "the alias {alias} stands for it, or tries it; move, delete or roll back the alias first"
            );
            return Err(CatalogError::Conflict { what, why });
        }
        // The version and its references to blobs go with its name.
        let deleted = sqlx::query(
            "DELETE FROM model_names
              WHERE owner = ? AND model = ? AND name = ? AND kind = 'version'",
        )
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(version.as_str())
        .execute(&mut *write)
        .await?;
        if deleted.rows_affected() == 0 {
            return Err(no_version(key, version));
        }
        self.inner.step("delete version: written")?;
        Ok(write.commit().await?)
    }

    /// Deletes a model with its versions, aliases and sharing.
    pub async fn delete_model(&self, key: &ModelKey) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        // Aliases first, since they hold on to versions; the rest goes with the model.
        sqlx::query("DELETE FROM aliases WHERE owner = ? AND model = ?")
            .bind(key.owner.as_str())
            .bind(key.name.as_str())
            .execute(&mut *write)
            .await?;
        let deleted = sqlx::query("DELETE FROM models WHERE owner = ? AND model = ?")
            .bind(key.owner.as_str())
            .bind(key.name.as_str())
            .execute(&mut *write)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(no_model(key));
        }
        self.inner.step("delete model: written")?;
        Ok(write.commit().await?)
    }

    async fn make_model(&self, write: &mut Write, new: &NewVersion) -> Result<()> {
        let made = sqlx::query(
            "INSERT INTO models (owner, model, sharing, created_ms) VALUES (?, ?, 'private', ?)
                 ON CONFLICT (owner, model) DO NOTHING",
        )
        .bind(new.model.owner.as_str())
        .bind(new.model.name.as_str())
        .bind(self.inner.now_ms())
        .execute(&mut **write)
        .await?;
        if made.rows_affected() == 0 {
            return Ok(());
        }
        let models = sqlx::query_scalar("SELECT count(*) FROM models WHERE owner = ?")
            .bind(new.model.owner.as_str())
            .fetch_one(&mut **write)
            .await?;
        within("models_max", new.limits.models_max, count(models))
    }

    async fn insert_version(&self, write: &mut Write, new: &NewVersion) -> Result<()> {
        let row = sqlx::query(
            "SELECT count(*), coalesce(max(sequence), 0) FROM versions
              WHERE owner = ? AND model = ?",
        )
        .bind(new.model.owner.as_str())
        .bind(new.model.name.as_str())
        .fetch_one(&mut **write)
        .await?;
        let (versions, sequence): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        within("versions_max", new.limits.versions_max, count(versions) + 1)?;
        insert_name(write, new).await?;
        sqlx::query(
            "INSERT INTO versions
                 (owner, model, version, sequence, digest, manifest, facts, created_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(new.model.owner.as_str())
        .bind(new.model.name.as_str())
        .bind(new.version.as_str())
        .bind(sequence + 1)
        .bind(bytes(&new.digest))
        .bind(&new.manifest)
        .bind(&new.facts)
        .bind(self.inner.now_ms())
        .execute(&mut **write)
        .await?;
        Ok(())
    }
}

/// What can be told without the database.
fn check(new: &NewVersion) -> Result<()> {
    within("manifest_bytes_max", MANIFEST_BYTES_MAX, new.manifest.len() as u64)?;
    within("facts_bytes_max", FACTS_BYTES_MAX, new.facts.len() as u64)?;
    within("version_blobs_max", VERSION_BLOBS_MAX, new.blobs.len() as u64)?;
    let got = Digest::of(new.manifest.as_bytes());
    if got == new.digest {
        Ok(())
    } else {
        Err(CatalogError::WrongDigest { wanted: new.digest, got })
    }
}

/// The digest that the version has, if it is published.
async fn published_digest(write: &mut Write, new: &NewVersion) -> Result<Option<Digest>> {
    let found: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT digest FROM versions WHERE owner = ? AND model = ? AND version = ?",
    )
    .bind(new.model.owner.as_str())
    .bind(new.model.name.as_str())
    .bind(new.version.as_str())
    .fetch_optional(&mut **write)
    .await?;
    found.map(|found| digest(&found)).transpose()
}

fn other_digest(new: &NewVersion, found: Digest) -> CatalogError {
    CatalogError::Conflict {
        what: format!("version {} of model {}", new.version, new.model),
        why: format!(
            "it is published with {found}, this is {}; a version never changes, choose a new name",
            new.digest
        ),
    }
}

async fn insert_name(write: &mut Write, new: &NewVersion) -> Result<()> {
    if name_kind(write, &new.model, new.version.as_str()).await?.is_some() {
        let what = format!("version {} of model {}", new.version, new.model);
        let why = "the model has an alias of that name; choose another name".to_owned();
        return Err(CatalogError::Conflict { what, why });
    }
    sqlx::query("INSERT INTO model_names (owner, model, name, kind) VALUES (?, ?, ?, 'version')")
        .bind(new.model.owner.as_str())
        .bind(new.model.name.as_str())
        .bind(new.version.as_str())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Refers to each blob once, and only to blobs that the owner of the model has sent.
async fn insert_blobs(write: &mut Write, new: &NewVersion) -> Result<()> {
    for (position, blob) in new.blobs.iter().enumerate() {
        let owned = sqlx::query("SELECT 1 FROM blob_owners WHERE tenant = ? AND digest = ?")
            .bind(new.model.owner.as_str())
            .bind(bytes(blob))
            .fetch_optional(&mut **write)
            .await?;
        if owned.is_none() {
            let what = format!("blob {blob} among those that tenant {} sent", new.model.owner);
            return Err(CatalogError::not_found(what));
        }
        sqlx::query(
            "INSERT INTO version_blobs (owner, model, version, position, digest)
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (owner, model, version, digest) DO NOTHING",
        )
        .bind(new.model.owner.as_str())
        .bind(new.model.name.as_str())
        .bind(new.version.as_str())
        .bind(column(position as u64))
        .bind(bytes(blob))
        .execute(&mut **write)
        .await?;
    }
    Ok(())
}
