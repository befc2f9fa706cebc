//! What is counted of predictions, as each caller may see it. It is the same for every protocol.

use innkeeper_catalog::TenantName;
use innkeeper_predict::{Deployment, Endpoint, NotFound, Predictor, Statistics};

/// The statistics of one version.
#[derive(Debug)]
pub(crate) struct ModelStats {
    pub(crate) name: String,
    pub(crate) version: String,
    /// What all callers did, for the owner; for others, what they did themselves.
    pub(crate) statistics: Statistics,
    /// Bytes of the version's assets in memory. It is the owner's to know.
    pub(crate) asset_bytes: Option<u64>,
}

/// The statistics of a version, or of all versions when the path names none.
///
/// # Errors
/// [`NotFound`].
pub(crate) fn of(
    endpoint: &Endpoint,
    slot: Option<&str>,
    caller: &TenantName,
) -> Result<Vec<ModelStats>, NotFound> {
    let chosen = endpoint.resolve(slot)?;
    Ok(match slot {
        Some(_) => vec![of_version(chosen, caller)],
        None => endpoint.versions.iter().map(|version| of_version(version, caller)).collect(),
    })
}

/// The statistics of everything that `caller` may see in the namespace of `owner`.
pub(crate) fn all(predictor: &Predictor, caller: &TenantName, owner: &str) -> Vec<ModelStats> {
    let endpoints = predictor.endpoints(caller, owner);
    endpoints.iter().filter_map(|endpoint| of(endpoint, None, caller).ok()).flatten().collect()
}

fn of_version(deployment: &Deployment, caller: &TenantName) -> ModelStats {
    let is_owner = deployment.model.owner == *caller;
    let mut statistics = Statistics::default();
    for (who, counted) in deployment.statistics() {
        if is_owner || who == *caller {
            statistics.add(&counted);
        }
    }
    ModelStats {
        name: deployment.model.name.to_string(),
        version: deployment.version.to_string(),
        statistics,
        asset_bytes: deployment.loaded_asset_bytes().filter(|_| is_owner),
    }
}
