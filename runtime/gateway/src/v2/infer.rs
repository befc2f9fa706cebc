//! `POST /v2/models/{m}[/versions/{v}]/infer`, station by station up to the prediction and from its answer on.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use innkeeper_catalog::Scope;
use innkeeper_predict::{Choice, Deployment, Prediction, Request};
use innkeeper_tensor::{Signature, TensorSpec};

use super::request::{self, Infer, Wanted};
use super::response::{self, Form, Head};
use super::{Bad, classification, data, raw};
use crate::app::{Exchange, offload};
use crate::body::{self, BODY_BYTES_MAX, Parts};
use crate::coding;
use crate::error::Failure;
use crate::journal::Entry;
use crate::reply::{JSON, Reply, with_type};
use crate::route::Target;

/// The length of the JSON in front of binary tensors, both ways.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Answers an inference request.
pub(crate) async fn infer(
    at: Exchange<'_>,
    target: Target<'_>,
    incoming: &mut Incoming,
    entry: &mut Entry,
) -> Result<Reply, Failure> {
    let headers = &at.parts.headers;
    at.caller.require(Scope::Predict)?;
    let (endpoint, slot) = at.endpoint(target)?;
    let header = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let Choice { deployment, via } = endpoint.choose(slot.as_deref(), header)?;
    entry.deployment = Some(Arc::clone(&deployment));
    check_content_type(headers)?;
    let header_len = header_len(headers)?;

    let bytes_max =
        at.app.predictor.limits(&at.caller.tenant).lowered(&deployment.limits).body_bytes_max;
    let parts = Parts::new(incoming, at.app.config.body_idle_ms);
    let held =
        body::read(parts, BODY_BYTES_MAX, bytes_max, &at.app.budget.of(&at.caller.tenant)).await?;
    let held = coding::inflate(headers, held, BODY_BYTES_MAX, bytes_max).await?;

    let infer = decode(&deployment, held.bytes.clone(), header_len).await?;
    let form = OwnedForm { wanted: infer.outputs, binary: infer.binary };
    check_forms(&deployment.signature, &form)?;
    let request = Request {
        caller: at.caller.tenant.clone(),
        deployment: Arc::clone(&deployment),
        via,
        id: infer.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| entry.id().to_owned()),
        parameters: infer.parameters,
        inputs: infer.inputs,
        outputs: form.wanted.iter().map(|wanted| wanted.name.clone()).collect(),
        schedule: infer.schedule,
        timeline: entry.timeline(),
    };
    let mut prediction = at.app.predictor.predict(request).await?;
    let classes = |output: &str| form.borrowed().classes(output);
    classification::put(&deployment, &mut prediction.outputs, classes).await?;
    let reply = encode(deployment, infer.id, prediction, form).await?;
    coding::deflate(coding::accepted(headers), reply).await
}

struct OwnedForm {
    wanted: Vec<Wanted>,
    binary: bool,
}

/// Clients of the protocol send no type with pure JSON, and curl by default that of a web form.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    const TAKEN: [&str; 3] =
        ["application/json", "application/octet-stream", "application/x-www-form-urlencoded"];
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let name = value.to_str().unwrap_or("?").split(';').next().unwrap_or("").trim();
    if name.is_empty() || TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(Failure::unsupported_type(
        "Content-Type must be application/json or application/octet-stream",
    ))
}

fn header_len(headers: &HeaderMap) -> Result<Option<usize>, Failure> {
    let mut values = headers.get_all(HEADER_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.as_bytes();
    let len = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    match len {
        Some(len) if plain && values.next().is_none() => Ok(Some(len)),
        _ => {
            Err(Failure::bad_request("Inference-Header-Content-Length must be one number of bytes")
                .closing())
        }
    }
}

async fn decode(
    deployment: &Arc<Deployment>,
    body: Bytes,
    header_len: Option<usize>,
) -> Result<Infer, Failure> {
    if header_len == Some(0) {
        let input = raw::input(&deployment.signature, &body)?;
        return Ok(Infer { inputs: vec![input], binary: true, ..Infer::default() });
    }
    let json_len = header_len.unwrap_or(body.len());
    Ok(offload(json_len, move || request::decode(&body, header_len)).await??)
}

/// Finds out before the prediction what could not be answered after it. Whether an optional output comes that nobody
/// asked for is not known yet.
fn check_forms(signature: &Signature, form: &OwnedForm) -> Result<(), Bad> {
    let is_sure = |output: &TensorSpec| match &form.wanted[..] {
        [] => !output.optional,
        wanted => wanted.iter().any(|wanted| wanted.name == output.name),
    };
    let as_form = form.borrowed();
    for output in signature.outputs.iter().filter(|output| is_sure(output)) {
        if as_form.classes(&output.name).is_some() {
            classification::check(output)?;
            continue;
        }
        let has_json_form =
            !matches!(output.dtype, innkeeper_tensor::DType::Fp16 | innkeeper_tensor::DType::Bf16);
        if !has_json_form && !as_form.is_binary(&output.name) {
            return Err(data::no_json_form(output.dtype).at(&format!("output {:?}", output.name)));
        }
    }
    Ok(())
}

impl OwnedForm {
    fn borrowed(&self) -> Form<'_> {
        Form { wanted: &self.wanted, binary: self.binary }
    }
}

async fn encode(
    deployment: Arc<Deployment>,
    id: Option<String>,
    prediction: Prediction,
    form: OwnedForm,
) -> Result<Reply, Failure> {
    let bytes = prediction.outputs.iter().map(|output| output.tensor.as_bytes().len()).sum();
    let encoded = offload(bytes, move || {
        let head = Head {
            model: deployment.model.name.as_str(),
            version: deployment.version.as_str(),
            id: id.as_deref(),
        };
        response::encode(&head, &prediction.outputs, &form.borrowed())
    });
    let encoded = encoded.await??;
    let content_type = if encoded.header_len.is_some() { OCTETS } else { JSON };
    let mut reply = with_type(StatusCode::OK, content_type, encoded.chunks.into());
    if let Some(len) = encoded.header_len {
        reply.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(len));
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_length_is_one_number() {
        let read = |values: &[&'static str]| {
            let pairs = values.iter().map(|value| (HEADER_LENGTH, HeaderValue::from_static(value)));
            header_len(&pairs.collect()).map_err(|failure| failure.status.as_u16())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["0"]), Ok(Some(0)));
        assert_eq!(read(&["123"]), Ok(Some(123)));
        for bad in ["", "-1", "+1", "1.0", "0x10", "1 ", "99999999999999999999999"] {
            assert_eq!(read(&[bad]), Err(400), "{bad:?}");
        }
    }

    #[test]
    fn content_types_that_clients_send_are_taken() {
        let status = |value: Option<&'static str>| {
            let pair = value.map(|value| (CONTENT_TYPE, HeaderValue::from_static(value)));
            check_content_type(&pair.into_iter().collect())
                .map_err(|failure| failure.status.as_u16())
        };
        for good in [
            None,
            Some(""),
            Some("application/json; charset=utf-8"),
            Some("Application/Octet-Stream"),
        ] {
            assert_eq!(status(good), Ok(()), "{good:?}");
        }
        assert_eq!(status(Some("text/xml")), Err(415));
    }
}
