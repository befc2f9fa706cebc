//! The statistics and model configuration extensions.

use innkeeper_predict::{Counted, Endpoint};
use serde::Serialize;

use crate::app::Exchange;
use crate::error::Failure;
use crate::model_config;
use crate::model_stats::{self, ModelStats};
use crate::reply::{Reply, json};

#[derive(Serialize)]
struct Answer<'a> {
    model_stats: Vec<Version<'a>>,
}

#[derive(Serialize)]
struct Version<'a> {
    name: &'a str,
    version: &'a str,
    last_inference: u64,
    inference_count: u64,
    execution_count: u64,
    inference_stats: Inference,
    /// What models that answer a request several times would have.
    response_stats: Nothing,
    batch_stats: Vec<Batch>,
    memory_usage: Vec<Memory>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Times {
    count: u64,
    ns: u64,
}

#[derive(Serialize)]
struct Inference {
    success: Times,
    fail: Times,
    queue: Times,
    compute_input: Times,
    compute_infer: Times,
    compute_output: Times,
    cache_hit: Times,
    cache_miss: Times,
}

#[derive(Serialize)]
struct Batch {
    batch_size: u64,
    compute_input: Times,
    compute_infer: Times,
    compute_output: Times,
}

#[derive(Serialize)]
struct Memory {
    r#type: &'static str,
    id: u64,
    byte_size: u64,
}

/// `GET /v2/models[/{m}[/versions/{v}]]/stats`, of the models that were found.
pub(crate) fn stats(found: &[ModelStats]) -> Reply {
    json(&Answer { model_stats: found.iter().map(version).collect() })
}

/// `GET /v2/models/stats`
pub(crate) fn all_stats(at: Exchange<'_>, owner: &str) -> Reply {
    stats(&model_stats::all(&at.app.predictor, &at.caller.tenant, owner))
}

/// `GET /v2/models/{m}[/versions/{v}]/stats`
pub(crate) fn model_stats(
    at: Exchange<'_>,
    endpoint: &Endpoint,
    slot: Option<&str>,
) -> Result<Reply, Failure> {
    Ok(stats(&model_stats::of(endpoint, slot, &at.caller.tenant)?))
}

/// `GET /v2/models/{m}[/versions/{v}]/config`
pub(crate) fn config(
    at: Exchange<'_>,
    endpoint: &Endpoint,
    slot: Option<&str>,
) -> Result<Reply, Failure> {
    let deployment = endpoint.resolve(slot)?;
    let limits = at.app.predictor.limits(&at.caller.tenant).lowered(&deployment.limits);
    Ok(json(&model_config::of(deployment, limits.requests_in_flight_max)))
}

fn version(stats: &ModelStats) -> Version<'_> {
    let counted = &stats.statistics;
    let mut batches: Vec<Batch> = counted
        .batches
        .iter()
        .map(|batch| Batch {
            batch_size: batch.batch_size,
            compute_input: times(batch.compute_input),
            compute_infer: times(batch.compute_infer),
            compute_output: times(batch.compute_output),
        })
        .collect();
    batches.sort_by_key(|batch| batch.batch_size);
    let memory = stats.asset_bytes.map(|byte_size| Memory { r#type: "CPU", id: 0, byte_size });
    Version {
        name: &stats.name,
        version: &stats.version,
        last_inference: counted.last_inference_ms,
        inference_count: counted.inference_count,
        execution_count: counted.execution_count,
        inference_stats: Inference {
            success: times(counted.success),
            fail: times(counted.fail),
            queue: times(counted.queue),
            compute_input: times(counted.compute_input),
            compute_infer: times(counted.compute_infer),
            compute_output: times(counted.compute_output),
            cache_hit: times(counted.cache_hit),
            cache_miss: times(counted.cache_miss),
        },
        response_stats: Nothing {},
        batch_stats: batches,
        memory_usage: memory.into_iter().collect(),
    }
}

fn times(counted: Counted) -> Times {
    Times { count: counted.count, ns: counted.ns }
}
