//! What `--input` may say, made into tensors.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use innkeeper_tensor::{DType, Named, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::{array, values};
use crate::failure::Failure;

/// Bytes of JSON from a file or standard input.
const JSON_BYTES_MAX: u64 = 1 << 30;

/// A tensor of a model's metadata.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
}

/// What one request is made of.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) tensors: Vec<Named>,
    /// The request's id and parameters, where a whole request was given.
    pub(super) id: Option<String>,
    pub(super) parameters: Option<Value>,
    /// Names of outputs, where a whole request listed some.
    pub(super) outputs: Vec<String>,
}

/// Reads every `--input`.
pub(super) fn read(texts: &[String], specs: &[Spec]) -> Result<Inputs> {
    let mut inputs = Inputs::default();
    for text in texts {
        one(text, specs, &mut inputs).with_context(|| format!("--input {}", short(text)))?;
    }
    inputs.tensors.iter().try_for_each(|given| check_dtype(given, specs))?;
    Ok(inputs)
}

fn one(text: &str, specs: &[Spec], inputs: &mut Inputs) -> Result<()> {
    if is_json(text) || text == "-" {
        return json(&source(text)?, specs, inputs);
    }
    match text.split_once('=') {
        Some((name, from)) => {
            let tensor = if from.ends_with(".npy") {
                array::npy(Path::new(from))?
            } else {
                values::nested(name, dtype(name, specs)?, &parse(&source(from)?)?)?
            };
            inputs.tensors.push(Named { name: name.to_owned(), tensor });
        }
        None if text.ends_with(".npz") => {
            for (name, tensor) in array::npz(Path::new(text))? {
                inputs.tensors.push(Named { name, tensor });
            }
        }
        None if text.ends_with(".npy") => {
            let tensor = array::npy(Path::new(text))?;
            inputs.tensors.push(Named { name: only(specs)?.name.clone(), tensor });
        }
        None => json(&source(text)?, specs, inputs)?,
    }
    Ok(())
}

/// JSON is a whole request, an object of inputs by name, or the values of a model's only input.
fn json(text: &str, specs: &[Spec], inputs: &mut Inputs) -> Result<()> {
    let mut value = parse(text)?;
    if value["inputs"].is_array() {
        return request(&value, inputs);
    }
    if let Value::Object(named) = &mut value {
        for (name, value) in named {
            let tensor = values::nested(name, dtype(name, specs)?, value)?;
            inputs.tensors.push(Named { name: name.clone(), tensor });
        }
        return Ok(());
    }
    let spec = only(specs)?;
    let tensor = values::nested(&spec.name, spec.datatype.parse()?, &value)?;
    inputs.tensors.push(Named { name: spec.name.clone(), tensor });
    Ok(())
}

/// A request as the Open Inference Protocol has it.
fn request(value: &Value, inputs: &mut Inputs) -> Result<()> {
    let request = Request::deserialize(value).context("this is no inference request")?;
    for tensor in &request.inputs {
        inputs.tensors.push(Named { name: tensor.name.clone(), tensor: tensor.tensor()? });
    }
    inputs.id = request.id;
    inputs.parameters = request.parameters;
    inputs.outputs = request.outputs.into_iter().map(|output| output.name).collect();
    Ok(())
}

/// The protocol's request, as far as it is used here.
#[derive(Deserialize)]
struct Request {
    id: Option<String>,
    parameters: Option<Value>,
    inputs: Vec<WireTensor>,
    #[serde(default)]
    outputs: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
}

/// A tensor as the protocol's JSON has it.
#[derive(Deserialize)]
pub(super) struct WireTensor {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<usize>,
    pub(super) data: Value,
}

impl WireTensor {
    pub(super) fn tensor(&self) -> Result<Tensor> {
        values::shaped(&self.name, self.datatype.parse()?, &self.shape, &self.data)
    }
}

fn dtype(name: &str, specs: &[Spec]) -> Result<DType> {
    let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let text = format!("the model has no input {name:?}; it has {}", names.join(", "));
        return Err(Failure::usage(text).into());
    };
    Ok(spec.datatype.parse()?)
}

/// The server would say the same; only here it is known that an array was read, and how one is converted.
fn check_dtype(given: &Named, specs: &[Spec]) -> Result<()> {
    let (name, dtype) = (&given.name, given.tensor.dtype().name());
    match specs.iter().find(|spec| spec.name == *name) {
        Some(spec) if spec.datatype != dtype => {
            bail!(
                "{name} is {dtype}, and the model takes {}; NumPy converts an array by x.astype(...)",
                spec.datatype
            )
        }
        _ => Ok(()),
    }
}

fn only(specs: &[Spec]) -> Result<&Spec> {
    let [spec] = specs else {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let text =
            format!("the model has the inputs {}; write NAME=... for each", names.join(", "));
        return Err(Failure::usage(text).into());
    };
    Ok(spec)
}

fn is_json(text: &str) -> bool {
    text.starts_with(['{', '[']) || text.parse::<f64>().is_ok()
}

/// The text itself if it is JSON, else what is in the file of that name or comes on standard input.
fn source(text: &str) -> Result<String> {
    let doing = || format!("cannot read {text}");
    let read = |from: &mut dyn Read| {
        let mut out = String::new();
        from.take(JSON_BYTES_MAX).read_to_string(&mut out).with_context(doing).map(|_| out)
    };
    match text {
        _ if is_json(text) => Ok(text.to_owned()),
        "-" => read(&mut std::io::stdin()),
        path => read(&mut std::fs::File::open(path).with_context(doing)?),
    }
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(&values::quoted(text)).context("this is not JSON")
}

fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(names: &[&str]) -> Vec<Spec> {
        let spec = |name: &&str| Spec {
            name: (*name).into(),
            datatype: "FP32".into(),
            shape: vec![-1, 2],
        };
        names.iter().map(spec).collect()
    }

    #[test]
    fn every_form_means_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.json");
        std::fs::write(&file, "[[1, 2]]").unwrap();
        let wanted = Tensor::from_vec(&[1, 2], vec![1f32, 2.0]).unwrap();
        let path = file.to_str().unwrap();
        let forms = [
            "[[1, 2]]".to_owned(),
            "A=[[1, 2]]".to_owned(),
            r#"{"A": [[1, 2]]}"#.to_owned(),
            path.to_owned(),
            format!("A={path}"),
            r#"{"id": "7", "inputs": [{"name": "A", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}"#.to_owned(),
        ];
        for form in forms {
            let inputs = read(std::slice::from_ref(&form), &specs(&["A"])).unwrap();
            assert_eq!(inputs.tensors.len(), 1, "{form}");
            assert_eq!(
                (&*inputs.tensors[0].name, &inputs.tensors[0].tensor),
                ("A", &wanted),
                "{form}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("[1]", &["A", "B"][..], "write NAME=..."),
            ("C=[1]", &["A", "B"], "it has A, B"),
            ("{\"C\": [1]}", &["A"], "no input \"C\""),
            ("absent.json", &["A"], "cannot read absent.json"),
            ("absent.npy", &["A"], "cannot read absent.npy"),
            ("{\"A\": [1", &["A"], "not JSON"),
        ];
        for (text, names, wanted) in cases {
            let error = read(&[text.to_owned()], &specs(names)).unwrap_err();
            assert!(format!("{error:#}").contains(wanted), "{error:#}");
        }
    }
}
