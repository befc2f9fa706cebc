//! Which versions leave memory when there is too little of it: those that were not used for longest.
//!
//! They stay served. The next request brings them back from the disk, where their code lies compiled.

use std::sync::Arc;
use std::time::Instant;

use innkeeper_catalog::TenantName;

use crate::deployment::Loaded;
use crate::{Deployment, PredictError, Predictor};

impl Predictor {
    /// Brings a version's code and assets into memory, if they are not there.
    ///
    /// # Errors
    /// [`PredictError::NoRoom`] where its owner's versions that are in use leave none, and [`PredictError::Load`].
    pub async fn load(&self, deployment: &Deployment) -> Result<(), PredictError> {
        self.loaded(deployment).await.map(drop)
    }

    pub(crate) async fn loaded(&self, deployment: &Deployment) -> Result<Loaded, PredictError> {
        if let Some(loaded) = deployment.in_memory() {
            return Ok(loaded);
        }
        loop {
            match deployment.bring_up().await {
                Err(PredictError::NoRoom(why)) => {
                    if !self.make_room(&deployment.model.owner) {
                        return Err(PredictError::NoRoom(why));
                    }
                }
                Err(error) => return Err(error),
                Ok(loaded) => {
                    deployment.touch(Instant::now());
                    self.keep_within_memory();
                    return Ok(loaded);
                }
            }
        }
    }

    /// Lets go of the version of this owner's that was not used for longest, of those with assets that nobody uses now;
    /// false where there is none.
    pub fn make_room(&self, owner: &TenantName) -> bool {
        self.let_go_of_oldest(|deployment| deployment.model.owner == *owner)
    }

    /// The same of all owners' versions, until their assets are within what all may have together.
    pub(crate) fn keep_within_memory(&self) {
        let max = self.asset_memory_total_max();
        while self.asset_memory_used() > max && self.let_go_of_oldest(|_| true) {}
    }

    fn let_go_of_oldest(&self, of: impl Fn(&Deployment) -> bool) -> bool {
        let endpoints = self.all_endpoints();
        let deployments = endpoints.iter().flat_map(|endpoint| {
            let versions = endpoint.versions.iter();
            versions.filter(|deployment| !endpoint.keeps_ready(deployment))
        });
        let rests = |deployment: &&Arc<Deployment>| of(deployment) && deployment.could_leave();
        let oldest = deployments.filter(rests).min_by_key(|deployment| deployment.last_used());
        // Whoever has begun to use it meanwhile keeps what it has.
        oldest.is_some_and(|deployment| deployment.leave())
    }
}
