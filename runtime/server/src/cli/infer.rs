//! One inference over the Open Inference Protocol, with every tensor as binary data, so that no number changes on its
//! way.

use anyhow::{Context, Result, bail};
use innkeeper_tensor::{Buffer, DType, Named, Shape, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, segment};
use super::input::{Inputs, Spec};
use super::values;

pub(super) const HEADER_LENGTH: &str = "inference-header-content-length";
pub(super) const OCTETS: &str = "application/octet-stream";

/// A model as a caller names it: `[OWNER/]MODEL[@VERSION]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelRef {
    pub(super) owner: Option<String>,
    pub(super) model: String,
    pub(super) version: Option<String>,
}

impl ModelRef {
    pub(super) fn parse(text: &str) -> ModelRef {
        let (owner, rest) = match text.split_once('/') {
            Some((owner, rest)) => (Some(owner.to_owned()), rest),
            None => (None, text),
        };
        let (model, version) = match rest.split_once('@') {
            Some((model, version)) => (model.to_owned(), Some(version.to_owned())),
            None => (rest.to_owned(), None),
        };
        ModelRef { owner, model, version }
    }

    /// Where the protocol has it.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        if let Some(owner) = &self.owner {
            path += &format!("/t/{}", segment(owner));
        }
        path += &format!("/v2/models/{}", segment(&self.model));
        if let Some(version) = &self.version {
            path += &format!("/versions/{}", segment(version));
        }
        path
    }
}

/// What a model says about itself.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) inputs: Vec<Spec>,
    pub(super) outputs: Vec<Spec>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The answer without the data of its tensors.
    pub(super) head: Value,
    pub(super) outputs: Vec<Named>,
}

pub(super) fn metadata(client: &Client, model: &ModelRef) -> Result<Metadata> {
    client.get(&model.path())
}

pub(super) fn infer(client: &Client, model: &ModelRef, inputs: &Inputs) -> Result<Outcome> {
    let (head, body) = encode(inputs);
    let headers = [("content-type", OCTETS), (HEADER_LENGTH, &head.to_string())];
    let path = format!("{}/infer", model.path());
    let answer = client.send(Method::POST, &path, &headers, body)?.success()?;
    let head = answer.headers.get(HEADER_LENGTH).and_then(|value| value.to_str().ok());
    let head = match head {
        Some(text) => text.parse().with_context(|| format!("{HEADER_LENGTH} is {text:?}"))?,
        None => answer.body.len(),
    };
    decode(&answer.body, head).context("the server's answer cannot be read")
}

/// The length of the JSON, and the body with it.
pub(super) fn encode(inputs: &Inputs) -> (usize, Vec<u8>) {
    let tensors: Vec<Value> = inputs
        .tensors
        .iter()
        .map(|Named { name, tensor }| {
            json!({
                "name": name,
                "datatype": tensor.dtype().name(),
                "shape": tensor.shape().dims(),
                "parameters": { "binary_data_size": tensor.as_bytes().len() },
            })
        })
        .collect();
    let mut parameters = inputs.parameters.clone().unwrap_or_else(|| json!({}));
    parameters["binary_data_output"] = Value::Bool(true);
    let mut request = json!({ "inputs": tensors, "parameters": parameters });
    if let Some(id) = &inputs.id {
        request["id"] = Value::String(id.clone());
    }
    if !inputs.outputs.is_empty() {
        request["outputs"] = inputs.outputs.iter().map(|name| json!({ "name": name })).collect();
    }
    let mut body = request.to_string().into_bytes();
    let head = body.len();
    for Named { tensor, .. } in &inputs.tensors {
        body.extend_from_slice(tensor.as_bytes());
    }
    (head, body)
}

/// A tensor in the JSON of an answer.
#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    #[serde(default)]
    parameters: OutputParameters,
    data: Option<Value>,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    binary_data_size: Option<usize>,
}

fn decode(body: &[u8], head: usize) -> Result<Outcome> {
    let Some((head, mut rest)) = body.split_at_checked(head) else {
        bail!("it has {} bytes, and {head} of JSON alone were promised", body.len());
    };
    let mut head: Value = serde_json::from_slice(head)?;
    let listed = Vec::<Output>::deserialize(head["outputs"].take())?;
    let mut outputs = Vec::with_capacity(listed.len());
    for Output { name, datatype, shape, parameters, data } in listed {
        let dtype: DType = datatype.parse()?;
        let tensor = match (parameters.binary_data_size, data) {
            (Some(size), _) => {
                let Some((bytes, after)) = rest.split_at_checked(size) else {
                    bail!("it ends within the output {name:?}");
                };
                rest = after;
                Tensor::new(dtype, Shape::new(&shape)?, Buffer::aligned_copy(bytes))?
            }
            (None, Some(data)) => values::shaped(&name, dtype, &shape, &data)?,
            (None, None) => bail!("the output {name:?} has no data"),
        };
        outputs.push(Named { name, tensor });
    }
    if !rest.is_empty() {
        bail!("{} bytes are left over", rest.len());
    }
    if let Some(head) = head.as_object_mut() {
        head.remove("outputs");
    }
    Ok(Outcome { head, outputs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let cases = [
            ("digits", "/v2/models/digits"),
            ("digits@stable", "/v2/models/digits/versions/stable"),
            ("acme/digits@1.0", "/t/acme/v2/models/digits/versions/1.0"),
        ];
        for (text, wanted) in cases {
            assert_eq!(ModelRef::parse(text).path(), wanted);
        }
    }

    #[test]
    fn what_is_encoded_can_be_decoded() {
        let tensors = vec![
            Named {
                name: "A".into(),
                tensor: Tensor::from_vec(&[2], vec![1f32, f32::NAN]).unwrap(),
            },
            Named { name: "B".into(), tensor: Tensor::from_strings(&[1], &["x"]).unwrap() },
        ];
        let inputs = Inputs { tensors: tensors.clone(), ..Inputs::default() };
        let (head, body) = encode(&inputs);
        // A request's inputs look like an answer's outputs.
        let text =
            String::from_utf8(body[..head].to_vec()).unwrap().replace("\"inputs\"", "\"outputs\"");
        let answer = [text.as_bytes(), &body[head..]].concat();
        let outcome = decode(&answer, text.len()).unwrap();
        for (got, wanted) in outcome.outputs.iter().zip(&tensors) {
            assert_eq!(got, wanted);
        }
    }

    #[test]
    fn broken_answers_are_told() {
        let output =
            r#"{"name":"A","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}"#;
        let json = format!("{{\"outputs\":[{output}]}}");
        let check = |body: String, head: usize, wanted: &str| {
            let error = decode(body.as_bytes(), head).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        };
        check(json.clone(), json.len() + 1, "were promised");
        check(format!("{json}abc"), json.len(), "ends within the output \"A\"");
        check(format!("{json}abcde"), json.len(), "1 bytes are left over");
        check(json.replace("parameters", "other"), json.len() - 5, "no data");
    }
}
