//! `/v1/fine_tuning/jobs`, as OpenAI has it: the same jobs as under `/api/v1/jobs`.

use std::collections::BTreeMap;
use std::str::FromStr;

use hyper::body::Incoming;
use innkeeper_catalog::{DatasetName, JobEvent, JobRecord, JobState, ModelKey, ModelName, Scope};
use innkeeper_train::{Into as Makes, Progress, Request, TrainRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::Exchange;
use crate::error::Failure;
use crate::manage::{self, Act};
use crate::query::Query;
use crate::reply::{Reply, json as reply};

/// Jobs, events and checkpoints in one answer.
const LISTED_MAX: u32 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// A model, or MODEL@VERSION.
    model: String,
    training_file: String,
    #[serde(default)]
    validation_file: Option<String>,
    #[serde(default)]
    hyperparameters: Option<Map<String, Value>>,
    #[serde(default)]
    method: Option<Method>,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    integrations: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Method {
    r#type: String,
    #[serde(default)]
    supervised: Option<Supervised>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Supervised {
    #[serde(default)]
    hyperparameters: Option<Map<String, Value>>,
}

#[derive(Serialize)]
struct Job {
    id: String,
    object: &'static str,
    created_at: i64,
    finished_at: Option<i64>,
    model: String,
    fine_tuned_model: Option<String>,
    organization_id: String,
    status: &'static str,
    training_file: String,
    validation_file: Option<String>,
    hyperparameters: Value,
    method: Value,
    trained_tokens: Option<u64>,
    result_files: Vec<String>,
    error: Option<Value>,
    seed: u64,
    estimated_finish: Option<i64>,
    integrations: Vec<Value>,
    metadata: BTreeMap<String, String>,
}

/// What a job was asked for; none for one of another kind, which OpenAI does not have.
fn training(record: &JobRecord) -> Result<Option<TrainRequest>, Failure> {
    match serde_json::from_str(&record.request).map_err(Failure::internal)? {
        Request::Train(request) => Ok(Some(request)),
        Request::Compress(_) => Ok(None),
    }
}

fn told(record: &JobRecord) -> Result<Job, Failure> {
    let Some(request) = training(record)? else { return Err(Failure::no_job(&record.id)) };
    let progress: Progress = serde_json::from_str(&record.progress).unwrap_or_default();
    let hyperparameters = theirs(&request);
    let has_succeeded = record.state == JobState::Succeeded;
    let version = |record: &JobRecord| format!("{}@{}", record.model.name, record.version);
    let error = record.error.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let is_running = record.state == JobState::Running && progress.left_ms > 0;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
    let left_ms = i64::try_from(progress.left_ms).unwrap_or(i64::MAX);
    Ok(Job {
        id: record.id.clone(),
        object: "fine_tuning.job",
        created_at: record.created_ms / 1_000,
        finished_at: record.ended_ms.map(|ms| ms / 1_000),
        model: match &request.version {
            Some(version) => format!("{}@{version}", request.model),
            None => request.model.to_string(),
        },
        fine_tuned_model: has_succeeded.then(|| version(record)),
        organization_id: record.model.owner.to_string(),
        status: record.state.as_str(),
        training_file: request.dataset.to_string(),
        validation_file: request.validation_dataset.as_ref().map(ToString::to_string),
        method: json!({ "type": "supervised", "supervised": { "hyperparameters": hyperparameters } }),
        hyperparameters,
        // What is learnt from here are rows, not tokens.
        trained_tokens: None,
        result_files: if has_succeeded {
            vec![format!("result-{}", record.id)]
        } else {
            Vec::new()
        },
        error: error.map(
            |error| json!({ "code": error["code"], "message": error["message"], "param": null }),
        ),
        seed: request.seed,
        estimated_finish: is_running.then(|| now_ms.saturating_add(left_ms) / 1_000),
        integrations: Vec::new(),
        metadata: request.metadata,
    })
}

/// Hyper-parameters under OpenAI's names, those that it does not have under their own.
fn theirs(request: &TrainRequest) -> Value {
    let mut all: Map<String, Value> = request
        .hyperparameters
        .iter()
        .map(|(name, value)| match name.as_str() {
            "epochs" => ("n_epochs".to_owned(), value.clone()),
            _ => (name.clone(), value.clone()),
        })
        .collect();
    for name in ["n_epochs", "batch_size"] {
        all.entry(name).or_insert_with(|| "auto".into());
    }
    all.into()
}

/// `POST /v1/fine_tuning/jobs`
pub(crate) async fn create(at: Exchange<'_>, body: &mut Incoming) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let body: Body = manage::json_body(at, body).await?;
    if body
        .integrations
        .is_some_and(|integrations| !integrations.is_null() && integrations != json!([]))
    {
        return Err(Failure::bad_request("integrations are not served here"));
    }
    if let Some(method) = &body.method
        && method.r#type != "supervised"
    {
        return Err(Failure::bad_request("method.type must be \"supervised\""));
    }
    let (model, version) = match body.model.split_once('@') {
        Some((model, version)) => (model, Some(version.to_owned())),
        None => (body.model.as_str(), None),
    };
    let model: ModelName = parsed("model", model)?;
    let asked = body
        .method
        .and_then(|method| method.supervised)
        .and_then(|supervised| supervised.hyperparameters)
        .or(body.hyperparameters)
        .unwrap_or_default();
    let mut request = TrainRequest::new(
        model.clone(),
        parsed::<DatasetName>("training_file", &body.training_file)?,
    );
    request.hyperparameters = ours(at, &model, version.as_deref(), asked).await?;
    request.version = version;
    request.validation_dataset = match &body.validation_file {
        Some(file) => Some(parsed("validation_file", file)?),
        None => None,
    };
    request.seed = body.seed.unwrap_or(0);
    request.metadata = body.metadata.unwrap_or_default();
    if let Some(suffix) = &body.suffix {
        request.into = Makes { model: Some(parsed("suffix", suffix)?), version: None };
    }
    let record = at.app.jobs.submit(&at.caller.tenant, Request::Train(request)).await?;
    Ok(reply(&told(&record)?))
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::bad_request(format!("{field}: {error}")))
}

/// Hyper-parameters under the trainer's names: `n_epochs` is its `epochs`, and `learning_rate_multiplier` multiplies its
/// default of `learning_rate`.
async fn ours(
    at: Exchange<'_>,
    model: &ModelName,
    version: Option<&str>,
    asked: Map<String, Value>,
) -> Result<BTreeMap<String, Value>, Failure> {
    let mut ours = BTreeMap::new();
    for (name, value) in asked {
        if value == "auto" || value.is_null() {
            continue;
        }
        match name.as_str() {
            "n_epochs" => ours.insert("epochs".to_owned(), value),
            "learning_rate_multiplier" => {
                let key = ModelKey::new(at.caller.tenant.clone(), model.clone());
                let known = at.app.jobs.hyperparameters(&key, version).await?;
                let rate = known.iter().find(|known| known["name"] == "learning_rate");
                let default = rate.and_then(|rate| rate["default"].as_f64());
                let both = default.zip(value.as_f64()).map(|(default, times)| default * times);
                let rate = both.ok_or_else(|| {
                    Failure::bad_request(
                        "learning_rate_multiplier wants a number, and a trainer with a default of learning_rate",
                    )
                })?;
                ours.insert("learning_rate".to_owned(), json!(rate))
            }
            _ => ours.insert(name, value),
        };
    }
    Ok(ours)
}

/// `GET /v1/fine_tuning/jobs?after=&limit=`
pub(crate) async fn list(at: Exchange<'_>) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let query = Query::read(at.parts.uri.query(), &["after", "limit"])?;
    let before = match query.one::<String>("after")? {
        Some(id) => at.app.catalog.job(&at.caller.tenant, &id).await?.sequence,
        None => i64::MAX,
    };
    let limit = query.one("limit")?.unwrap_or(20).clamp(1, LISTED_MAX - 1);
    let mut records = at.app.catalog.jobs(&at.caller.tenant, before, limit + 1).await?;
    let has_more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let mut data = Vec::with_capacity(records.len());
    for record in &records {
        if training(record)?.is_some() {
            data.push(told(record)?);
        }
    }
    Ok(page(data, has_more))
}

fn page<T: Serialize>(data: Vec<T>, has_more: bool) -> Reply {
    #[derive(Serialize)]
    struct Page<T> {
        object: &'static str,
        data: Vec<T>,
        has_more: bool,
    }
    reply(&Page { object: "list", data, has_more })
}

async fn record(at: Exchange<'_>, id: &str) -> Result<JobRecord, Failure> {
    at.caller.require(Scope::Publish)?;
    Ok(at.app.catalog.job(&at.caller.tenant, id).await?)
}

/// `GET /v1/fine_tuning/jobs/{j}`
pub(crate) async fn show(at: Exchange<'_>, id: &str) -> Result<Reply, Failure> {
    Ok(reply(&told(&record(at, id).await?)?))
}

/// `POST /v1/fine_tuning/jobs/{j}/cancel`, `pause`, `resume`
pub(crate) async fn tell(at: Exchange<'_>, id: &str, act: Act) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let (tenant, jobs) = (&at.caller.tenant, &at.app.jobs);
    let record = match act {
        Act::Pause => jobs.pause(tenant, id).await?,
        Act::Resume => jobs.resume(tenant, id).await?,
        Act::Cancel => jobs.cancel(tenant, id).await?,
    };
    Ok(reply(&told(&record)?))
}

/// `GET /v1/fine_tuning/jobs/{j}/events?after=&limit=`: the newest first.
pub(crate) async fn events(at: Exchange<'_>, id: &str) -> Result<Reply, Failure> {
    let record = record(at, id).await?;
    let query = Query::read(at.parts.uri.query(), &["after", "limit"])?;
    let limit = query.one("limit")?.unwrap_or(20u32).clamp(1, LISTED_MAX);
    let after = query.one::<String>("after")?;
    let mut all = at.app.jobs.events(&record.id, 0, u32::MAX).await?;
    all.reverse();
    let begin = match &after {
        Some(after) => {
            all.iter().position(|event| event_id(&record.id, event) == *after).map_or(0, |i| i + 1)
        }
        None => 0,
    };
    let rest = &all[begin.min(all.len())..];
    let shown = &rest[..rest.len().min(limit as usize)];
    let data: Vec<Value> = shown.iter().map(|event| told_event(&record.id, event)).collect();
    Ok(page(data, rest.len() > shown.len()))
}

fn event_id(job: &str, event: &JobEvent) -> String {
    format!("ftevent-{}-{}", job.trim_start_matches("job-"), event.sequence)
}

fn told_event(job: &str, event: &JobEvent) -> Value {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let has_numbers = ["epoch", "progress"].contains(&event.kind.as_str());
    let message = match event.kind.as_str() {
        "failed" => format!("failed: {}", data["message"].as_str().unwrap_or_default()),
        "epoch" => format!("epoch {} is over", data["epoch"]),
        "progress" => format!("step {} of {}", data["step"], data["steps"]),
        "checkpoint" => format!("a checkpoint after step {}", data["step"]),
        kind => kind.to_owned(),
    };
    json!({
        "object": "fine_tuning.job.event",
        "id": event_id(job, event),
        "created_at": event.at_ms / 1_000,
        "level": if event.kind == "failed" { "error" } else { "info" },
        "message": message,
        "data": data,
        "type": if has_numbers { "metrics" } else { "message" },
    })
}

/// `GET /v1/fine_tuning/jobs/{j}/checkpoints`: one for each epoch that is over. The models of all but the last are not
/// kept.
pub(crate) async fn checkpoints(at: Exchange<'_>, id: &str) -> Result<Reply, Failure> {
    let record = record(at, id).await?;
    let query = Query::read(at.parts.uri.query(), &["after", "limit"])?;
    let limit = query.one::<u32>("limit")?.map_or(usize::MAX, |limit| limit as usize);
    let after = query.one::<String>("after")?;
    let progress: Progress = serde_json::from_str(&record.progress).unwrap_or_default();
    let per_epoch = progress.steps / u64::from(progress.epochs.max(1));
    let number = |metrics: &BTreeMap<String, f64>, name: &str| metrics.get(name).copied();
    let last = progress.history.len();
    let data = progress.history.iter().rev().map(|epoch| {
        let step = per_epoch * u64::from(epoch.epoch);
        let is_last = epoch.epoch as usize == last && record.state == JobState::Succeeded;
        json!({
            "object": "fine_tuning.job.checkpoint",
            "id": format!("ftckpt-{}-{}", record.id.trim_start_matches("job-"), epoch.epoch),
            "created_at": record.ended_ms.or(record.started_ms).unwrap_or(record.created_ms) / 1_000,
            "fine_tuned_model_checkpoint":
                if is_last { format!("{}@{}", record.model.name, record.version) } else { String::new() },
            "step_number": step,
            "metrics": {
                "step": step,
                "train_loss": number(&epoch.metrics, "loss"),
                "train_mean_token_accuracy": number(&epoch.metrics, "accuracy"),
                "full_valid_loss": number(&epoch.metrics, "val_loss"),
                "full_valid_mean_token_accuracy": number(&epoch.metrics, "val_accuracy"),
            },
            "fine_tuning_job_id": record.id,
        })
    });
    let data: Vec<Value> = data.collect();
    let is_seen = |one: &Value| after.as_deref().is_some_and(|after| one["id"] == after);
    let begin = data.iter().position(is_seen).map_or(0, |at| at + 1);
    let rest = &data[begin..];
    let shown = &rest[..rest.len().min(limit)];
    Ok(page(shown.to_vec(), rest.len() > shown.len()))
}
