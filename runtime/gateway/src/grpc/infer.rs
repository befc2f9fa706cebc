//! `ModelInfer`, station by station up to the prediction and from its answer on.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::header::HeaderValue;
use innkeeper_catalog::Scope;
use innkeeper_predict::{Choice, Deployment, Prediction, Request, Schedule, SequenceId, Via};
use innkeeper_tensor::{Named, Shape, Signature};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::answer::{Framed, prefix};
use super::call::{Call, slot};
use super::messages::inference::infer_parameter::ParameterChoice;
use super::messages::inference::model_infer_request::InferRequestedOutputTensor;
use super::messages::inference::model_infer_response::InferOutputTensor;
use super::messages::inference::{InferParameter, ModelInferRequest, ModelInferResponse};
use super::tensors;
use super::weigh::weigh;
use crate::app::offload;
use crate::body::{BODY_BYTES_MAX, Held};
use crate::error::Failure;
use crate::journal::Entry;
use crate::reply::Shared;
use crate::v2::classification::{self, CLASSES_MAX};
use crate::v2::{Bad, ID_BYTES_MAX, NOT_SERVED, SEQUENCE_ID_BYTES_MAX, is_the_servers};

/// Outputs up to this size are copied behind the message, so that the answer is one write; larger ones are sent from
/// where they lie.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// The field of `ModelInferResponse` with the outputs' bytes.
const RAW_OUTPUT_CONTENTS: u32 = 6;
/// The field of `ModelStreamInferResponse` with the answer.
const INFER_RESPONSE: u32 = 2;
/// A stream's request wants to be told which answer is its last.
const WANTS_FINAL: &str = "triton_enable_empty_final_response";
/// What it is told by.
const IS_FINAL: &str = "triton_final_response";

/// Which call a request came by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `ModelInfer`
    Alone,
    /// `ModelStreamInfer`
    Stream,
}

/// A request that is read, as far as its answer needs it.
struct Asked {
    id: String,
    raw: bool,
    tells_final: bool,
    wanted: Vec<Wanted>,
}

/// Answers an inference request.
pub(crate) async fn infer(
    call: &Call,
    held: &mut Held,
    way: Way,
    entry: &mut Entry,
) -> Result<Framed, Failure> {
    call.caller.require(Scope::Predict)?;
    let message = decode(held).await?;
    let endpoint = call.endpoint(&message.model_name)?;
    let header = |name: &str| call.headers.get(name).map(HeaderValue::as_bytes);
    let Choice { deployment, via } = endpoint.choose(slot(&message.model_version), header)?;
    entry.deployment = Some(Arc::clone(&deployment));
    let bytes_max = call.limits().lowered(&deployment.limits).body_bytes_max;
    if held.bytes.len() as u64 > bytes_max {
        return Err(Failure::too_large(BODY_BYTES_MAX, bytes_max));
    }

    let (request, asked) = request(call, &deployment, via, message, way, entry)?;
    let mut prediction = call.app.predictor.predict(request).await?;
    let classes = |output: &str| asked.wanted.iter().find(|one| one.name == output)?.classes;
    classification::put(&deployment, &mut prediction.outputs, classes).await?;
    Ok(encode(&deployment, &asked, prediction, way))
}

async fn decode(held: &mut Held) -> Result<ModelInferRequest, Failure> {
    let weight = weigh(&held.bytes)?;
    held.cover(held.bytes.len() + weight)?;
    let bytes = held.bytes.clone();
    let message = offload(weight, move || ModelInferRequest::decode(bytes)).await?;
    message.map_err(|error| Failure::bad_request(format!("not a ModelInferRequest: {error}")))
}

fn request(
    call: &Call,
    deployment: &Arc<Deployment>,
    via: Option<Via>,
    message: ModelInferRequest,
    way: Way,
    entry: &Entry,
) -> Result<(Request, Asked), Failure> {
    if message.id.len() > ID_BYTES_MAX {
        return Err(Bad::new(format!("longer than {ID_BYTES_MAX} bytes")).at("id").into());
    }
    let mut tells_final = false;
    let mut schedule = Schedule::default();
    let mut parameters = Vec::with_capacity(message.parameters.len());
    for (name, value) in message.parameters {
        if way == Way::Stream && name == WANTS_FINAL {
            tells_final = value.parameter_choice == Some(ParameterChoice::BoolParam(true));
            continue;
        }
        let bad = |bad: Bad| bad.at(&name).at("parameters");
        if !scheduled(&mut schedule, &name, &value).map_err(bad)? {
            let value = parameter(&name, value).map_err(bad)?;
            parameters.push((name, value));
        }
    }
    let wanted = outputs(&deployment.signature, message.outputs)?;
    let raw = !message.raw_input_contents.is_empty() || message.inputs.is_empty();
    let request = Request {
        caller: call.caller.tenant.clone(),
        deployment: Arc::clone(deployment),
        via,
        id: if message.id.is_empty() { entry.id().to_owned() } else { message.id.clone() },
        parameters,
        inputs: tensors::inputs(message.inputs, message.raw_input_contents)?,
        outputs: wanted.iter().map(|wanted| wanted.name.clone()).collect(),
        schedule,
        timeline: entry.timeline(),
    };
    Ok((request, Asked { id: message.id, raw, tells_final, wanted }))
}

/// Takes a parameter that says when the request runs, and not what the model does. Answers whether it was one.
fn scheduled(schedule: &mut Schedule, name: &str, value: &InferParameter) -> Result<bool, Bad> {
    match name {
        "priority" => schedule.priority = whole(value)?,
        "timeout" => schedule.timeout_us = whole(value)?,
        "sequence_id" => schedule.sequence_id = sequence_id(value)?,
        "sequence_start" => schedule.sequence_start = truth(value)?,
        "sequence_end" => schedule.sequence_end = truth(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn whole(value: &InferParameter) -> Result<u64, Bad> {
    let wanted = || Bad::new("wanted a whole number of 64 bits, not negative");
    match value.parameter_choice {
        Some(ParameterChoice::Uint64Param(value)) => Ok(value),
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(value).map_err(|_| wanted()),
        _ => Err(wanted()),
    }
}

fn truth(value: &InferParameter) -> Result<bool, Bad> {
    match value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Ok(value),
        _ => Err(Bad::new("wanted true or false")),
    }
}

/// Nothing and 0 name no sequence.
fn sequence_id(value: &InferParameter) -> Result<Option<SequenceId>, Bad> {
    match &value.parameter_choice {
        Some(ParameterChoice::StringParam(name)) if name.len() > SEQUENCE_ID_BYTES_MAX => {
            Err(Bad::new(format!("longer than {SEQUENCE_ID_BYTES_MAX} bytes")))
        }
        Some(ParameterChoice::StringParam(name)) => {
            Ok((!name.is_empty()).then(|| SequenceId::Text(name.clone())))
        }
        _ => Ok(Some(whole(value)?).filter(|number| *number != 0).map(SequenceId::Number)),
    }
}

/// A parameter for the model, as JSON text.
fn parameter(name: &str, value: InferParameter) -> Result<String, Bad> {
    if name.len() > Signature::NAME_BYTES_MAX {
        return Err(Bad::new(format!("longer than {} bytes", Signature::NAME_BYTES_MAX)));
    }
    if is_the_servers(name) {
        return Err(Bad::new(NOT_SERVED));
    }
    match value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Ok(value.to_string()),
        Some(ParameterChoice::Int64Param(value)) => Ok(value.to_string()),
        Some(ParameterChoice::Uint64Param(value)) => Ok(value.to_string()),
        Some(ParameterChoice::DoubleParam(value)) if value.is_finite() => {
            Ok(zmij::Buffer::new().format_finite(value).to_owned())
        }
        Some(ParameterChoice::StringParam(value)) => {
            serde_json::to_string(&value).map_err(|error| Bad::new(error.to_string()))
        }
        Some(ParameterChoice::DoubleParam(_)) | None => Err(Bad::new("has no finite value")),
    }
}

/// An output that is wanted, and how many classes of it in its place.
struct Wanted {
    name: String,
    classes: Option<usize>,
}

fn outputs(
    signature: &Signature,
    outputs: Vec<InferRequestedOutputTensor>,
) -> Result<Vec<Wanted>, Bad> {
    let outputs = outputs.into_iter().enumerate();
    outputs
        .map(|(index, output)| {
            let mut classes = None;
            for (name, value) in &output.parameters {
                let at = |bad: Bad| bad.at(name).at("parameters").at_index(index).at("outputs");
                if name != "classification" {
                    return Err(at(Bad::new(NOT_SERVED)));
                }
                classes = wanted_classes(value).map_err(at)?;
            }
            if classes.is_some()
                && let Some(spec) = signature.outputs.iter().find(|spec| spec.name == output.name)
            {
                classification::check(spec)?;
            }
            Ok(Wanted { name: output.name, classes })
        })
        .collect()
}

fn wanted_classes(value: &InferParameter) -> Result<Option<usize>, Bad> {
    match whole(value)? {
        count if (1..=CLASSES_MAX).contains(&count) => Ok(usize::try_from(count).ok()),
        _ => Err(Bad::new(format!("wanted a number of classes from 1 to {CLASSES_MAX}"))),
    }
}

fn encode(deployment: &Deployment, asked: &Asked, prediction: Prediction, way: Way) -> Framed {
    let outputs = prediction.outputs;
    // The answer has the form of the request, if there is such a form.
    let raw = asked.raw || !tensors::have_typed_form(&outputs);
    let is_final = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    let is_final = asked.tells_final.then(|| (IS_FINAL.to_owned(), is_final));
    let head = ModelInferResponse {
        model_name: deployment.model.name.as_str().to_owned(),
        model_version: deployment.version.as_str().to_owned(),
        id: asked.id.clone(),
        parameters: is_final.into_iter().collect(),
        outputs: outputs.iter().map(|output| described(output, raw)).collect(),
        raw_output_contents: Vec::new(),
    };
    assemble(&head, if raw { &outputs } else { &[] }, way)
}

fn described(output: &Named, raw: bool) -> InferOutputTensor {
    InferOutputTensor {
        name: output.name.clone(),
        datatype: output.tensor.dtype().name().to_owned(),
        shape: wire_shape(output.tensor.shape()),
        contents: (!raw).then(|| tensors::contents(&output.tensor)),
        ..InferOutputTensor::default()
    }
}

fn wire_shape(shape: &Shape) -> Vec<i64> {
    // A shape's sizes are far below the bound of an i64.
    shape.dims().iter().map(|&dim| dim as i64).collect()
}

/// The message with the outputs' bytes behind it, in the envelope of its way.
fn assemble(head: &ModelInferResponse, raw: &[Named], way: Way) -> Framed {
    let field_len = |tag, len: usize| key_len(tag) + encoded_len_varint(len as u64) + len;
    let raw_len: usize =
        raw.iter().map(|each| field_len(RAW_OUTPUT_CONTENTS, each.tensor.as_bytes().len())).sum();
    let head_len = head.encoded_len();
    let len = head_len + raw_len;
    let copied: usize = raw.iter().map(|each| each.tensor.as_bytes().len()).filter(is_copied).sum();

    let mut parts = Framed::new();
    let mut bytes = BytesMut::with_capacity(32 + head_len + copied + 16 * raw.len());
    match way {
        Way::Alone => prefix(&mut bytes, len),
        Way::Stream => {
            prefix(&mut bytes, field_len(INFER_RESPONSE, len));
            encode_key(INFER_RESPONSE, WireType::LengthDelimited, &mut bytes);
            encode_varint(len as u64, &mut bytes);
        }
    }
    head.encode_raw(&mut bytes);
    for output in raw {
        let data = output.tensor.data();
        encode_key(RAW_OUTPUT_CONTENTS, WireType::LengthDelimited, &mut bytes);
        encode_varint(data.len() as u64, &mut bytes);
        if is_copied(&data.len()) {
            bytes.extend_from_slice(data.as_bytes());
        } else {
            parts.push_back(bytes.split().freeze());
            parts.push_back(Bytes::from_owner(Shared(data.clone())));
        }
    }
    if !bytes.is_empty() {
        parts.push_back(bytes.freeze());
    }
    parts
}

fn is_copied(len: &usize) -> bool {
    *len <= COPIED_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::Tensor;

    use super::*;
    use crate::grpc::answer::framed;
    use crate::grpc::messages::inference::ModelStreamInferResponse;

    fn whole(parts: &Framed) -> Vec<u8> {
        parts.iter().flat_map(|part| part.iter().copied()).collect()
    }

    #[test]
    fn assembled_by_hand_as_by_the_library() {
        let outputs = [100, 10_000].map(|len| {
            let tensor = Tensor::from_vec(&[len], vec![1.5f32; len]).unwrap();
            Named { name: format!("Y{len}"), tensor }
        });
        let head = ModelInferResponse {
            model_name: "m".into(),
            outputs: outputs.iter().map(|output| described(output, true)).collect(),
            ..ModelInferResponse::default()
        };
        let raw = outputs.iter().map(|each| each.tensor.as_bytes().to_vec()).collect();
        let wanted = ModelInferResponse { raw_output_contents: raw, ..head.clone() };
        let alone = assemble(&head, &outputs, Way::Alone);
        assert_eq!(whole(&alone), whole(&framed(&wanted)));
        assert_eq!(alone[1].as_ptr(), outputs[1].tensor.as_bytes().as_ptr(), "not copied");
        let wanted = ModelStreamInferResponse {
            infer_response: Some(wanted),
            ..ModelStreamInferResponse::default()
        };
        assert_eq!(whole(&assemble(&head, &outputs, Way::Stream)), whole(&framed(&wanted)));
    }

    #[test]
    fn parameters_become_json() {
        let json = |choice| parameter("p", InferParameter { parameter_choice: Some(choice) });
        assert_eq!(json(ParameterChoice::BoolParam(true)).unwrap(), "true");
        assert_eq!(json(ParameterChoice::Int64Param(-1)).unwrap(), "-1");
        assert_eq!(json(ParameterChoice::Uint64Param(u64::MAX)).unwrap(), u64::MAX.to_string());
        assert_eq!(json(ParameterChoice::DoubleParam(0.5)).unwrap(), "0.5");
        assert_eq!(json(ParameterChoice::StringParam("a\"b".into())).unwrap(), r#""a\"b""#);
        assert!(json(ParameterChoice::DoubleParam(f64::NAN)).is_err());
        assert!(parameter("p", InferParameter::default()).is_err());
        let yes = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
        assert!(parameter("triton_x", yes).is_err());
    }

    #[test]
    fn parameters_of_the_schedule_are_not_the_models() {
        let said = |name: &str, choice: ParameterChoice| {
            let mut schedule = Schedule::default();
            let value = InferParameter { parameter_choice: Some(choice) };
            scheduled(&mut schedule, name, &value).map(|was_one| was_one.then_some(schedule))
        };
        let schedule = Schedule::default;
        let number = Some(SequenceId::Number(7));
        let text = Some(SequenceId::Text("a".into()));
        let cases = [
            ("priority", ParameterChoice::Int64Param(2), Schedule { priority: 2, ..schedule() }),
            ("timeout", ParameterChoice::Uint64Param(9), Schedule { timeout_us: 9, ..schedule() }),
            (
                "sequence_id",
                ParameterChoice::Int64Param(7),
                Schedule { sequence_id: number, ..schedule() },
            ),
            (
                "sequence_id",
                ParameterChoice::StringParam("a".into()),
                Schedule { sequence_id: text, ..schedule() },
            ),
            ("sequence_id", ParameterChoice::Int64Param(0), schedule()),
            (
                "sequence_end",
                ParameterChoice::BoolParam(true),
                Schedule { sequence_end: true, ..schedule() },
            ),
        ];
        for (name, choice, wanted) in cases {
            assert_eq!(said(name, choice).unwrap(), Some(wanted), "{name}");
        }
        assert_eq!(said("other", ParameterChoice::BoolParam(true)).unwrap(), None);
        assert!(said("priority", ParameterChoice::Int64Param(-1)).is_err());
        assert!(said("sequence_start", ParameterChoice::Int64Param(1)).is_err());
        assert!(said("sequence_id", ParameterChoice::BoolParam(true)).is_err());
        assert!(said("sequence_id", ParameterChoice::StringParam("x".repeat(257))).is_err());
    }
}
