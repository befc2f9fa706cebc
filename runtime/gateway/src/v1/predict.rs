//! `POST /v1/models/{m}[/versions/{v}|/labels/{l}]:predict`, by rows (`instances`) or by columns (`inputs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use innkeeper_predict::Deployment;
use innkeeper_tensor::{Named, Signature, TensorSpec};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::app::{Exchange, offload};
use crate::call;
use crate::coding;
use crate::error::Failure;
use crate::journal::Entry;
use crate::reply::{JSON, Reply, with_type};
use crate::route::Target;
use crate::v2::{self, Bad};

/// The one signature that a model has here.
const SIGNATURE: &str = "serving_default";

/// How tensors are laid out, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One item for each row.
    Rows,
    /// One tensor for each name.
    Columns,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(default)]
    signature_name: Option<String>,
    #[serde(default, borrow)]
    instances: Option<&'a RawValue>,
    #[serde(default, borrow)]
    inputs: Option<&'a RawValue>,
}

/// Answers a prediction.
pub(crate) async fn predict(
    at: Exchange<'_>,
    target: Target<'_>,
    incoming: &mut Incoming,
    entry: &mut Entry,
) -> Result<Reply, Failure> {
    let choice = call::choose(at, target, entry)?;
    let deployment = Arc::clone(&choice.deployment);
    let held = call::body(at, Some(&deployment), incoming).await?;
    let (bytes, for_model) = (held.bytes.clone(), Arc::clone(&deployment));
    let read = offload(bytes.len(), move || read(&bytes, &for_model.signature)).await??;
    let (layout, inputs) = read;
    let id = entry.id().to_owned();
    let timeline = entry.timeline();
    let predicted = call::predict(at, choice, id, Vec::new(), inputs, Vec::new(), timeline).await?;
    let bytes = predicted.outputs.iter().map(|output| output.tensor.as_bytes().len()).sum();
    let print = move || print(layout, &deployment, &predicted.outputs);
    let json = offload(bytes, print).await??;
    let reply = with_type(StatusCode::OK, JSON, json.into());
    coding::deflate(coding::accepted(&at.parts.headers), reply).await
}

fn read(bytes: &[u8], signature: &Signature) -> Result<(Layout, Vec<Named>), Failure> {
    let body: Body<'_> = serde_json::from_slice(bytes)
        .map_err(|error| Failure::bad_request(format!("the body does not read: {error}")))?;
    if let Some(name) = body.signature_name.filter(|name| !name.is_empty() && name != SIGNATURE) {
        let name: String = name.chars().take(64).collect();
        return Err(Failure::bad_request(format!(
            "there is no signature {name:?}; a model has one, {SIGNATURE:?}"
        )));
    }
    match (body.instances, body.inputs) {
        (Some(rows), None) => Ok((Layout::Rows, by_rows(rows.get(), signature)?)),
        (None, Some(columns)) => Ok((Layout::Columns, by_columns(columns.get(), signature)?)),
        _ => Err(Failure::bad_request("send either \"instances\" or \"inputs\"")),
    }
}

/// Each item is the value of the one input, or an object with a value for each input.
fn by_rows(text: &str, signature: &Signature) -> Result<Vec<Named>, Bad> {
    if !text.starts_with('[') {
        return Err(Bad::new("wanted a list of rows").at("instances"));
    }
    if !text[1..].trim_start().starts_with('{') {
        let spec = the_input(signature).map_err(|bad| bad.at("instances"))?;
        return v2::read_json(&[(spec, text)]);
    }
    let rows = v2::items(text);
    let mut columns: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let fields = v2::fields(row).map_err(|bad| bad.at_index(index).at("instances"))?;
        for (name, value) in fields {
            let column = columns.entry(name).or_default();
            // A row before has left it out.
            if column.len() == index {
                column.push(value.get());
            }
        }
    }
    if let Some((name, _)) = columns.iter().find(|(_, column)| column.len() != rows.len()) {
        let name: String = name.chars().take(64).collect();
        return Err(Bad::new(format!("{name:?} is not in every row")).at("instances"));
    }
    let columns: Vec<(String, String)> = columns
        .into_iter()
        .map(|(name, values)| (name, format!("[{}]", values.join(","))))
        .collect();
    named(columns.iter().map(|(name, text)| (name.as_str(), text.as_str())), signature)
}

/// The value of the one input, or an object with a value for each input.
fn by_columns(text: &str, signature: &Signature) -> Result<Vec<Named>, Bad> {
    if !text.starts_with('{') {
        let spec = the_input(signature).map_err(|bad| bad.at("inputs"))?;
        return v2::read_json(&[(spec, text)]);
    }
    let columns = v2::fields(text).map_err(|bad| bad.at("inputs"))?;
    named(columns.iter().map(|(name, value)| (name.as_str(), value.get())), signature)
}

fn the_input(signature: &Signature) -> Result<&TensorSpec, Bad> {
    match &signature.inputs[..] {
        [only] => Ok(only),
        inputs => Err(Bad::new(format!(
            "the model has {} inputs; send an object with a value for each name",
            inputs.len()
        ))),
    }
}

fn named<'a>(
    values: impl Iterator<Item = (&'a str, &'a str)>,
    signature: &Signature,
) -> Result<Vec<Named>, Bad> {
    let with_specs = values.map(|(name, text)| {
        let spec = signature.inputs.iter().find(|spec| spec.name == name);
        let short: String = name.chars().take(64).collect();
        Ok((spec.ok_or_else(|| Bad::new(format!("the model has no input {short:?}")))?, text))
    });
    v2::read_json(&with_specs.collect::<Result<Vec<_>, Bad>>()?)
}

/// One output stands there without its name.
fn print(layout: Layout, deployment: &Deployment, outputs: &[Named]) -> Result<Vec<u8>, Failure> {
    let texts = outputs.iter().map(|output| {
        let mut text = Vec::new();
        v2::encode_nested(&output.tensor, &mut text).map_err(|bad| bad.at(&output.name))?;
        // What was encoded is JSON, and so UTF-8.
        Ok((output.name.as_str(), String::from_utf8(text).unwrap_or_default()))
    });
    let texts = texts.collect::<Result<Vec<(&str, String)>, Bad>>()?;
    let text = match (layout, &texts[..]) {
        (Layout::Columns, [(_, only)]) => format!("{{\"outputs\":{only}}}"),
        (Layout::Columns, all) => {
            let all = object(all.iter().map(|(name, text)| (*name, text.as_str())));
            format!("{{\"outputs\":{all}}}")
        }
        (Layout::Rows, all) => format!("{{\"predictions\":{}}}", rows(all, deployment)?),
    };
    Ok(text.into_bytes())
}

fn rows(outputs: &[(&str, String)], deployment: &Deployment) -> Result<String, Failure> {
    if deployment.signature.batch_axis != Some(0) {
        return Err(Failure::bad_request(
            "the model does not stack requests, so that its answer has no rows; send \"inputs\" instead of \"instances\"",
        ));
    }
    if let [(_, only)] = outputs {
        return Ok(only.clone());
    }
    let columns: Vec<Vec<&str>> = outputs.iter().map(|(_, text)| v2::items(text)).collect();
    let count = columns.first().map_or(0, Vec::len);
    let rows = (0..count).map(|row| {
        let values = columns.iter().map(|column| column.get(row).copied().unwrap_or("null"));
        object(outputs.iter().map(|(name, _)| *name).zip(values))
    });
    Ok(format!("[{}]", rows.collect::<Vec<_>>().join(",")))
}

fn object<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let fields = fields.map(|(name, text)| format!("{}:{text}", serde_json::Value::from(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::DType;

    use super::*;

    fn check(body: &str) -> Result<Vec<(String, Vec<usize>)>, String> {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.into(),
            dtype,
            shape: None,
            optional: false,
        };
        let inputs = vec![spec("a", DType::Fp32), spec("b", DType::Bytes)];
        let signature = Signature { inputs, ..Signature::default() };
        let (_, inputs) = read(body.as_bytes(), &signature).map_err(|failure| failure.message)?;
        let shape = |named: &Named| named.tensor.shape().dims().to_vec();
        Ok(inputs.iter().map(|named| (named.name.clone(), shape(named))).collect())
    }

    #[test]
    fn rows_and_columns_come_to_the_same() {
        let wanted = Ok(vec![("a".to_owned(), vec![2, 1]), ("b".to_owned(), vec![2])]);
        assert_eq!(check(r#"{"inputs": {"a": [[1],[2]], "b": ["x", "y"]}}"#), wanted);
        let rows = r#"{"signature_name": "serving_default",
            "instances": [{"a": [1], "b": "x"}, {"b": "y", "a": [2]}]}"#;
        assert_eq!(check(rows), wanted);
    }

    #[test]
    fn what_does_not_read_is_told() {
        for (body, wanted) in [
            ("{}", "either"),
            (r#"{"instances": [], "inputs": []}"#, "either"),
            (r#"{"instances": [1], "x": 1}"#, "unknown field"),
            (r#"{"instances": [1]}"#, "2 inputs"),
            (r#"{"instances": 1}"#, "list of rows"),
            (r#"{"instances": [{"a": 1}, {"b": "x"}]}"#, "not in every row"),
            (r#"{"inputs": {"c": 1}}"#, "no input \"c\""),
            (r#"{"inputs": {"b": [{"b64": "eA=="}]}}"#, "base64"),
            (r#"{"inputs": {}, "signature_name": "other"}"#, "no signature \"other\""),
            ("[", "does not read"),
        ] {
            let error = check(body).unwrap_err();
            assert!(error.contains(wanted), "{body}: {error}");
        }
    }
}
