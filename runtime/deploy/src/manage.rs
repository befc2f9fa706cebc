//! Changes to models that are served. Each is durable first and visible then.

use std::collections::HashSet;
use std::sync::Arc;

use innkeeper_catalog::{
    AliasName, Catalog, CatalogError, ModelKey, ModelRecord, Policy, Sharing, TenantName,
    VersionName,
};
use innkeeper_predict::{Endpoint, NotFound, PredictError};

use crate::bundle::Manifest;
use crate::stock::blocking;
use crate::{Compatibility, DeployError, Deployer};

impl Deployer {
    /// Deletes a version. Predictions that run on it end as they would have.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], and [`CatalogError::Conflict`] while an alias stands for it or tries it.
    pub async fn delete_version(
        &self,
        key: &ModelKey,
        version: &VersionName,
    ) -> Result<(), DeployError> {
        let version = version.clone();
        self.change(key, |catalog, key| async move { catalog.delete_version(&key, &version).await })
            .await
    }

    /// Deletes a model with all its versions and aliases.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub async fn delete_model(&self, key: &ModelKey) -> Result<(), DeployError> {
        self.change(key, |catalog, key| async move { catalog.delete_model(&key).await }).await
    }

    /// Lets an alias stand for a version, in one step for whoever calls by the alias. What is tried behind it is tried
    /// no more.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::Conflict`] when a version has that name, and
    /// [`DeployError::Breaks`].
    pub async fn set_alias(
        &self,
        key: &ModelKey,
        alias: &AliasName,
        version: &VersionName,
        compatibility: Compatibility,
    ) -> Result<(), DeployError> {
        let (alias, version) = (alias.clone(), version.clone());
        self.change(key, move |catalog, key| async move {
            compatibility.require(&catalog, &key, &alias, &version).await?;
            Ok::<_, DeployError>(catalog.set_alias(&key, &alias, &version).await?)
        })
        .await
    }

    /// Deletes an alias.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub async fn delete_alias(&self, key: &ModelKey, alias: &AliasName) -> Result<(), DeployError> {
        let alias = alias.clone();
        self.change(key, |catalog, key| async move { catalog.delete_alias(&key, &alias).await })
            .await
    }

    /// Says who but its owner may call a model.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    pub async fn set_sharing(&self, key: &ModelKey, sharing: &Sharing) -> Result<(), DeployError> {
        let sharing = sharing.clone();
        self.change(key, |catalog, key| async move { catalog.set_sharing(&key, &sharing).await })
            .await
    }

    /// Sets which versions of a model are served and kept; gives back how many were removed.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`], [`CatalogError::LimitExceeded`].
    pub async fn set_policy(&self, key: &ModelKey, policy: &Policy) -> Result<u64, DeployError> {
        let policy = policy.clone();
        self.change(key, |catalog, key| async move { catalog.set_policy(&key, &policy).await })
            .await
    }

    /// Brings a model's code and assets into memory, those of the version that serves when a request names none, and
    /// serves it if it was unloaded.
    ///
    /// # Errors
    /// [`PredictError::NotFound`], and whatever keeps the version from being loaded; then the model stays as it was.
    pub async fn load(&self, key: &ModelKey) -> Result<(), PredictError> {
        let _turn = self.changing().take(key.clone()).await;
        let endpoint = self.own_endpoint(key)?;
        self.predictor().load(endpoint.kept(None)?).await?;
        self.predictor().install(Endpoint { is_unloaded: false, ..Endpoint::clone(&endpoint) });
        Ok(())
    }

    /// Lets go of a model's instances, code and assets, and serves it no more until it is loaded again or the host
    /// starts anew. Predictions that run go to their end.
    ///
    /// # Errors
    /// [`NotFound`].
    pub async fn unload(&self, key: &ModelKey) -> Result<(), NotFound> {
        let _turn = self.changing().take(key.clone()).await;
        let endpoint = self.own_endpoint(key)?;
        self.predictor().install(Endpoint { is_unloaded: true, ..Endpoint::clone(&endpoint) });
        endpoint.versions.iter().for_each(|deployment| deployment.retire());
        Ok(())
    }

    fn own_endpoint(&self, key: &ModelKey) -> Result<Arc<Endpoint>, NotFound> {
        self.predictor().endpoint(&key.owner, key.owner.as_str(), key.name.as_str())
    }

    /// One change of a model: in the catalog, then in what is served. It goes on to the end when the caller goes away,
    /// since a change that is in the catalog alone would come up at the next start.
    pub(crate) async fn change<T, E, F>(
        &self,
        key: &ModelKey,
        change: impl FnOnce(Catalog, ModelKey) -> F,
    ) -> Result<T, DeployError>
    where
        T: Send + 'static,
        E: Into<DeployError> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let (this, key) = (self.clone(), key.clone());
        let change = change(self.stock().catalog.clone(), key.clone());
        let whole = async move {
            let _turn = this.changing().take(key.clone()).await;
            let changed = change.await.map_err(Into::into)?;
            this.install(&key).await?;
            Ok(changed)
        };
        let panicked = |_| DeployError::Host("a change panicked; the host's log says where".into());
        tokio::spawn(whole).await.map_err(panicked)?
    }

    /// Serves a model as the catalog has it now.
    async fn install(&self, key: &ModelKey) -> Result<(), DeployError> {
        let record = match self.stock().catalog.model(key).await {
            Ok(record) => record,
            Err(CatalogError::NotFound { .. }) => {
                self.predictor().remove(key);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let owner: &TenantName = &key.owner;
        let present = self.predictor().endpoint(owner, owner.as_str(), key.name.as_str()).ok();
        let (endpoint, failed) = self.endpoint(&record, present.as_deref());
        for (version, why) in failed {
            tracing::error!(model = %key, %version, %why, "a version cannot be served");
        }
        self.predictor().install(endpoint);
        Ok(())
    }

    /// Removes the compiled code that no version needs.
    pub(crate) async fn forget_unused_code(
        &self,
        records: &[ModelRecord],
    ) -> Result<(), DeployError> {
        let versions = records.iter().flat_map(|record| &record.versions);
        let component = |manifest: Manifest| manifest.component.digest.hex();
        let used: HashSet<String> = versions
            .filter_map(|version| Manifest::parse(version.manifest.as_bytes()).ok())
            .map(component)
            .collect();
        let artefacts = Arc::clone(&self.stock().artefacts);
        let swept = blocking(move || artefacts.retain(|component| used.contains(component)));
        if let Err(error) = swept.await? {
            tracing::warn!(%error, "compiled code that is not needed any more could not be removed");
        }
        Ok(())
    }
}
