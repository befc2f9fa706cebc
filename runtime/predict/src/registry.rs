//! Which model and version a name stands for, in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use innkeeper_catalog::{AliasName, ModelKey, ModelName, Sharing, TenantName, VersionName};

use crate::Deployment;
use crate::traffic::{Choice, Side, Traffic, Via};

/// A model as it is served: replaced as a whole whenever something about it changes, so that no request ever sees half
/// of a change.
#[derive(Clone)]
pub struct Endpoint {
    /// The model.
    pub key: ModelKey,
    /// Who else may call it.
    pub sharing: Sharing,
    /// Its aliases, each with the version it stands for.
    pub aliases: Vec<(AliasName, VersionName)>,
    /// What is tried behind its aliases, at most one for each.
    pub rollouts: Vec<Arc<Traffic>>,
    /// Its versions, in the order they were published.
    pub versions: Vec<Arc<Deployment>>,
    /// Whether its owner has unloaded it: it is kept, and answers to nobody until it is loaded again.
    pub is_unloaded: bool,
}

/// There is no such model or version, or none for this caller: the text is the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotFound(pub String);

impl NotFound {
    fn model(model: &str) -> NotFound {
        NotFound(format!("there is no model {:?}", short(model)))
    }

    fn unloaded(model: &ModelName) -> NotFound {
        NotFound(format!("model {:?} is unloaded; its owner can load it again", model.as_str()))
    }

    fn version(model: &ModelName, slot: &str) -> NotFound {
        NotFound(format!("model {:?} has no version or alias {:?}", model.as_str(), short(slot)))
    }
}

fn short(name: &str) -> String {
    name.chars().take(128).collect()
}

impl Endpoint {
    /// The alias that serves when a request names none.
    pub const DEFAULT_ALIAS: &str = "stable";

    /// The version that `slot` names, itself or as an alias. Without a slot: what the alias `stable` stands for, else
    /// the newest.
    ///
    /// # Errors
    /// [`NotFound`], for an unloaded model too.
    pub fn resolve(&self, slot: Option<&str>) -> Result<&Arc<Deployment>, NotFound> {
        if self.is_unloaded {
            return Err(NotFound::unloaded(&self.key.name));
        }
        self.kept(slot)
    }

    /// As [`resolve`](Endpoint::resolve), whether the model is unloaded or not.
    ///
    /// # Errors
    /// [`NotFound`].
    pub fn kept(&self, slot: Option<&str>) -> Result<&Arc<Deployment>, NotFound> {
        let name = slot.unwrap_or(Self::DEFAULT_ALIAS);
        let alias = self.aliases.iter().find(|(alias, _)| alias.as_str() == name);
        let version = alias.map_or(name, |(_, version)| version.as_str());
        let found = self.versions.iter().find(|deployment| deployment.version.as_str() == version);
        let found = match (found, slot) {
            (None, None) => self.versions.last(),
            _ => found,
        };
        found.ok_or_else(|| NotFound::version(&self.key.name, name))
    }

    /// The version that answers a request for `slot`: where a candidate is tried behind an alias, one of two.
    /// `header` gives the value of a header of the request, by which a caller stays on its version.
    ///
    /// # Errors
    /// [`NotFound`].
    pub fn choose<'a>(
        &self,
        slot: Option<&str>,
        header: impl FnOnce(&str) -> Option<&'a [u8]>,
    ) -> Result<Choice, NotFound> {
        let current = self.resolve(slot)?;
        let name = slot.unwrap_or(Self::DEFAULT_ALIAS);
        let Some(traffic) = self.rollouts.iter().find(|t| t.rollout.alias.as_str() == name) else {
            return Ok(Choice { deployment: Arc::clone(current), via: None });
        };
        let candidate = &traffic.rollout.candidate;
        // A candidate that cannot be served gets nothing.
        let Some(candidate) = self.versions.iter().find(|d| d.version == *candidate) else {
            return Ok(Choice { deployment: Arc::clone(current), via: None });
        };
        let side = traffic.side(header(&traffic.rollout.sticky));
        let deployment = match side {
            Side::Current => current,
            Side::Candidate => candidate,
        };
        let shows = side == Side::Current && traffic.shows();
        let shown_to = shows.then(|| Arc::clone(candidate));
        let via = Via { traffic: Arc::clone(traffic), side, shown_to };
        Ok(Choice { deployment: Arc::clone(deployment), via: Some(via) })
    }

    /// The rollout behind an alias, if there is one.
    pub fn rollout(&self, alias: &AliasName) -> Option<&Arc<Traffic>> {
        self.rollouts.iter().find(|traffic| traffic.rollout.alias == *alias)
    }

    fn is_visible_to(&self, caller: &TenantName) -> bool {
        self.key.owner == *caller
            || match &self.sharing {
                Sharing::Private => false,
                Sharing::Tenants(tenants) => tenants.contains(caller),
                Sharing::All => true,
            }
    }
}

/// Every endpoint of this host.
#[derive(Default)]
pub struct Registry {
    tenants: RwLock<HashMap<TenantName, HashMap<ModelName, Arc<Endpoint>>>>,
}

impl Registry {
    /// The model that `caller` means by `model` in the namespace of `owner`.
    ///
    /// # Errors
    /// [`NotFound`], the same for a model that is private and for one that does not exist.
    pub fn find(
        &self,
        caller: &TenantName,
        owner: &str,
        model: &str,
    ) -> Result<Arc<Endpoint>, NotFound> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants
            .get(owner)
            .and_then(|models| models.get(model))
            .filter(|endpoint| endpoint.is_visible_to(caller))
            .cloned()
            .ok_or_else(|| NotFound::model(model))
    }

    /// What `caller` may see of the namespace of `owner`, sorted by name.
    pub fn list(&self, caller: &TenantName, owner: &str) -> Vec<Arc<Endpoint>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let models = tenants.get(owner).into_iter().flat_map(HashMap::values);
        let mut seen: Vec<_> =
            models.filter(|model| model.is_visible_to(caller)).cloned().collect();
        seen.sort_by(|a, b| a.key.name.cmp(&b.key.name));
        seen
    }

    /// Every endpoint, in no order.
    pub fn all(&self) -> Vec<Arc<Endpoint>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.values().flat_map(HashMap::values).cloned().collect()
    }

    /// Puts an endpoint in the place of what was there under its key.
    pub fn install(&self, endpoint: Endpoint) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let ModelKey { owner, name } = endpoint.key.clone();
        tenants.entry(owner).or_default().insert(name, Arc::new(endpoint));
    }

    /// Takes an endpoint away. Requests that have found it go on.
    pub fn remove(&self, key: &ModelKey) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(models) = tenants.get_mut(&key.owner) {
            models.remove(&key.name);
        }
    }
}
