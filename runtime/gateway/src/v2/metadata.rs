//! What the server and its models say about themselves.

use innkeeper_predict::{Endpoint, Predictor};
use innkeeper_tensor::{Signature, TensorSpec};
use serde::Serialize;

use crate::GatewayConfig;
use crate::error::Failure;
use crate::gate::Caller;
use crate::model_config::PLATFORM;
use crate::reply::{Reply, json};

/// What is served of the protocol's extensions.
pub(crate) const EXTENSIONS: [&str; 9] = [
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
];

#[derive(Serialize)]
struct Server<'a> {
    name: &'a str,
    version: &'a str,
    extensions: &'a [&'a str],
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    versions: Vec<&'a str>,
    platform: &'a str,
    inputs: Vec<Spec<'a>>,
    outputs: Vec<Spec<'a>>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    properties: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Spec<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: Vec<i64>,
}

/// `GET /v2`
pub(crate) fn server(config: &GatewayConfig) -> Reply {
    json(&Server { name: &config.name, version: &config.version, extensions: &EXTENSIONS })
}

/// `GET /v2/models`
pub(crate) fn models(predictor: &Predictor, caller: &Caller, owner: &str) -> Reply {
    #[derive(Serialize)]
    struct Models<'a> {
        models: Vec<&'a str>,
    }
    let endpoints = predictor.endpoints(&caller.tenant, owner);
    json(&Models { models: endpoints.iter().map(|endpoint| endpoint.key.name.as_str()).collect() })
}

/// `GET /v2/models/{m}[/versions/{v}]`
pub(crate) fn model(endpoint: &Endpoint, slot: Option<&str>) -> Result<Reply, Failure> {
    let deployment = endpoint.resolve(slot)?;
    let signature = &deployment.signature;
    let properties = signature.properties.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
    Ok(json(&Model {
        name: endpoint.key.name.as_str(),
        versions: endpoint.versions.iter().map(|version| version.version.as_str()).collect(),
        platform: platform(signature),
        inputs: signature.inputs.iter().map(spec).collect(),
        outputs: signature.outputs.iter().map(spec).collect(),
        properties: properties.collect(),
    }))
}

/// `GET /v2/models/{m}[/versions/{v}]/ready`
pub(crate) fn model_ready(endpoint: &Endpoint, slot: Option<&str>) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Ready<'a> {
        name: &'a str,
        ready: bool,
    }
    endpoint.resolve(slot)?;
    Ok(json(&Ready { name: endpoint.key.name.as_str(), ready: true }))
}

/// What a model is shown as.
pub(crate) fn platform(signature: &Signature) -> &str {
    let own = signature.properties.iter().find(|(key, _)| key == "platform");
    own.map_or(PLATFORM, |(_, platform)| platform.as_str())
}

fn spec(spec: &TensorSpec) -> Spec<'_> {
    Spec { name: &spec.name, datatype: spec.dtype.name(), shape: spec.wire_shape() }
}
