//! What jobs need of what predictions have: fresh trainers under the tenant's limits, and its accounts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use innkeeper_catalog::{TenantName, Used};
use innkeeper_sandbox::{Cancel, Setup, Trainer};

use crate::{Deployment, Limits, PredictError, Predictor};

impl Predictor {
    /// A fresh instance of a version that will learn, for its owner and under the owner's limits; what it saves may have
    /// `checkpoint_bytes_max`.
    ///
    /// # Errors
    /// The version cannot be loaded, has no trainer, or there is no room.
    pub async fn trainer(
        &self,
        deployment: &Arc<Deployment>,
        cancel: &Cancel,
    ) -> Result<Trainer, PredictError> {
        let owner = &deployment.model.owner;
        let (tenant, limits) = (self.tenant(owner), self.model_limits(deployment));
        let loaded = self.loaded(deployment).await?;
        let mut instance = limits.instance();
        instance.output_bytes_max = limits.checkpoint_bytes_max;
        let setup = Setup {
            assets: Arc::clone(&loaded.assets),
            limits: instance,
            tensor_bytes: Arc::clone(&tenant.tensor_bytes),
            log: self.log_sink(deployment),
            deadline: Instant::now() + Duration::from_millis(limits.load_ms_max),
            load_ms_max: limits.load_ms_max,
            cancel: cancel.clone(),
        };
        Ok(loaded.program.trainer(setup).await?)
    }

    /// The limits of a model's owner, lowered by the model itself.
    pub fn model_limits(&self, deployment: &Deployment) -> Limits {
        self.limits(&deployment.model.owner).lowered(&deployment.limits)
    }

    /// Whether a version can be trained.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub async fn has_trainer(&self, deployment: &Arc<Deployment>) -> Result<bool, PredictError> {
        Ok(self.loaded(deployment).await?.program.has_trainer())
    }

    /// Counts what a tenant used in another way than by predictions.
    pub fn count(&self, tenant: &TenantName, used: &Used) {
        self.tenant(tenant).count(used);
    }
}
