//! The generate extension: text in, text out, without a word about tensors.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use innkeeper_predict::Deployment;
use innkeeper_tensor::{DType, Named, TensorSpec};
use serde_json::value::RawValue;

use super::{Bad, data, is_the_servers, json_input};
use crate::app::{Exchange, offload};
use crate::call;
use crate::error::Failure;
use crate::journal::Entry;
use crate::reply::{JSON, Reply, with_type};
use crate::route::Target;

const TEXT_IN: &str = "text_input";
const TEXT_OUT: &str = "text_output";
/// What infer takes about a request's turn.
const TURN: [&str; 5] = ["sequence_id", "sequence_start", "sequence_end", "priority", "timeout"];
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// How the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One JSON object.
    Whole,
    /// Server-sent events, each a JSON object. A model answers a request once, and so there is one.
    Events,
}

/// A request, as far as it needs no model.
#[derive(Debug, Default)]
struct Request {
    id: Option<String>,
    inputs: Vec<Named>,
    parameters: Vec<(String, String)>,
}

/// `POST /v2/models/{m}[/versions/{v}]/generate` and `generate_stream`
pub(crate) async fn generate(
    at: Exchange<'_>,
    target: Target<'_>,
    form: Form,
    incoming: &mut Incoming,
    entry: &mut Entry,
) -> Result<Reply, Failure> {
    let choice = call::choose(at, target, entry)?;
    let deployment = Arc::clone(&choice.deployment);
    check_signature(&deployment)?;
    let held = call::body(at, Some(&deployment), incoming).await?;
    let (bytes, for_model) = (held.bytes.clone(), Arc::clone(&deployment));
    let request = offload(bytes.len(), move || read(&bytes, &for_model)).await??;
    let Request { id, inputs, parameters } = request;
    let own_id = id.clone().unwrap_or_else(|| entry.id().to_owned());
    let timeline = entry.timeline();
    let predicted =
        call::predict(at, choice, own_id, parameters, inputs, Vec::new(), timeline).await?;
    let json = print(&deployment, id.as_deref(), &predicted.outputs)?;
    Ok(match form {
        Form::Whole => with_type(StatusCode::OK, JSON, json.into()),
        Form::Events => {
            let event = [&b"data: "[..], &json, b"\n\n"].concat();
            with_type(StatusCode::OK, EVENTS, event.into())
        }
    })
}

fn check_signature(deployment: &Deployment) -> Result<(), Failure> {
    let has = |specs: &[TensorSpec], name: &str| {
        specs.iter().any(|spec| spec.name == name && spec.dtype == DType::Bytes)
    };
    let signature = &deployment.signature;
    if has(&signature.inputs, TEXT_IN) && has(&signature.outputs, TEXT_OUT) {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "model {:?} cannot generate: that wants an input {TEXT_IN:?} and an output {TEXT_OUT:?} of BYTES; use infer",
        deployment.model.name.as_str()
    )))
}

fn read(bytes: &[u8], deployment: &Deployment) -> Result<Request, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Failure::bad_request("the body is not JSON: it is not UTF-8"))?;
    let fields = json_input::fields(text).map_err(|bad| bad.at("body"))?;
    let mut request = Request::default();
    let mut values = Vec::new();
    for (key, value) in &fields {
        let spec = deployment.signature.inputs.iter().find(|spec| spec.name == *key);
        match (spec, key.as_str()) {
            (Some(spec), _) => values.push((spec, value.get())),
            (None, "id") => {
                let id = serde_json::from_str(value.get());
                request.id = Some(id.map_err(|error| Bad::new(error.to_string()).at("id"))?);
            }
            (None, "parameters") => {
                for (key, value) in
                    json_input::fields(value.get()).map_err(|bad| bad.at("parameters"))?
                {
                    request.parameters.push(parameter(&key, value)?);
                }
            }
            (None, key) => request.parameters.push(parameter(key, value)?),
        }
    }
    request.inputs = inputs(&values)?;
    Ok(request)
}

fn parameter(key: &str, value: &RawValue) -> Result<(String, String), Failure> {
    let short: String = key.chars().take(64).collect();
    if is_the_servers(key) || TURN.contains(&key) {
        return Err(Failure::bad_request(format!("{short}: this parameter is not served here")));
    }
    if value.get().starts_with(['{', '[']) {
        return Err(Failure::bad_request(format!(
            "{short}: the model has no such input, and a parameter is a string, a number or a boolean"
        )));
    }
    Ok((key.to_owned(), value.get().to_owned()))
}

/// A value has the shape that its input says, with a size of 1 before what it has itself.
fn inputs(values: &[(&TensorSpec, &str)]) -> Result<Vec<Named>, Bad> {
    let nested: Vec<(&TensorSpec, String)> = values
        .iter()
        .map(|(spec, value)| {
            let rank = spec.shape.as_ref().map_or(1, Vec::len);
            let own = json_input::rank(value).min(rank);
            let (open, close) = ("[".repeat(rank - own), "]".repeat(rank - own));
            (*spec, format!("{open}{value}{close}"))
        })
        .collect();
    let values: Vec<(&TensorSpec, &str)> =
        nested.iter().map(|(spec, value)| (*spec, value.as_str())).collect();
    json_input::read(&values)
}

/// The answer; an output of one element stands there as that element.
fn print(deployment: &Deployment, id: Option<&str>, outputs: &[Named]) -> Result<Vec<u8>, Bad> {
    let mut json = b"{".to_vec();
    if let Some(id) = id {
        json.extend_from_slice(b"\"id\":");
        data::print_string(&mut json, id);
        json.push(b',');
    }
    json.extend_from_slice(b"\"model_name\":");
    data::print_string(&mut json, deployment.model.name.as_str());
    json.extend_from_slice(b",\"model_version\":");
    data::print_string(&mut json, deployment.version.as_str());
    for output in outputs {
        json.push(b',');
        data::print_string(&mut json, &output.name);
        json.push(b':');
        let mut value = Vec::new();
        data::encode(&output.tensor, &mut value).map_err(|bad| bad.at(&output.name))?;
        let is_single = output.tensor.shape().elements() == 1;
        json.extend_from_slice(if is_single { &value[1..value.len() - 1] } else { &value });
    }
    json.push(b'}');
    Ok(json)
}
