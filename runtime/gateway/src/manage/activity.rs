//! `GET /api/v1/activity`: what models do, for whoever looks at it again and again and takes differences.

use innkeeper_catalog::{Scope, TenantName};
use innkeeper_predict::{Deployment, LATENCY_BOUNDS_US, Statistics};
use serde::Serialize;

use super::no_query;
use crate::app::Exchange;
use crate::error::Failure;
use crate::reply::{Reply, json};

#[derive(Serialize)]
struct Activity<'a> {
    /// The upper ends of the buckets of `latency`; one more takes the rest.
    latency_bounds_us: [u64; LATENCY_BOUNDS_US.len()],
    models: Vec<Version<'a>>,
}

#[derive(Serialize)]
struct Version<'a> {
    owner: &'a str,
    model: &'a str,
    version: &'a str,
    /// Predictions that were answered.
    requests: u64,
    /// Predictions that were not, whoever is to blame.
    failures: u64,
    /// Answered predictions by duration.
    latency: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// Predictions that wait for a place.
    waiting: u64,
    /// Predictions that run.
    running: u64,
    /// Instances that wait for a request.
    warm_instances: u64,
    /// Bytes of assets in memory, for the owner and administrators; null while they are not there.
    asset_bytes: Option<u64>,
}

/// An administrator sees every version. Everybody else sees their own with all who call them, and of others' what they
/// called themselves.
pub(super) fn show(at: Exchange<'_>) -> Result<Reply, Failure> {
    no_query(at)?;
    let only = at.caller.require(Scope::Admin).is_err().then_some(&at.caller.tenant);
    let endpoints = at.app.predictor.all_endpoints();
    let versions = endpoints.iter().flat_map(|endpoint| &endpoint.versions);
    let models = versions.filter_map(|deployment| version(deployment, only)).collect();
    Ok(json(&Activity { latency_bounds_us: LATENCY_BOUNDS_US, models }))
}

fn version<'a>(deployment: &'a Deployment, only: Option<&TenantName>) -> Option<Version<'a>> {
    let owner = &deployment.model.owner;
    // Whose calls are counted: everybody's, or one caller's.
    let caller = only.filter(|own| *own != owner);
    let mut called = false;
    let mut counted = Statistics::default();
    for (who, statistics) in deployment.statistics() {
        if caller.is_none_or(|own| *own == who) {
            called = true;
            counted.add(&statistics);
        }
    }
    if caller.is_some() && !called {
        return None;
    }
    Some(Version {
        owner: owner.as_str(),
        model: deployment.model.name.as_str(),
        version: deployment.version.as_str(),
        requests: counted.success.count,
        failures: counted.fail.count,
        latency: counted.latency,
        waiting: counted.waiting,
        running: counted.running,
        warm_instances: deployment.warm_instances(caller),
        asset_bytes: deployment.loaded_asset_bytes().filter(|_| caller.is_none()),
    })
}
