//! The model repository extension: which models there are, and loading and unloading them. It is the same for every
//! protocol. A tenant's repository is its namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use innkeeper_catalog::{ModelKey, ModelName, Scope, TenantName, VersionName};
use innkeeper_deploy::{Compatibility, DeployRequest, Source};
use innkeeper_predict::{Deployment, Endpoint, Predictor};
use serde_json::Value;

use crate::app::App;
use crate::error::Failure;
use crate::gate::Caller;
use crate::model_config;

/// What the names of parameters with files begin with.
const FILE_PREFIX: &str = "file:";

/// One version as the index shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) version: String,
    /// `READY`, `UNLOADING` or `UNAVAILABLE`.
    pub(crate) state: &'static str,
    /// Why it is not ready.
    pub(crate) reason: &'static str,
}

/// A model to load, as protocols send it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// What the model's configuration is to be, in JSON.
    pub(crate) config: Option<String>,
    /// Files to publish, under `VERSION/NAME`.
    pub(crate) files: Vec<(String, Bytes)>,
}

impl Load {
    /// Whether a parameter of this name holds a file, and under which path.
    pub(crate) fn file_path(parameter: &str) -> Option<&str> {
        parameter.strip_prefix(FILE_PREFIX)
    }
}

/// Every version that `caller` may see in the namespace of `owner`; with `ready_only`, those that are served.
pub(crate) fn index(
    predictor: &Predictor,
    caller: &TenantName,
    owner: &str,
    ready_only: bool,
) -> Vec<Entry> {
    let endpoints = predictor.endpoints(caller, owner);
    let versions = endpoints.iter().flat_map(|endpoint| {
        endpoint.versions.iter().map(|deployment| entry(endpoint, deployment))
    });
    versions.filter(|entry| !ready_only || entry.state == "READY").collect()
}

fn entry(endpoint: &Endpoint, deployment: &Deployment) -> Entry {
    let in_flight = |deployment: &Deployment| {
        deployment.statistics().iter().any(|(_, counted)| counted.waiting + counted.running > 0)
    };
    let (state, reason) = match endpoint.is_unloaded {
        false => ("READY", ""),
        true if in_flight(deployment) => ("UNLOADING", "predictions go to their end"),
        true => ("UNAVAILABLE", "unloaded"),
    };
    let (name, version) = (endpoint.key.name.to_string(), deployment.version.to_string());
    Entry { name, version, state, reason }
}

/// Loads a model of the caller's own, after publishing the files that came along. When this is done the model is in
/// memory and served.
///
/// # Errors
/// 403 without the scope `publish`; 400 for a configuration that says something else than the model itself, and for
/// files that make no version; 404; whatever publishing and loading say.
pub(crate) async fn load(
    app: &Arc<App>,
    caller: &Caller,
    model: &str,
    load: Load,
) -> Result<(), Failure> {
    caller.require(Scope::Publish)?;
    let model: ModelName = parsed(model)?;
    let key = ModelKey::new(caller.tenant.clone(), model);
    let config = load.config.as_deref().map(parse_config).transpose()?;
    if load.files.is_empty() {
        if let Some(config) = &config {
            let endpoint =
                app.predictor.endpoint(&key.owner, key.owner.as_str(), key.name.as_str())?;
            let deployment = endpoint.kept(None)?;
            let limits = app.predictor.limits(&key.owner).lowered(&deployment.limits);
            let is = model_config::of(deployment, limits.requests_in_flight_max);
            check_config(config, &serde_json::to_value(is).map_err(Failure::internal)?)?;
        }
    } else {
        let config = config.ok_or_else(|| {
            Failure::bad_request("files want the parameter \"config\" beside them; \"{}\" will do")
        })?;
        check_config(&config, &config_of_files(&key.name))?;
        publish(app, &key, load.files).await?;
    }
    Ok(app.deployer.load(&key).await?)
}

/// Unloads a model of the caller's own: new predictions find it no more, those that run go to their end.
///
/// # Errors
/// 403 without the scope `publish`; 404. A model that is unloaded already is no error.
pub(crate) async fn unload(app: &Arc<App>, caller: &Caller, model: &str) -> Result<(), Failure> {
    caller.require(Scope::Publish)?;
    let key = ModelKey::new(caller.tenant.clone(), parsed(model)?);
    Ok(app.deployer.unload(&key).await?)
}

/// What is said to whoever would load or unload a model of somebody else's.
pub(crate) fn not_the_owner() -> Failure {
    let text = "models are loaded and unloaded by their owners";
    Failure::new(StatusCode::NOT_FOUND, "not_found", text)
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Failure::bad_request(error.to_string()))
}

type Config = serde_json::Map<String, Value>;

fn parse_config(text: &str) -> Result<Config, Failure> {
    let problem = |what: String| Failure::bad_request(format!("the parameter \"config\": {what}"));
    match serde_json::from_str(text) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(problem("wanted a JSON object".into())),
        Err(error) => Err(problem(format!("not JSON: {error}"))),
    }
}

/// A model's configuration follows from its signature and its manifest, so that a caller's can only say the same.
fn check_config(asked: &Config, is: &Value) -> Result<(), Failure> {
    for (key, value) in asked {
        if is.get(key) != Some(value) && !is_left_open(value) {
            let key: String = key.chars().take(64).collect();
            return Err(Failure::bad_request(format!(
                "the parameter \"config\" sets {key:?}, which cannot be set here: a model's configuration follows from \
                 its signature and its innkeeper.toml; leave the key out"
            )));
        }
    }
    Ok(())
}

/// What says nothing in protobuf's JSON.
fn is_left_open(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What is known of a model before its files are looked at.
fn config_of_files(model: &ModelName) -> Value {
    serde_json::json!({
        "name": model.as_str(),
        "backend": model_config::BACKEND,
        "platform": model_config::PLATFORM,
        "version_policy": {"all": {}},
    })
}

/// Publishes each version that the files make.
async fn publish(
    app: &Arc<App>,
    key: &ModelKey,
    files: Vec<(String, Bytes)>,
) -> Result<(), Failure> {
    let mut versions: BTreeMap<VersionName, Vec<(String, Bytes)>> = BTreeMap::new();
    for (path, bytes) in files {
        let (version, name) = path.split_once('/').ok_or_else(|| {
            let path: String = path.chars().take(128).collect();
            Failure::bad_request(format!("wanted file:VERSION/NAME, got file:{path}"))
        })?;
        versions.entry(parsed(version)?).or_default().push((name.to_owned(), bytes));
    }
    let sources = versions.into_iter().map(|(version, files)| Ok((version, source(files)?)));
    // All of them are looked at before the first is published.
    for (version, source) in sources.collect::<Result<Vec<_>, Failure>>()? {
        let (tenant, model) = (key.owner.clone(), key.name.clone());
        let (aliases, compatibility) = (Vec::new(), Compatibility::default());
        let request = DeployRequest { tenant, model, version, aliases, compatibility, source };
        app.deployer.deploy(request).await?;
    }
    Ok(())
}

/// The files of one version: a bundle alone, or a component and its assets.
fn source(mut files: Vec<(String, Bytes)>) -> Result<Source, Failure> {
    let with = |ending: &str| files.iter().filter(|(name, _)| name.ends_with(ending)).count();
    match (with(".bundle"), with(".wasm"), files.len()) {
        (1, 0, 1) => Ok(Source::Bundle(files.remove(0).1)),
        (0, 1, _) => {
            let at = files.iter().position(|(name, _)| name.ends_with(".wasm")).unwrap_or(0);
            let (_, component) = files.remove(at);
            Ok(Source::Component(component, files))
        }
        _ => Err(Failure::bad_request(
            "a version is one NAME.bundle alone, or one NAME.wasm and its assets; other formats become bundles by \
             `innkeeper build` and `innkeeper import`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_can_only_say_what_is() {
        let is = serde_json::json!({"name": "m", "max_batch_size": 0, "input": [{"name": "A"}]});
        let check = |text: &str| {
            let config = parse_config(text).map_err(|failure| failure.message)?;
            check_config(&config, &is).map_err(|failure| failure.message)
        };
        for good in ["{}", r#"{"name": "m"}"#, r#"{"input": [{"name": "A"}], "backend": ""}"#] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            (r#"{"max_batch_size": 8}"#, "\"max_batch_size\", which cannot be set"),
            (r#"{"instance_group": [{"count": 2}]}"#, "instance_group"),
            ("[]", "a JSON object"),
            ("{", "not JSON"),
        ] {
            assert!(check(bad).unwrap_err().contains(text), "{bad}");
        }
    }

    #[test]
    fn a_version_is_a_bundle_or_a_component_with_assets() {
        let files = |names: &[&str]| {
            let files = names.iter().map(|name| ((*name).to_owned(), Bytes::new()));
            source(files.collect()).map_err(|failure| failure.status.as_u16())
        };
        assert!(matches!(files(&["m.bundle"]), Ok(Source::Bundle(_))));
        let component = files(&["labels.txt", "model.wasm"]);
        assert!(
            matches!(component, Ok(Source::Component(_, assets)) if assets[0].0 == "labels.txt")
        );
        for bad in [&["model.onnx"][..], &["a.wasm", "b.wasm"], &["m.bundle", "labels.txt"], &[]] {
            assert!(matches!(files(bad), Err(400)), "{bad:?}");
        }
    }
}
