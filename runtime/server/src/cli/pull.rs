//! `innkeeper pull`: a version's bundle, as it was published.

use std::path::Path;

use anyhow::{Context, Result};
use innkeeper_deploy::bundle::Bundle;
use serde_json::Value;

use super::args::{Host, Pull};
use super::client::{Client, segment};
use super::infer::ModelRef;
use super::tenants::{array, text};
use super::{models, output, push};
use crate::failure::{Code, Failure};

/// A bundle, and the model on the server that it is of, if it came from there.
pub(super) struct Origin {
    pub(super) bundle: Bundle,
    pub(super) served: Option<String>,
}

pub(super) fn run(host: &Host, args: &Pull) -> Result<()> {
    let (model, version, bundle) = fetch(host, &args.model)?;
    let name = || format!("{model}-{version}.bundle").into();
    let out = args.out.clone().unwrap_or_else(name);
    push::write(&bundle, &out)
}

/// The bundle in a file of this name, or else of this model.
pub(super) fn origin(host: &Host, source: &str) -> Result<Origin> {
    let path = Path::new(source);
    // Whoever writes a path means a file.
    if path.exists() || source.contains('/') || path.extension().is_some_and(|end| end == "bundle")
    {
        return Ok(Origin { bundle: push::read(path)?, served: None });
    }
    let (model, version, mut bundle) = fetch(host, source)?;
    bundle.manifest.version = Some(version);
    Ok(Origin { bundle, served: Some(model) })
}

fn fetch(host: &Host, source: &str) -> Result<(String, String, Bundle)> {
    let client = Client::new(host)?;
    let ModelRef { model, version, .. } = models::own(source)?;
    let known: Value = client.get(&format!("/api/v1/models/{}", segment(&model)))?;
    let newest = || array(&known["versions"]).last().map(|version| text(&version["version"]));
    let stable = || known["aliases"]["stable"].as_str().map(str::to_owned);
    let slot = version
        .or_else(stable)
        .or_else(newest)
        .ok_or_else(|| Failure::new(Code::Failed, format!("{model} has no version")))?;
    let version = known["aliases"][&slot].as_str().unwrap_or(&slot).to_owned();
    let path = format!("/api/v1/models/{}/versions/{}/bundle", segment(&model), segment(&version));
    let spinner = output::spinner(&format!("fetching {model}@{version}"));
    let answer = client.send(ureq::http::Method::GET, &path, &[], ());
    spinner.finish_and_clear();
    let bundle = push::of_bytes(answer?.success()?.body);
    Ok((model, version, bundle.context("what the server sent is no bundle")?))
}
