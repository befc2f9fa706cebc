//! The model repository extension.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body;
use crate::app::{Exchange, offload};
use crate::error::Failure;
use crate::query;
use crate::reply::{Reply, json};
use crate::repository::{self, Load};

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    version: &'a str,
    state: &'a str,
    reason: &'a str,
}

/// `POST /v2/repository/index`
pub(crate) async fn index(
    at: Exchange<'_>,
    owner: Option<&str>,
    incoming: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[serde(default)]
        ready: bool,
    }
    let Body { ready } = body::settings(at, incoming).await?;
    let caller = &at.caller.tenant;
    let found =
        repository::index(&at.app.predictor, caller, owner.unwrap_or(caller.as_str()), ready);
    let entries = found.iter().map(|entry| Entry {
        name: &entry.name,
        version: &entry.version,
        state: entry.state,
        reason: entry.reason,
    });
    Ok(json(&entries.collect::<Vec<_>>()))
}

/// `POST /v2/repository/models/{m}/load`: answered when the model is loaded.
pub(crate) async fn load(
    at: Exchange<'_>,
    owner: Option<&str>,
    model: &str,
    incoming: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Answer<'a> {
        name: &'a str,
        load: bool,
    }
    let model = own(at, owner, model)?;
    let limits = at.app.predictor.limits(&at.caller.tenant);
    let bytes_max = limits.upload_bytes_max.min(at.app.config.bundle_bytes_max);
    // Base64 makes four bytes of three.
    let mut held =
        body::read(at, incoming, "bundle_bytes_max", bytes_max / 3 * 4 + (64 << 10)).await?;
    // The files are held beside the body that they came in, as text and as bytes.
    let len = held.bytes.len();
    held.cover(3 * len)?;
    let bytes = held.bytes.clone();
    let load = offload(len, move || read_load(&bytes)).await??;
    repository::load(at.app, at.caller, &model, load).await?;
    Ok(json(&Answer { name: &model, load: true }))
}

fn read_load(bytes: &bytes::Bytes) -> Result<Load, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[serde(default)]
        parameters: BTreeMap<String, Value>,
    }
    let Body { parameters } = body::parse(bytes)?;
    let mut load = Load::default();
    for (name, value) in parameters {
        let short: String = name.chars().take(128).collect();
        let Value::String(text) = value else {
            return Err(Failure::bad_request(format!("the parameter {short:?} must be a string")));
        };
        if let Some(path) = Load::file_path(&name) {
            let file = STANDARD.decode(text).map_err(|error| {
                Failure::bad_request(format!("the parameter {short:?} is not base64: {error}"))
            })?;
            load.files.push((path.to_owned(), file.into()));
        } else if name == "config" {
            load.config = Some(text);
        } else {
            return Err(Failure::bad_request(format!(
                "unknown parameter {short:?}; loading takes config and file:VERSION/NAME"
            )));
        }
    }
    Ok(load)
}

/// `POST /v2/repository/models/{m}/unload`: answered when it has begun; the index says when it is done.
pub(crate) async fn unload(
    at: Exchange<'_>,
    owner: Option<&str>,
    model: &str,
    incoming: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[serde(default, rename = "parameters")]
        _parameters: Parameters,
    }
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Parameters {
        /// No model has dependents here, so that both values come to the same.
        #[serde(default, rename = "unload_dependents")]
        _unload_dependents: bool,
    }
    #[derive(Serialize)]
    struct Answer<'a> {
        name: &'a str,
        unload: bool,
    }
    let model = own(at, owner, model)?;
    body::settings::<Body>(at, incoming).await?;
    repository::unload(at.app, at.caller, &model).await?;
    Ok(json(&Answer { name: &model, unload: true }))
}

/// The name of a model of the caller's own.
fn own(at: Exchange<'_>, owner: Option<&str>, model: &str) -> Result<String, Failure> {
    let model = query::decode(model).unwrap_or(model.into()).into_owned();
    match owner {
        Some(owner) if owner != at.caller.tenant.as_str() => Err(repository::not_the_owner()),
        _ => Ok(model),
    }
}
