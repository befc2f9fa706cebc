//! Endpoints made of what the catalog holds.

use std::sync::Arc;

use innkeeper_catalog::{ModelKey, ModelRecord, VersionName, VersionRecord};
use innkeeper_predict::{Bounds, Deployment, DeploymentParts, Endpoint, Traffic};
use innkeeper_tensor::{Signature, SignatureError};

use crate::bundle::Manifest;
use crate::facts::Facts;
use crate::stock::VersionLoader;
use crate::{DeployError, Deployer};

/// What came back at start-up.
#[derive(Debug, Default)]
pub struct Restored {
    /// Versions that are served again.
    pub deployed: usize,
    /// Versions that are catalogued and cannot be served, each with the reason.
    pub failed: Vec<(ModelKey, VersionName, String)>,
}

impl Deployer {
    /// Installs every catalogued version, for a start. Nothing is compiled or loaded: that happens at the first
    /// prediction. Compiled code that no version needs any more is removed.
    ///
    /// # Errors
    /// The catalog cannot be read. A version that cannot be restored is no error: it is told in the result.
    pub async fn restore(&self) -> Result<Restored, DeployError> {
        let records = self.stock().catalog.models().await?;
        let mut restored = Restored::default();
        let mut endpoints = Vec::with_capacity(records.len());
        for record in &records {
            let (endpoint, failed) = self.endpoint(record, None);
            restored.deployed += endpoint.versions.len();
            restored.failed.extend(failed.into_iter().map(|(v, why)| (record.key.clone(), v, why)));
            endpoints.push(endpoint);
        }
        for endpoint in endpoints {
            self.predictor().install(endpoint);
        }
        self.forget_unused_code(&records).await?;
        Ok(restored)
    }

    /// The endpoint of a model, with the versions that its policy serves. Those that are served already stay as they are, with everything that is warm; those
    /// that cannot be read are left out and named.
    pub(crate) fn endpoint(
        &self,
        record: &ModelRecord,
        present: Option<&Endpoint>,
    ) -> (Endpoint, Vec<(VersionName, String)>) {
        let mut versions = Vec::with_capacity(record.versions.len());
        let mut failed = Vec::new();
        let wanted = record.versions.iter().zip(record.served());
        for version in wanted.filter(|(_, wanted)| *wanted).map(|(version, _)| version) {
            let served = present.and_then(|present| served(present, version));
            match served.map_or_else(|| self.deployment(version), Ok) {
                Ok(deployment) => versions.push(deployment),
                Err(why) => failed.push((version.version.clone(), why)),
            }
        }
        let rollouts = record.rollouts.iter().map(|rollout| {
            let present = present.and_then(|present| present.rollout(&rollout.alias));
            let bounds = serde_json::from_str(&rollout.bounds).unwrap_or_else(|error| {
                let (model, alias) = (&record.key, &rollout.alias);
                tracing::error!(%model, %alias, %error, "a rollout's bounds cannot be read; the defaults hold");
                Bounds::default()
            });
            Arc::new(Traffic::new(rollout.clone(), bounds, present.map(Arc::as_ref)))
        });
        let (key, sharing) = (record.key.clone(), record.sharing.clone());
        let (aliases, rollouts) = (record.aliases.clone(), rollouts.collect());
        let is_unloaded = present.is_some_and(|present| present.is_unloaded);
        (Endpoint { key, sharing, aliases, rollouts, versions, is_unloaded }, failed)
    }

    fn deployment(&self, record: &VersionRecord) -> Result<Arc<Deployment>, String> {
        let manifest =
            Manifest::parse(record.manifest.as_bytes()).map_err(|error| error.to_string())?;
        self.require_device(manifest.device).map_err(|error| error.to_string())?;
        let signature = Facts::signature(&record.facts)?;
        check_fits(&manifest, &signature).map_err(|error| error.to_string())?;
        let owner = self.owner(&record.model.owner);
        Ok(Deployment::new(DeploymentParts {
            model: record.model.clone(),
            version: record.version.clone(),
            digest: record.digest,
            signature,
            isolation: manifest.isolation,
            limits: manifest.limits.clone(),
            batching: manifest.batching.clone(),
            caching: manifest.cache.clone(),
            sequencing: manifest.sequences.clone(),
            instances: manifest.instances.clone(),
            description: manifest.description.clone(),
            created_ms: record.created_ms,
            loader: Arc::new(VersionLoader::new(Arc::clone(self.stock()), owner, &manifest)),
        }))
    }
}

/// Whether what the manifest wishes can be done with a model of this signature.
pub(crate) fn check_fits(manifest: &Manifest, signature: &Signature) -> Result<(), SignatureError> {
    let batching = manifest.batching.as_ref();
    let checked = batching.map_or(Ok(()), |batching| batching.check_signature(signature));
    checked.map_err(|error| SignatureError(error.to_string()))
}

/// The deployment of exactly this version, if it is served.
fn served(present: &Endpoint, record: &VersionRecord) -> Option<Arc<Deployment>> {
    // A version that was deleted and published again under its name is another one, also with the same bytes.
    let same = |deployment: &&Arc<Deployment>| {
        (&deployment.version, deployment.digest, deployment.created_ms)
            == (&record.version, record.digest, record.created_ms)
    };
    present.versions.iter().find(same).cloned()
}
