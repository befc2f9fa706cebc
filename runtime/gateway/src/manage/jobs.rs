//! Jobs: asked for, looked at, told what to do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, HeaderValue};
use innkeeper_catalog::{JobEvent, JobRecord, ModelKey, Scope};
use innkeeper_train::{Progress, Request};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{json_body, no_query, segment};
use crate::app::{App, Exchange};
use crate::error::Failure;
use crate::query::Query;
use crate::reply::{Payload, Reply, json, json_as, with_type};
use crate::serve::Phase;

/// Events, and jobs, in one answer.
const LISTED_MAX: u32 = 1_000;
/// A stream without events says so often that it is there.
const STILL_THERE: Duration = Duration::from_secs(15);
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

#[derive(Serialize)]
struct Job<'a> {
    id: &'a str,
    state: &'static str,
    model: &'a str,
    version: &'a str,
    request: Option<Box<RawValue>>,
    progress: Progress,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
    created_ms: i64,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
}

fn told(record: &JobRecord) -> Job<'_> {
    let raw =
        |text: &Option<String>| text.clone().and_then(|text| RawValue::from_string(text).ok());
    Job {
        id: &record.id,
        state: record.state.as_str(),
        model: record.model.name.as_str(),
        version: record.version.as_str(),
        request: RawValue::from_string(record.request.clone()).ok(),
        progress: serde_json::from_str(&record.progress).unwrap_or_default(),
        result: raw(&record.result),
        error: raw(&record.error),
        created_ms: record.created_ms,
        started_ms: record.started_ms,
        ended_ms: record.ended_ms,
    }
}

/// `POST /api/v1/jobs`
pub(super) async fn submit(at: Exchange<'_>, body: &mut Incoming) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let request: Request = json_body(at, body).await?;
    let record = at.app.jobs.submit(&at.caller.tenant, request).await?;
    Ok(json_as(StatusCode::CREATED, &told(&record)))
}

/// `GET /api/v1/jobs?before=&max=`: the newest first.
pub(super) async fn list(at: Exchange<'_>) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Jobs<'a> {
        jobs: Vec<Job<'a>>,
        /// What to ask for next, as `before`; none when there is no more.
        next: Option<i64>,
    }
    at.caller.require(Scope::Publish)?;
    let query = Query::read(at.parts.uri.query(), &["before", "max"])?;
    let before = query.one("before")?.unwrap_or(i64::MAX);
    let max = query.one("max")?.unwrap_or(100).clamp(1, LISTED_MAX);
    let records = at.app.catalog.jobs(&at.caller.tenant, before, max).await?;
    let next = records.last().filter(|_| records.len() == max as usize).map(|job| job.sequence);
    Ok(json(&Jobs { jobs: records.iter().map(told).collect(), next }))
}

/// `GET /api/v1/jobs/{j}`
pub(super) async fn show(at: Exchange<'_>, job: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let id: String = segment(job)?;
    Ok(json(&told(&at.app.catalog.job(&at.caller.tenant, &id).await?)))
}

/// What a job can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pause,
    Resume,
    Cancel,
}

/// `POST /api/v1/jobs/{j}/pause`, `resume`, `cancel`
pub(super) async fn tell(at: Exchange<'_>, job: &str, act: Act) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let (id, tenant, jobs): (String, _, _) = (segment(job)?, &at.caller.tenant, &at.app.jobs);
    let record = match act {
        Act::Pause => jobs.pause(tenant, &id).await?,
        Act::Resume => jobs.resume(tenant, &id).await?,
        Act::Cancel => jobs.cancel(tenant, &id).await?,
    };
    Ok(json_as(StatusCode::ACCEPTED, &told(&record)))
}

/// `GET /api/v1/models/{m}/versions/{v}/hyperparameters`
pub(super) async fn hyperparameters(
    at: Exchange<'_>,
    model: &str,
    slot: &str,
) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Known {
        hyperparameters: Vec<Value>,
    }
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let (key, slot) =
        (ModelKey::new(at.caller.tenant.clone(), segment(model)?), segment::<String>(slot)?);
    let hyperparameters = at.app.jobs.hyperparameters(&key, Some(&slot)).await?;
    Ok(json(&Known { hyperparameters }))
}

#[derive(Serialize)]
struct Event<'a> {
    sequence: i64,
    at_ms: i64,
    kind: &'a str,
    data: Option<Box<RawValue>>,
}

fn event(event: &JobEvent) -> Event<'_> {
    let data = RawValue::from_string(event.data.clone()).ok();
    Event { sequence: event.sequence, at_ms: event.at_ms, kind: &event.kind, data }
}

/// `GET /api/v1/jobs/{j}/events?after=`: what happened so far, or, to whoever accepts `text/event-stream`, that and what
/// happens from then on, until the job ends. `Last-Event-ID` goes on where a stream broke off.
pub(super) async fn events(at: Exchange<'_>, job: &str) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Events<'a> {
        events: Vec<Event<'a>>,
    }
    at.caller.require(Scope::Publish)?;
    let query = Query::read(at.parts.uri.query(), &["after"])?;
    let id: String = segment(job)?;
    let record = at.app.catalog.job(&at.caller.tenant, &id).await?;
    let header = |name: &str| at.parts.headers.get(name).and_then(|value| value.to_str().ok());
    let seen = header("last-event-id").and_then(|id| id.parse().ok());
    let after = query.one("after")?.or(seen).unwrap_or(0);
    if !header(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream")) {
        let events = at.app.jobs.events(&id, after, LISTED_MAX).await?;
        return Ok(json(&Events { events: events.iter().map(event).collect() }));
    }
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(stream(Arc::clone(at.app), record, after, sender));
    let mut reply = with_type(StatusCode::OK, EVENTS, Payload::stream(receiver));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

/// Sends a job's events until it ends, the caller leaves, or the server stops.
async fn stream(app: Arc<App>, record: JobRecord, mut after: i64, sender: mpsc::Sender<Bytes>) {
    let (id, tenant) = (record.id, record.model.owner);
    // Before the first look, so that nothing comes between the two.
    let mut watch = app.jobs.watch(&id);
    let mut phase = app.phase.subscribe();
    loop {
        let ended = app.catalog.job(&tenant, &id).await.map_or(true, |job| job.state.has_ended());
        let Ok(events) = app.jobs.events(&id, after, LISTED_MAX).await else { return };
        for one in &events {
            after = one.sequence;
            let text = format!("id: {}\nevent: {}\ndata: {}\n\n", one.sequence, one.kind, one.data);
            if sender.send(text.into()).await.is_err() {
                return;
            }
        }
        if events.len() == LISTED_MAX as usize {
            continue;
        }
        if ended {
            return;
        }
        tokio::select! {
            () = watch.changed() => {}
            () = tokio::time::sleep(STILL_THERE) => {
                if sender.send(Bytes::from_static(b": still there\n\n")).await.is_err() {
                    return;
                }
            }
            () = sender.closed() => return,
            () = async { drop(phase.wait_for(|phase| !matches!(phase, Phase::Serve)).await) } => return,
        }
    }
}
