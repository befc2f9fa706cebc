//! The call interface of one model as an OpenAPI 3.1 document, with a body that works as it stands.

use innkeeper_predict::{Deployment, Endpoint};
use innkeeper_tensor::{DType, TensorSpec};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::reply::{self, Reply};

/// Elements of one input in the example. A larger input is left to its schema: nobody reads such an example.
const EXAMPLE_ELEMENTS_MAX: usize = 4_096;

/// `GET /api/v1/models/{m}/versions/{v}/interface`
pub(crate) fn document(endpoint: &Endpoint, slot: Option<&str>) -> Result<Reply, Failure> {
    let deployment = endpoint.resolve(slot)?;
    Ok(reply::json(&openapi(deployment, slot.unwrap_or(deployment.version.as_str()))))
}

fn openapi(deployment: &Deployment, slot: &str) -> Value {
    let (owner, model) = (&deployment.model.owner, &deployment.model.name);
    let path = format!("/t/{owner}/v2/models/{model}/versions/{slot}/infer");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": model.as_str(),
            "version": deployment.version.as_str(),
            "description": description(deployment),
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": { path.as_str(): {"post": operation(deployment, &path)} },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(deployment),
        },
        "x-innkeeper": {
            "digest": deployment.digest.to_string(),
            "properties": properties(deployment),
            "batching": deployment.batching(),
            "cache": deployment.caches(),
            "sequences": deployment.sequencing(),
            "instances": deployment.instances(),
        },
    })
}

fn description(deployment: &Deployment) -> String {
    let text = deployment.description.trim();
    let protocol = "Called with the Open Inference Protocol v2. Dimensions of -1 may have any size. Tensors may also be \
        sent and asked for as binary data, see the binary tensor data extension; FP16 and BF16 have no other form.";
    if text.is_empty() { protocol.into() } else { format!("{text}\n\n{protocol}") }
}

fn properties(deployment: &Deployment) -> Value {
    deployment
        .signature
        .properties
        .iter()
        .map(|(k, v)| (k.clone(), Value::from(v.as_str())))
        .collect()
}

fn operation(deployment: &Deployment, path: &str) -> Value {
    let mut request = json!({"schema": {"$ref": "#/components/schemas/Request"}});
    let example = example(&deployment.signature);
    let samples = example.as_ref().map_or_else(Vec::new, |body| samples(path, body));
    if let Some(example) = example {
        request["example"] = example;
    }
    let error = |text: &str| {
        json!({
            "description": text,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        })
    };
    json!({
        "operationId": "infer",
        "summary": format!("One prediction by {}", deployment.model.name),
        "requestBody": {"required": true, "content": {"application/json": request}},
        "responses": {
            "200": {
                "description": "The outputs.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Response"}}},
            },
            "400": error("The body cannot be read; the text names the field."),
            "401": error("There is no valid key."),
            "404": error("There is no such model or version for this caller."),
            "413": error("The body is too large."),
            "422": error("The tensors do not fit the model, or it refuses them."),
            "429": error("Too many requests; see Retry-After."),
            "500": error("The model failed."),
            "503": error("The server is busy; see Retry-After."),
            "504": error("The model did not answer in time."),
        },
        "x-codeSamples": samples,
    })
}

/// Calls that send this body, for whoever has `INNKEEPER_URL` and `INNKEEPER_KEY` in the environment.
fn samples(path: &str, body: &Value) -> Vec<Value> {
    // Names are the author's. What could end a raw string of one of the languages is written in the other form that
    // JSON has for it.
    let json = body.to_string().replace('\'', "\\u0027").replace('#', "\\u0023");
    let samples = [
        ("curl", include_str!("samples/curl.txt")),
        ("Python", include_str!("samples/python.txt")),
        ("Rust", include_str!("samples/rust.txt")),
    ];
    let filled = |text: &str| text.replace("{PATH}", path).replace("{BODY}", &json);
    samples.map(|(lang, text)| json!({"lang": lang, "source": filled(text)})).to_vec()
}

fn schemas(deployment: &Deployment) -> Value {
    let signature = &deployment.signature;
    let inputs: Vec<Value> = signature.inputs.iter().map(tensor_schema).collect();
    let outputs: Vec<Value> = signature.outputs.iter().map(tensor_schema).collect();
    let required = signature.inputs.iter().filter(|input| !input.optional).count();
    let names: Vec<&str> = signature.outputs.iter().map(|output| output.name.as_str()).collect();
    let any_of = |schemas: Vec<Value>| {
        if schemas.is_empty() { json!({"not": {}}) } else { json!({"anyOf": schemas}) }
    };
    json!({
        "Request": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string", "description": "Echoed in the answer."},
                "parameters": {"type": "object"},
                "inputs": {
                    "type": "array",
                    "minItems": required,
                    "maxItems": signature.inputs.len(),
                    "items": any_of(inputs),
                },
                "outputs": {
                    "type": "array",
                    "description": "The outputs that are wanted; all without it.",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"enum": names}},
                    },
                },
            },
        },
        "Response": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": any_of(outputs)},
            },
        },
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}},
        },
    })
}

fn tensor_schema(spec: &TensorSpec) -> Value {
    let note = if spec.optional { ", may be left out" } else { "" };
    json!({
        "type": "object",
        "description": format!("{spec}{note}"),
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": spec.dtype.name()},
            "shape": shape_schema(spec),
            "data": {
                "type": "array",
                "description": "Row-major, flat or nested as the shape.",
                "items": {"anyOf": [element_schema(spec.dtype), {"type": "array"}]},
            },
            "parameters": {
                "type": "object",
                "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
            },
        },
    })
}

fn shape_schema(spec: &TensorSpec) -> Value {
    let any = json!({"type": "integer", "minimum": 0});
    let Some(dims) = &spec.shape else { return json!({"type": "array", "items": any}) };
    let sizes: Vec<Value> = dims
        .iter()
        .map(|dim| dim.map_or_else(|| any.clone(), |size| json!({"const": size})))
        .collect();
    let mut schema = json!({"type": "array", "minItems": dims.len(), "maxItems": dims.len()});
    if !sizes.is_empty() {
        schema["prefixItems"] = sizes.into();
    }
    schema
}

fn element_schema(dtype: DType) -> Value {
    match dtype {
        DType::Bool => json!({"type": "boolean"}),
        DType::Bytes => json!({"type": "string"}),
        dtype if dtype.is_float() => json!({"type": "number"}),
        _ => json!({"type": "integer"}),
    }
}

/// A body that the model takes: every input that must be there, with sizes of 1 where any will do, and no more of the
/// others than that. `None` where an input has no JSON form or is too large for an example.
fn example(signature: &innkeeper_tensor::Signature) -> Option<Value> {
    let required = signature.inputs.iter().filter(|input| !input.optional);
    let mut inputs = required.map(example_input).collect::<Option<Vec<Value>>>()?;
    if inputs.is_empty() {
        // An example without any input would show nothing.
        inputs.extend(signature.inputs.iter().find_map(example_input));
    }
    let mut body = json!({"id": "example", "inputs": inputs});
    let has_json_form = |dtype| !matches!(dtype, DType::Fp16 | DType::Bf16);
    if !signature.outputs.iter().all(|output| has_json_form(output.dtype)) {
        let outputs = signature.outputs.iter().filter(|output| has_json_form(output.dtype));
        let outputs: Vec<Value> = outputs.map(|output| json!({"name": output.name})).collect();
        if outputs.is_empty() {
            return None;
        }
        body["outputs"] = outputs.into();
    }
    Some(body)
}

fn example_input(spec: &TensorSpec) -> Option<Value> {
    let dims: Vec<usize> = match &spec.shape {
        Some(dims) => dims.iter().map(|dim| dim.unwrap_or(1)).collect(),
        None => vec![1],
    };
    let elements = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
    if elements > EXAMPLE_ELEMENTS_MAX {
        return None;
    }
    let element = match spec.dtype {
        DType::Fp16 | DType::Bf16 => return None,
        DType::Bool => json!(false),
        DType::Bytes => json!(""),
        dtype if dtype.is_float() => json!(0.0),
        _ => json!(0),
    };
    Some(json!({
        "name": spec.name,
        "datatype": spec.dtype.name(),
        "shape": dims,
        "data": vec![element; elements],
    }))
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::Signature;

    use super::*;
    use crate::v2::read_example;

    fn spec(name: &str, dtype: DType, shape: Option<&[i64]>, optional: bool) -> TensorSpec {
        let shape = shape.map(|dims| dims.iter().map(|&dim| usize::try_from(dim).ok()).collect());
        TensorSpec { name: name.into(), dtype, shape, optional }
    }

    /// The example is a request that the decoder reads and the signature takes.
    #[test]
    fn the_example_works_as_it_stands() {
        for dtype in DType::ALL {
            let signature = Signature {
                inputs: vec![
                    spec("A", dtype, Some(&[-1, 3]), false),
                    spec("B", DType::Fp32, None, false),
                    spec("C", DType::Fp16, Some(&[1]), true),
                ],
                outputs: vec![spec("Y", dtype, None, false), spec("Z", DType::Int8, None, false)],
                ..Signature::default()
            };
            let Some(body) = example(&signature) else {
                assert!(matches!(dtype, DType::Fp16 | DType::Bf16));
                continue;
            };
            let (inputs, outputs) = read_example(&body.to_string());
            assert_eq!(signature.check_inputs(&inputs), Ok(()), "{dtype}");
            assert!(outputs.is_empty(), "{dtype}");
        }
    }

    #[test]
    fn outputs_without_a_json_form_are_left_out_of_the_example() {
        let signature = Signature {
            inputs: vec![spec("A", DType::Fp32, Some(&[]), false)],
            outputs: vec![spec("H", DType::Fp16, None, false), spec("Y", DType::Fp32, None, false)],
            ..Signature::default()
        };
        let (inputs, outputs) = read_example(&example(&signature).unwrap().to_string());
        assert_eq!(signature.check_inputs(&inputs), Ok(()));
        assert_eq!(outputs, ["Y"]);
    }

    #[test]
    fn huge_inputs_have_no_example() {
        let signature = Signature {
            inputs: vec![spec("A", DType::Fp32, Some(&[1 << 40, 1 << 40]), false)],
            outputs: vec![spec("Y", DType::Fp32, None, false)],
            ..Signature::default()
        };
        assert!(example(&signature).is_none());
    }
}
