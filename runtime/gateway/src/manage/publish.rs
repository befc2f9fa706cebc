//! `POST /api/v1/models/{m}/versions/{v}`

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use innkeeper_catalog::{AliasName, ModelName, Published, Scope, VersionName};
use innkeeper_deploy::{Compatibility, DeployRequest, Deployed, Source};
use serde::Serialize;

use super::segment;
use super::traffic::compatibility;
use crate::app::Exchange;
use crate::body::{self, Parts};
use crate::error::Failure;
use crate::query::Query;
use crate::reply::{Reply, json_as};

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    version: &'a str,
    digest: String,
    /// `published`, or `unchanged` when it was there with the same bytes.
    outcome: &'a str,
    aliases: Vec<&'a str>,
    created_ms: i64,
    /// Where to call it.
    infer: String,
    /// Where its interface is described.
    interface: String,
}

enum Kind {
    Bundle,
    Component,
}

/// Publishes a version. 201 when it is new, 200 when it was there with the same bytes.
pub(super) async fn publish(
    at: Exchange<'_>,
    model: &str,
    version: &str,
    incoming: &mut Incoming,
) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let model: ModelName = segment(model)?;
    let version: VersionName = segment(version)?;
    let (aliases, compatibility) = aliases(at)?;
    let kind = kind(at)?;

    let bytes = read(at, incoming).await?;
    let source = match kind {
        Kind::Bundle => Source::Bundle(bytes.bytes.clone()),
        Kind::Component => Source::Component(bytes.bytes.clone(), Vec::new()),
    };
    let tenant = at.caller.tenant.clone();
    let wanted = aliases.clone();
    let request = DeployRequest { tenant, model, version, aliases: wanted, compatibility, source };
    let deployed = at.app.deployer.deploy(request).await?;
    Ok(answer(&deployed, &aliases))
}

/// The aliases that the version is to take, and whether it may break those who call by them.
fn aliases(at: Exchange<'_>) -> Result<(Vec<AliasName>, Compatibility), Failure> {
    let query = Query::read(at.parts.uri.query(), &["alias", "force"])?;
    let mut aliases = Vec::new();
    for text in query.all("alias") {
        let alias: AliasName = text.parse().map_err(|error: innkeeper_catalog::NameError| {
            Failure::bad_request(error.to_string())
        })?;
        if !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    Ok((aliases, compatibility(query.one("force")?.unwrap_or(false))))
}

fn kind(at: Exchange<'_>) -> Result<Kind, Failure> {
    let headers = &at.parts.headers;
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Failure::unsupported_type(
            "a bundle is sent as it is, without a Content-Encoding",
        ));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Kind::Bundle) };
    match value.to_str().unwrap_or("?").split(';').next().unwrap_or("").trim() {
        "application/x-tar" | "application/octet-stream" => Ok(Kind::Bundle),
        "application/wasm" => Ok(Kind::Component),
        _ => Err(Failure::unsupported_type(
            "Content-Type must be application/x-tar for a bundle or application/wasm for a component",
        )),
    }
}

async fn read(at: Exchange<'_>, incoming: &mut Incoming) -> Result<body::Held, Failure> {
    let config = &at.app.config;
    let upload_bytes_max = at.app.predictor.limits(&at.caller.tenant).upload_bytes_max;
    let (limit, max) = if upload_bytes_max <= config.bundle_bytes_max {
        ("upload_bytes_max", upload_bytes_max)
    } else {
        ("bundle_bytes_max", config.bundle_bytes_max)
    };
    let read = body::read(
        Parts::new(incoming, config.body_idle_ms),
        limit,
        max,
        &at.app.budget.of(&at.caller.tenant),
    )
    .await;
    read.map_err(|mut failure| {
        if failure.status == StatusCode::PAYLOAD_TOO_LARGE {
            failure.message +=
                "; leave assets out of the bundle and send them through /api/v1/uploads first";
        }
        failure
    })
}

fn answer(deployed: &Deployed, aliases: &[AliasName]) -> Reply {
    let record = &deployed.record;
    let (owner, model, version) = (&record.model.owner, &record.model.name, &record.version);
    let (status, outcome) = match deployed.outcome {
        Published::New => (StatusCode::CREATED, "published"),
        Published::Same => (StatusCode::OK, "unchanged"),
    };
    json_as(
        status,
        &Answer {
            model: model.as_str(),
            version: version.as_str(),
            digest: record.digest.to_string(),
            outcome,
            aliases: aliases.iter().map(AliasName::as_str).collect(),
            created_ms: record.created_ms,
            infer: format!("/t/{owner}/v2/models/{model}/versions/{version}/infer"),
            interface: format!("/t/{owner}/api/v1/models/{model}/versions/{version}/interface"),
        },
    )
}
