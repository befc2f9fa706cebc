//! Data to learn from.

use hyper::StatusCode;
use hyper::body::Incoming;
use innkeeper_catalog::{DatasetName, DatasetRecord, Scope};
use innkeeper_train::{DatasetFacts, DatasetOptions};
use serde::Serialize;

use super::{no_query, segment};
use crate::app::Exchange;
use crate::body::Parts;
use crate::error::Failure;
use crate::query::Query;
use crate::reply::{Reply, empty, json, json_as};

/// Columns in a list of datasets; all are shown of one by itself.
const COLUMNS_LISTED_MAX: usize = 20;

#[derive(Serialize)]
pub(crate) struct Dataset {
    name: String,
    /// What the file that was sent hashes to.
    digest: String,
    created_ms: i64,
    format: String,
    columns_total: usize,
    #[serde(flatten)]
    facts: DatasetFacts,
}

pub(crate) fn told(record: &DatasetRecord, columns_max: usize) -> Result<Dataset, Failure> {
    let mut facts = DatasetFacts::of(record)?;
    let options: DatasetOptions =
        serde_json::from_str(&record.options).map_err(Failure::internal)?;
    let columns_total = facts.columns.len();
    facts.columns.truncate(columns_max);
    Ok(Dataset {
        name: record.name.to_string(),
        digest: record.source.to_string(),
        created_ms: record.created_ms,
        format: options.format,
        columns_total,
        facts,
    })
}

/// `GET /api/v1/datasets`
pub(super) async fn list(at: Exchange<'_>) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Datasets {
        datasets: Vec<Dataset>,
    }
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let records = at.app.catalog.datasets(&at.caller.tenant).await?;
    let datasets = records.iter().map(|record| told(record, COLUMNS_LISTED_MAX));
    Ok(json(&Datasets { datasets: datasets.collect::<Result<_, _>>()? }))
}

/// `GET /api/v1/datasets/{d}`
pub(super) async fn show(at: Exchange<'_>, dataset: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let name: DatasetName = segment(dataset)?;
    let record = at.app.catalog.dataset(&at.caller.tenant, &name).await?;
    Ok(json(&told(&record, usize::MAX)?))
}

/// `POST /api/v1/datasets/{d}?format=csv&header=true&delimiter=,&column=NAME:DTYPE`: the body is the file.
pub(super) async fn create(
    at: Exchange<'_>,
    dataset: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let name: DatasetName = segment(dataset)?;
    let options = options(at)?;
    let mut parts = Parts::new(body, at.app.config.body_idle_ms);
    let mut received = at.app.jobs.receive(&at.caller.tenant)?;
    while let Some(part) = parts.next().await? {
        received = received.push(part).await.map_err(|error| Failure::from(error).closing())?;
    }
    let tenant = &at.caller.tenant;
    let (record, is_new) = at.app.jobs.create_dataset(tenant, &name, &options, received).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_as(status, &told(&record, COLUMNS_LISTED_MAX)?))
}

fn options(at: Exchange<'_>) -> Result<DatasetOptions, Failure> {
    let query = Query::read(at.parts.uri.query(), &["format", "header", "delimiter", "column"])?;
    let format: Option<String> = query.one("format")?;
    let format = format.ok_or_else(|| {
        Failure::bad_request("say how to read it: ?format=csv, npy, npz, parquet or jsonl")
            .closing()
    })?;
    let mut options = DatasetOptions {
        format,
        header: query.one("header")?.unwrap_or(true),
        delimiter: query.one("delimiter")?.unwrap_or(','),
        columns: Default::default(),
        filename: None,
    };
    for column in query.all("column") {
        let (name, dtype) = column.rsplit_once(':').ok_or_else(|| {
            Failure::bad_request("column says a name, a colon and a dtype, such as age:FP32")
        })?;
        options.columns.insert(name.to_owned(), dtype.to_owned());
    }
    Ok(options)
}

/// `DELETE /api/v1/datasets/{d}`
pub(super) async fn delete(at: Exchange<'_>, dataset: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let name: DatasetName = segment(dataset)?;
    at.app.jobs.delete_dataset(&at.caller.tenant, &name).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
