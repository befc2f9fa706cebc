//! What the models are.

use innkeeper_predict::{Deployment, Endpoint};
use innkeeper_tensor::{DType, TensorSpec};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::app::Exchange;
use crate::error::Failure;
use crate::reply::{Reply, json};

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

/// The same model as TensorFlow Serving and KServe V1 show it beside.
#[derive(Serialize)]
struct Both<'a> {
    #[serde(flatten)]
    model: Model<'a>,
    name: &'a str,
    ready: bool,
    model_version_status: Vec<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    version: &'a str,
    state: &'static str,
    status: Good,
}

#[derive(Serialize)]
struct Good {
    error_code: &'static str,
    error_message: &'static str,
}

fn model(endpoint: &Endpoint) -> Model<'_> {
    Model {
        id: endpoint.key.name.as_str(),
        object: "model",
        created: endpoint.versions.first().map_or(0, |version| version.created_ms / 1_000),
        owned_by: endpoint.key.owner.as_str(),
    }
}

fn version_status(deployment: &Deployment) -> Status<'_> {
    let status = Good { error_code: "OK", error_message: "" };
    Status { version: deployment.version.as_str(), state: "AVAILABLE", status }
}

/// `GET /v1/models`
pub(crate) fn list(at: Exchange<'_>, owner: &str) -> Reply {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Model<'a>>,
    }
    let endpoints = at.app.predictor.endpoints(&at.caller.tenant, owner);
    let served = endpoints.iter().filter(|endpoint| !endpoint.is_unloaded);
    json(&List { object: "list", data: served.map(|endpoint| model(endpoint)).collect() })
}

/// `GET /v1/models/{m}`
pub(crate) fn show(endpoint: &Endpoint) -> Result<Reply, Failure> {
    endpoint.resolve(None)?;
    Ok(json(&Both {
        model: model(endpoint),
        name: endpoint.key.name.as_str(),
        ready: true,
        model_version_status: endpoint.versions.iter().map(|v| version_status(v)).collect(),
    }))
}

/// `GET /v1/models/{m}/versions/{v}` and `/labels/{l}`
pub(crate) fn status(endpoint: &Endpoint, slot: Option<&str>) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Answer<'a> {
        model_version_status: [Status<'a>; 1],
    }
    let deployment = endpoint.resolve(slot)?;
    Ok(json(&Answer { model_version_status: [version_status(deployment)] }))
}

/// `GET /v1/models/{m}[/versions/{v}|/labels/{l}]/metadata`
pub(crate) fn metadata(endpoint: &Endpoint, slot: Option<&str>) -> Result<Reply, Failure> {
    let deployment = endpoint.resolve(slot)?;
    let signature = &deployment.signature;
    Ok(json(&serde_json::json!({
        "model_spec": {
            "name": deployment.model.name.as_str(),
            "signature_name": "",
            "version": deployment.version.as_str(),
        },
        "metadata": {"signature_def": {"signature_def": {"serving_default": {
            "inputs": tensors(&signature.inputs),
            "outputs": tensors(&signature.outputs),
            "method_name": "tensorflow/serving/predict",
        }}}},
    })))
}

fn tensors(specs: &[TensorSpec]) -> Map<String, Value> {
    let tensor = |spec: &TensorSpec| {
        let dims = spec.shape.iter().flatten().map(|dim| {
            let size = dim.map_or("-1".to_owned(), |size| size.to_string());
            serde_json::json!({"size": size, "name": ""})
        });
        let dims: Vec<Value> = dims.collect();
        serde_json::json!({
            "dtype": dtype_name(spec.dtype),
            "tensor_shape": {"dim": dims, "unknown_rank": spec.shape.is_none()},
            "name": spec.name,
        })
    };
    specs.iter().map(|spec| (spec.name.clone(), tensor(spec))).collect()
}

/// The name of a dtype in TensorFlow.
fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "DT_BOOL",
        DType::Uint8 => "DT_UINT8",
        DType::Uint16 => "DT_UINT16",
        DType::Uint32 => "DT_UINT32",
        DType::Uint64 => "DT_UINT64",
        DType::Int8 => "DT_INT8",
        DType::Int16 => "DT_INT16",
        DType::Int32 => "DT_INT32",
        DType::Int64 => "DT_INT64",
        DType::Fp16 => "DT_HALF",
        DType::Bf16 => "DT_BFLOAT16",
        DType::Fp32 => "DT_FLOAT",
        DType::Fp64 => "DT_DOUBLE",
        DType::Bytes => "DT_STRING",
    }
}
