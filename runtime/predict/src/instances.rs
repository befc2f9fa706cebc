//! How many instances of a model there are: some kept ready, more as they are needed, none beyond a maximum.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use innkeeper_catalog::TenantName;
use serde::{Deserialize, Serialize};

use crate::run::Host;
use crate::{Deployment, Endpoint, Isolation, Predictor};

/// How many instances a model has, as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instances {
    /// Instances that are kept ready for the owner, also while nobody calls.
    pub min: u64,
    /// Instances that answer one caller at the same time; further requests wait, or join a batch.
    pub max: u64,
    /// Milliseconds after which an instance over the minimum leaves that nobody needed.
    pub idle_ms: u64,
}

impl Default for Instances {
    fn default() -> Instances {
        Instances { min: 0, max: Instances::MAX, idle_ms: 60_000 }
    }
}

impl Instances {
    /// The largest maximum.
    pub const MAX: u64 = 1_000;
    /// The largest minimum.
    pub const MIN_MAX: u64 = 16;
    /// The longest that an instance may wait for its next request, in milliseconds.
    pub const IDLE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

    /// Whether a model that is isolated like this may have instances like that.
    ///
    /// # Errors
    /// What is out of its bounds.
    pub fn check(&self, isolation: Isolation) -> Result<(), String> {
        let Instances { min, max, idle_ms } = *self;
        if !(1..=Instances::MAX).contains(&max) {
            return Err(format!("instances: max is {max}; wanted 1 to {}", Instances::MAX));
        }
        let most = max.min(Instances::MIN_MAX);
        if min > most {
            return Err(format!("instances: min is {min}; wanted at most {most}"));
        }
        if !(1..=Instances::IDLE_MS_MAX).contains(&idle_ms) {
            let most = Instances::IDLE_MS_MAX;
            return Err(format!("instances: idle_ms is {idle_ms}; wanted 1 to {most}"));
        }
        if isolation == Isolation::Request && min > 0 {
            return Err(
                "instances: min keeps instances for the next requests; isolation = \"request\" forbids that"
                    .into(),
            );
        }
        Ok(())
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}

impl Endpoint {
    /// Whether instances of one of its versions are kept ready: those of what serves, or may at any moment.
    pub(crate) fn keeps_ready(&self, deployment: &Arc<Deployment>) -> bool {
        if self.is_unloaded || deployment.instances().is_none_or(|instances| instances.min == 0) {
            return false;
        }
        let version = &deployment.version;
        self.aliases.iter().any(|(_, stands_for)| stands_for == version)
            || self.rollouts.iter().any(|traffic| traffic.rollout.candidate == *version)
            || self.resolve(None).is_ok_and(|serves| Arc::ptr_eq(serves, deployment))
    }
}

impl Predictor {
    /// Makes the instances that are to be ready and are not; gives back how many. Tenants do not wait for each other.
    pub async fn keep_ready(&self) -> u64 {
        let mut wanted: HashMap<TenantName, Vec<Arc<Deployment>>> = HashMap::new();
        for endpoint in self.all_endpoints() {
            let kept = endpoint.versions.iter().filter(|version| endpoint.keeps_ready(version));
            let few = kept.filter(|version| version.few() > 0).cloned();
            wanted.entry(endpoint.key.owner.clone()).or_default().extend(few);
        }
        let mut made = tokio::task::JoinSet::new();
        for (owner, deployments) in wanted {
            made.spawn(self.clone().make_ready(owner, deployments));
        }
        made.join_all().await.into_iter().sum()
    }

    async fn make_ready(self, owner: TenantName, deployments: Vec<Arc<Deployment>>) -> u64 {
        let (mut made, share) = (0, self.share(&owner));
        for deployment in deployments {
            for _ in 0..deployment.few() {
                let host = Host::new(&self, &deployment, (&owner, &self.tenant(&owner)));
                let ready = async move { host.ready().await };
                match self.engine().run(ready, &share, false).await {
                    Some(Ok(())) => made += 1,
                    Some(Err(error)) => {
                        self.log_error(&deployment, &format!("no instance is ready: {error}"));
                        break;
                    }
                    None => break,
                }
            }
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let instances = |min, max, idle_ms| Instances { min, max, idle_ms };
        let cases = [
            (instances(0, 0, 1), Isolation::Tenant, "max is 0"),
            (instances(0, 1_001, 1), Isolation::Tenant, "max is 1001"),
            (instances(3, 2, 1), Isolation::Tenant, "min is 3; wanted at most 2"),
            (instances(17, 1_000, 1), Isolation::Tenant, "wanted at most 16"),
            (instances(0, 1, 0), Isolation::Tenant, "idle_ms is 0"),
            (instances(1, 1, 1), Isolation::Request, "isolation"),
        ];
        for (instances, isolation, wanted) in cases {
            let problem = instances.check(isolation).unwrap_err();
            assert!(problem.contains(wanted), "{problem}");
        }
        assert_eq!(instances(0, 4, 1).check(Isolation::Request), Ok(()));
        assert_eq!(Instances::default().check(Isolation::Tenant), Ok(()));
    }
}
