//! Versions that are tried behind an alias: begun, promoted, rolled back by whoever asks or by themselves.

use std::sync::Arc;

use innkeeper_catalog::{
    AliasName, AuditEntry, CatalogError, ModelKey, Rollout, RolloutId, Share, VersionName,
};
use innkeeper_predict::{Bounds, Breach};

use crate::{Compatibility, DeployError, Deployer};

/// How a version is to be tried behind an alias.
#[derive(Clone, Debug)]
pub struct RolloutRequest {
    /// The alias.
    pub alias: AliasName,
    /// The version.
    pub candidate: VersionName,
    /// The share of the alias's requests that it answers.
    pub canary: Share,
    /// The share of the alias's requests that it is shown without answering them.
    pub shadow: Share,
    /// The header by whose value a caller stays on its version.
    pub sticky: String,
    /// When it is rolled back by itself.
    pub bounds: Bounds,
    /// Whether it may break callers.
    pub compatibility: Compatibility,
}

impl Deployer {
    /// Tries a version behind an alias, or changes how it is tried.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`](innkeeper_catalog::CatalogError::NotFound) for the alias or the version,
    /// [`CatalogError::Conflict`](innkeeper_catalog::CatalogError::Conflict) when the alias stands for it, and
    /// [`DeployError::Breaks`].
    pub async fn roll_out(
        &self,
        key: &ModelKey,
        request: RolloutRequest,
    ) -> Result<(), DeployError> {
        let RolloutRequest { alias, candidate, canary, shadow, sticky, bounds, compatibility } =
            request;
        let host = |error: serde_json::Error| DeployError::Host(error.to_string());
        let bounds = serde_json::to_string(&bounds).map_err(host)?;
        let rollout = Rollout { alias, candidate, canary, shadow, sticky, bounds, created_ms: 0 };
        self.change(key, move |catalog, key| async move {
            let Rollout { alias, candidate, .. } = &rollout;
            compatibility.require(&catalog, &key, alias, candidate).await?;
            Ok::<_, DeployError>(catalog.set_rollout(&key, &rollout).await?)
        })
        .await
    }

    /// Lets the candidate take the alias over; gives back its name.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`](innkeeper_catalog::CatalogError::NotFound), and
    /// [`CatalogError::Conflict`](innkeeper_catalog::CatalogError::Conflict) when nothing is tried.
    pub async fn promote(
        &self,
        key: &ModelKey,
        alias: &AliasName,
    ) -> Result<VersionName, DeployError> {
        let alias = alias.clone();
        self.change(key, |catalog, key| async move { catalog.promote(&key, &alias).await }).await
    }

    /// Takes the candidate away, or lets the alias go back to what it stood for; gives back what it stands for now.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`](innkeeper_catalog::CatalogError::NotFound), and
    /// [`CatalogError::Conflict`](innkeeper_catalog::CatalogError::Conflict) when there is nothing to go back to.
    pub async fn roll_back(
        &self,
        key: &ModelKey,
        alias: &AliasName,
        why: &str,
    ) -> Result<VersionName, DeployError> {
        let (alias, why) = (alias.clone(), why.to_owned());
        self.change(key, |catalog, key| async move { catalog.roll_back(&key, &alias, &why).await })
            .await
    }

    /// Rolls back whatever fails from now on.
    pub(crate) fn guard(&self) {
        let Some(mut breaches) = self.predictor().breaches() else { return };
        let inner = Arc::downgrade(&self.0);
        self.stock().runtime.spawn(async move {
            while let Some(breach) = breaches.recv().await {
                let Some(inner) = inner.upgrade() else { return };
                Deployer(inner).end(breach).await;
            }
        });
    }

    async fn end(&self, breach: Breach) {
        let Breach { model, rollout, why } = breach;
        let RolloutId { alias, candidate, .. } = &rollout;
        let (id, reason) = (rollout.clone(), why.clone());
        let ended = self.change(&model, |catalog, key| async move {
            let ended = catalog.end_rollout(&key, &id, &reason).await?;
            if ended {
                let sequence = catalog.begin_audit(&audited(&key, &id.alias)).await?;
                catalog.end_audit(sequence, "done").await?;
            }
            Ok::<_, CatalogError>(ended)
        });
        match ended.await {
            Ok(true) => {
                tracing::warn!(%model, %alias, %candidate, why, "a candidate is rolled back");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%model, %alias, %candidate, why, %error, "a candidate cannot be rolled back");
                let owner = &model.owner;
                let endpoint =
                    self.predictor().endpoint(owner, owner.as_str(), model.name.as_str());
                if let Some(traffic) = endpoint.ok().as_ref().and_then(|e| e.rollout(alias)) {
                    traffic.rearm();
                }
            }
        }
    }
}

/// What the host does by itself, as the audit log tells it.
fn audited(key: &ModelKey, alias: &AliasName) -> AuditEntry {
    AuditEntry {
        tenant: key.owner.clone(),
        actor: "innkeeper".into(),
        key_id: None,
        act: "alias.rollback".into(),
        target: format!("{}@{alias}", key.name),
        request_id: String::new(),
    }
}
