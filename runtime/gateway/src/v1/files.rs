//! `/v1/files`, as OpenAI has it: each file is a dataset.

use std::str::FromStr;

use futures_util::stream;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use innkeeper_catalog::{DatasetName, DatasetRecord, JobRecord, Scope};
use innkeeper_train::{DatasetFacts, DatasetOptions, Progress, Received};
use multer::{Constraints, Field, Multipart, SizeLimit};
use serde::Serialize;

use crate::app::Exchange;
use crate::body::Parts;
use crate::error::Failure;
use crate::query::Query;
use crate::reply::{Reply, json, with_type};

/// What the id of a file that a job made begins with; its job's id follows.
const RESULT: &str = "result-";
/// Bytes of a field beside the file.
const FIELD_BYTES_MAX: u64 = 4 << 10;

#[derive(Serialize)]
struct File {
    id: String,
    object: &'static str,
    bytes: u64,
    created_at: i64,
    filename: String,
    purpose: &'static str,
    status: &'static str,
}

fn told(record: &DatasetRecord) -> Result<File, Failure> {
    let facts = DatasetFacts::of(record)?;
    let options: DatasetOptions =
        serde_json::from_str(&record.options).map_err(Failure::internal)?;
    let name = record.name.to_string();
    Ok(File {
        filename: options.filename.unwrap_or_else(|| format!("{name}.{}", options.format)),
        id: name,
        object: "file",
        bytes: facts.bytes,
        created_at: record.created_ms / 1_000,
        purpose: "fine-tune",
        status: "processed",
    })
}

fn name(id: &str) -> Result<DatasetName, Failure> {
    DatasetName::from_str(id).map_err(|error| Failure::bad_request(error.to_string()))
}

/// `POST /v1/files`: a form with the fields `purpose` and `file`.
pub(crate) async fn create(at: Exchange<'_>, body: &mut Incoming) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let content_type = at.parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = content_type.and_then(|text| multer::parse_boundary(text).ok());
    let boundary = boundary.ok_or_else(|| {
        Failure::unsupported_type("a file comes as multipart/form-data, with its boundary")
    })?;
    let upload_bytes_max = at.app.predictor.limits(&at.caller.tenant).upload_bytes_max;
    let limits = SizeLimit::new()
        .whole_stream(upload_bytes_max.saturating_add(1 << 20))
        .for_field("purpose", FIELD_BYTES_MAX);
    let parts = Parts::new(body, at.app.config.body_idle_ms);
    let stream = Box::pin(stream::try_unfold(parts, |mut parts| async move {
        let part = parts.next().await.map_err(|failure| failure.message)?;
        Ok::<_, String>(part.map(|part| (part, parts)))
    }));
    let mut form =
        Multipart::with_constraints(stream, boundary, Constraints::new().size_limit(limits));
    let (mut purpose, mut file) = (None, None);
    while let Some(field) = form.next_field().await.map_err(wrong)? {
        match field.name() {
            Some("purpose") => purpose = Some(field.text().await.map_err(wrong)?),
            Some("file") if file.is_none() => file = Some(received(at, field).await?),
            other => {
                let other: String = other.unwrap_or_default().chars().take(64).collect();
                return Err(Failure::bad_request(format!(
                    "the form has a field {other:?}; purpose and file are taken, once each"
                ))
                .closing());
            }
        }
    }
    if purpose.as_deref() != Some("fine-tune") {
        return Err(Failure::bad_request(
            "purpose must be \"fine-tune\": files are data to learn from",
        ));
    }
    let (filename, received) =
        file.ok_or_else(|| Failure::bad_request("the form has no field file"))?;
    let options = options(filename)?;
    let name = name(&format!("file-{}", received.short_digest()))?;
    let (record, _) =
        at.app.jobs.create_dataset(&at.caller.tenant, &name, &options, received).await?;
    Ok(json(&told(&record)?))
}

async fn received(at: Exchange<'_>, mut field: Field<'_>) -> Result<(String, Received), Failure> {
    let filename = field.file_name().unwrap_or("data.jsonl").chars().take(200).collect();
    let mut received = at.app.jobs.receive(&at.caller.tenant)?;
    while let Some(chunk) = field.chunk().await.map_err(wrong)? {
        received = received.push(chunk).await.map_err(|error| Failure::from(error).closing())?;
    }
    Ok((filename, received))
}

fn options(filename: String) -> Result<DatasetOptions, Failure> {
    let format = filename.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
    let known = ["csv", "npy", "npz", "parquet", "jsonl"];
    let format = format.filter(|format| known.contains(&format.as_str())).ok_or_else(|| {
        Failure::bad_request(format!(
            "{filename:?} does not say its format; a name ends in .jsonl, .csv, .npy, .npz or .parquet"
        ))
    })?;
    Ok(DatasetOptions {
        format,
        header: true,
        delimiter: ',',
        columns: Default::default(),
        filename: Some(filename),
    })
}

fn wrong(error: multer::Error) -> Failure {
    match error {
        multer::Error::StreamSizeExceeded { limit }
        | multer::Error::FieldSizeExceeded { limit, .. } => {
            Failure::too_large("upload_bytes_max", limit)
        }
        error => Failure::bad_request(format!("the form cannot be read: {error}")).closing(),
    }
}

/// `GET /v1/files`
pub(crate) async fn list(at: Exchange<'_>) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct List {
        object: &'static str,
        data: Vec<File>,
        has_more: bool,
    }
    at.caller.require(Scope::Publish)?;
    let query = Query::read(at.parts.uri.query(), &["after", "limit", "order", "purpose"])?;
    let limit = query.one::<u32>("limit")?.map_or(usize::MAX, |limit| limit as usize);
    let after = query.one::<String>("after")?;
    let mut records = at.app.catalog.datasets(&at.caller.tenant).await?;
    records.sort_by_key(|record| record.created_ms);
    match query.one::<String>("order")?.as_deref() {
        None | Some("desc") => records.reverse(),
        Some("asc") => {}
        Some(_) => return Err(Failure::bad_request("order: wanted asc or desc")),
    }
    let is_seen = |record: &&DatasetRecord| Some(record.name.as_str()) == after.as_deref();
    let begin = records.iter().position(|record| is_seen(&record)).map_or(0, |at| at + 1);
    // Every dataset is for that.
    let is_asked = query.one::<String>("purpose")?.is_none_or(|purpose| purpose == "fine-tune");
    let rest = if is_asked { &records[begin..] } else { &[] };
    let shown = &rest[..rest.len().min(limit)];
    let data = shown.iter().map(told).collect::<Result<_, _>>()?;
    Ok(json(&List { object: "list", data, has_more: rest.len() > shown.len() }))
}

/// `GET /v1/files/{f}`
pub(crate) async fn show(at: Exchange<'_>, id: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    if let Some(job) = id.strip_prefix(RESULT) {
        let record = at.app.catalog.job(&at.caller.tenant, job).await?;
        return Ok(json(&File {
            id: id.to_owned(),
            object: "file",
            bytes: numbers(&record).len() as u64,
            created_at: record.ended_ms.unwrap_or(record.created_ms) / 1_000,
            filename: "epochs.csv".into(),
            purpose: "fine-tune-results",
            status: "processed",
        }));
    }
    let record = at.app.catalog.dataset(&at.caller.tenant, &name(id)?).await?;
    Ok(json(&told(&record)?))
}

/// `GET /v1/files/{f}/content`: the numbers of a job's epochs as CSV. What was sent is kept as the host reads it, and not
/// as it came.
pub(crate) async fn content(at: Exchange<'_>, id: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let Some(job) = id.strip_prefix(RESULT) else {
        at.app.catalog.dataset(&at.caller.tenant, &name(id)?).await?;
        return Err(Failure::unsupported(
            "a file that was sent is kept as rows, and cannot be had back as it came",
        ));
    };
    let record = at.app.catalog.job(&at.caller.tenant, job).await?;
    let csv = numbers(&record).into_bytes();
    Ok(with_type(StatusCode::OK, HeaderValue::from_static("text/csv"), csv.into()))
}

/// The numbers of a job's epochs as CSV.
fn numbers(record: &JobRecord) -> String {
    let progress: Progress = serde_json::from_str(&record.progress).unwrap_or_default();
    let names: std::collections::BTreeSet<&String> =
        progress.history.iter().flat_map(|epoch| epoch.metrics.keys()).collect();
    let mut csv = String::from("epoch");
    for name in &names {
        // A trainer's names are its own: what would end a cell stays out.
        let plain: String =
            name.chars().filter(|c| !matches!(c, ',' | '"') && !c.is_control()).collect();
        csv += &format!(",{plain}");
    }
    for epoch in &progress.history {
        csv += &format!("\n{}", epoch.epoch);
        for name in &names {
            let value = epoch.metrics.get(*name).map(f64::to_string);
            csv += &format!(",{}", value.unwrap_or_default());
        }
    }
    csv + "\n"
}

/// `DELETE /v1/files/{f}`
pub(crate) async fn delete(at: Exchange<'_>, id: &str) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Deleted<'a> {
        id: &'a str,
        object: &'static str,
        deleted: bool,
    }
    at.caller.require(Scope::Publish)?;
    at.app.jobs.delete_dataset(&at.caller.tenant, &name(id)?).await?;
    Ok(json(&Deleted { id, object: "file", deleted: true }))
}
