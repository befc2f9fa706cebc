//! The decoders as fuzz targets reach them. Nobody else may use this.

use bytes::Bytes;
use innkeeper_tensor::{Named, Signature};

use super::response::{self, Form, Head};
use super::{raw, request};

/// The inputs of a request, whose first `header_len` bytes are JSON.
///
/// # Errors
/// What the caller would be told.
pub fn decode(body: &Bytes, header_len: Option<usize>) -> Result<Vec<Named>, String> {
    request::decode(body, header_len).map(|infer| infer.inputs).map_err(|bad| bad.to_string())
}

/// The input that a body without JSON is.
///
/// # Errors
/// What the caller would be told.
pub fn raw(signature: &Signature, body: &Bytes) -> Result<Named, String> {
    raw::input(signature, body).map_err(|bad| bad.to_string())
}

/// An answer with these outputs: the length of its JSON where binary tensors follow, and its bytes.
///
/// # Errors
/// What the caller would be told.
pub fn encode(outputs: &[Named], binary: bool) -> Result<(Option<usize>, Vec<u8>), String> {
    let head = Head { model: "m", version: "1", id: None };
    let encoded = response::encode(&head, outputs, &Form { wanted: &[], binary });
    let encoded = encoded.map_err(|bad| bad.to_string())?;
    Ok((encoded.header_len, Vec::from(encoded.chunks).concat()))
}
