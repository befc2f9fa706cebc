//! `POST /v1/embeddings`, as OpenAI has it, for models that declare the task `text-embedding`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use innkeeper_predict::Deployment;
use innkeeper_tensor::{DType, Named, Tensor, TensorSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::app::{Exchange, offload};
use crate::call;
use crate::coding;
use crate::error::Failure;
use crate::journal::Entry;
use crate::model_config::property;
use crate::reply::{Reply, json};
use crate::route::Target;
use crate::v2;

/// What a model's property `task` says that embeds text.
const TASK: &str = "text-embedding";
/// Texts in one request.
const TEXTS_MAX: usize = 2_048;
/// The output that says how many tokens each text has, if the model has it.
const TOKENS: &str = "TOKENS";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    model: String,
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(default)]
    encoding_format: Format,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    user: Option<String>,
}

/// A request, read.
struct Asked {
    model: String,
    texts: Tensor,
    format: Format,
    dimensions: Option<usize>,
    user: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Float,
    Base64,
}

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Item>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Embedding,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embedding {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// Answers the vectors of texts. A model of another tenant's is `owner/model`.
pub(crate) async fn embeddings(
    at: Exchange<'_>,
    owner: Option<&str>,
    incoming: &mut Incoming,
    entry: &mut Entry,
) -> Result<Reply, Failure> {
    let held = call::body(at, None, incoming).await?;
    let bytes = held.bytes.clone();
    let asked = offload(held.bytes.len(), move || read(&bytes)).await??;
    let Asked { model, texts, format, dimensions, user } = asked;
    let (owner, name) = match model.split_once('/') {
        Some((owner, name)) => (Some(owner), name),
        None => (owner, model.as_str()),
    };
    // Names are plain in JSON, and a path's are not: what would be decoded names nothing.
    let target = Target { owner, model: name, slot: None };
    let choice = call::choose(at, target, entry)?;
    let deployment = Arc::clone(&choice.deployment);
    let (text_in, vectors_out) = signature(&deployment)?;
    let input = Named { name: text_in.name.clone(), tensor: texts };
    let wants = wanted(&deployment, vectors_out);
    let vectors_out = vectors_out.name.clone();
    let user = user.map(|user| ("user".to_owned(), Value::from(user).to_string()));
    let id = entry.id().to_owned();
    let parameters = user.into_iter().collect();
    let timeline = entry.timeline();
    let predicted = call::predict(at, choice, id, parameters, vec![input], wants, timeline).await?;

    let output = |name: &str| predicted.outputs.iter().find(|output| output.name == name);
    let vectors = output(&vectors_out).ok_or_else(|| Failure::internal("an output is missing"))?;
    let tokens = output(TOKENS).map_or(Ok(0), |tokens| sum(&tokens.tensor))?;
    let data = items(&vectors.tensor, format, dimensions)?;
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    let reply = json(&Answer { object: "list", data, model: &model, usage });
    coding::deflate(coding::accepted(&at.parts.headers), reply).await
}

/// The input for texts and the output with their vectors.
fn signature(deployment: &Deployment) -> Result<(&TensorSpec, &TensorSpec), Failure> {
    let signature = &deployment.signature;
    let inputs: Vec<&TensorSpec> = signature.inputs.iter().filter(|i| !i.optional).collect();
    let vectors = signature.outputs.iter().find(|output| output.dtype == DType::Fp32);
    match (&inputs[..], vectors) {
        ([text], Some(vectors))
            if property(deployment, "task") == Some(TASK) && text.dtype == DType::Bytes =>
        {
            Ok((text, vectors))
        }
        _ => Err(Failure::bad_request(format!(
            "model {:?} embeds no text: that wants the property task = {TASK:?}, one input of BYTES and an output of FP32",
            deployment.model.name.as_str()
        ))),
    }
}

fn wanted(deployment: &Deployment, vectors: &TensorSpec) -> Vec<String> {
    let has_tokens = deployment.signature.outputs.iter().any(|output| output.name == TOKENS);
    let tokens = has_tokens.then(|| TOKENS.to_owned());
    [vectors.name.clone()].into_iter().chain(tokens).collect()
}

fn read(bytes: &[u8]) -> Result<Asked, Failure> {
    let Body { model, input, encoding_format, dimensions, user } = serde_json::from_slice(bytes)
        .map_err(|error| Failure::bad_request(format!("the body does not read: {error}")))?;
    let texts = texts(input.get())?;
    Ok(Asked { model, texts, format: encoding_format, dimensions, user })
}

fn texts(input: &str) -> Result<Tensor, Failure> {
    let number = || {
        let message = format!("input: wanted 1 to {TEXTS_MAX} texts, none of them empty");
        Failure::bad_request(message)
    };
    // Counted before they take any memory.
    if v2::commas(input) >= TEXTS_MAX {
        return Err(number());
    }
    let read = match input.starts_with('"') {
        true => serde_json::from_str(input).map(|text| vec![text]),
        false => serde_json::from_str::<Vec<String>>(input),
    };
    let texts = read.map_err(|_| {
        Failure::bad_request(
            "input: wanted a text or a list of texts; tokens are not taken, since models here cut texts themselves",
        )
    })?;
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(number());
    }
    let tensor = Tensor::from_strings(&[texts.len()], &texts);
    tensor.map_err(|error| Failure::bad_request(format!("input: {error}")))
}

fn items(
    vectors: &Tensor,
    format: Format,
    dimensions: Option<usize>,
) -> Result<Vec<Item>, Failure> {
    let width = vectors.shape().dims().last().copied().unwrap_or(0).max(1);
    if dimensions.is_some_and(|wanted| wanted != width) {
        let message = format!("dimensions: the model's vectors have {width} and are not shortened");
        return Err(Failure::bad_request(message));
    }
    let floats = vectors.elements::<f32>().map_err(Failure::internal)?;
    let item = |(index, vector): (usize, &[f32])| {
        let embedding = match format {
            Format::Float => Embedding::Floats(vector.to_vec()),
            Format::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                Embedding::Base64(STANDARD.encode(bytes))
            }
        };
        Item { object: "embedding", index, embedding }
    };
    Ok(floats.chunks(width).enumerate().map(item).collect())
}

fn sum(tokens: &Tensor) -> Result<u64, Failure> {
    let count = match tokens.dtype() {
        DType::Int32 => {
            tokens.elements::<i32>().map(|all| all.iter().map(|&n| i64::from(n)).sum::<i64>())
        }
        _ => tokens.elements::<i64>().map(|all| all.iter().sum::<i64>()),
    };
    let count =
        count.map_err(|error| Failure::internal(format!("the output {TOKENS}: {error}")))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
