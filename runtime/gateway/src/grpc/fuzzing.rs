//! The decoders of gRPC's messages as fuzz targets reach them. Nobody else may use this.

use bytes::Bytes;
use innkeeper_tensor::{Named, Shape};
use prost::Message;

use super::messages::inference::model_infer_request::InferInputTensor;
use super::messages::inference::{InferTensorContents, ModelInferRequest};
use super::tensors;
use super::weigh::weigh;

/// In memory, what a vector may have that was never filled, in bytes: vectors grow by doubling, and begin with some room.
const ROOM_BYTES: usize = 256;

/// The inputs of a request.
///
/// # Errors
/// What the caller would be told.
///
/// # Panics
/// A message takes more memory than was said before it was decoded.
pub fn decode(message: &Bytes) -> Result<Vec<Named>, String> {
    let weight = weigh(message).map_err(|bad| bad.to_string())?;
    let message = ModelInferRequest::decode(message.clone()).map_err(|error| error.to_string())?;
    let contents = message.inputs.iter().filter_map(|input| input.contents.as_ref());
    let takes: usize = contents.map(bytes_of).sum();
    let room = ROOM_BYTES * message.inputs.len();
    assert!(takes <= weight + room, "{takes} bytes were taken and {weight} were counted");
    tensors::inputs(message.inputs, message.raw_input_contents).map_err(|bad| bad.to_string())
}

fn bytes_of(contents: &InferTensorContents) -> usize {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    bool_contents.capacity()
        + 4 * (int_contents.capacity() + uint_contents.capacity() + fp32_contents.capacity())
        + 8 * (int64_contents.capacity() + uint64_contents.capacity() + fp64_contents.capacity())
        + size_of::<Bytes>() * bytes_contents.capacity()
}

/// A request with these inputs, raw or else typed.
///
/// # Errors
/// They have no typed form.
pub fn encode(inputs: &[Named], raw: bool) -> Result<Bytes, String> {
    if !raw && !tensors::have_typed_form(inputs) {
        return Err("no typed form".into());
    }
    let sizes = |shape: &Shape| shape.dims().iter().map(|&dim| dim as i64).collect();
    let described = inputs.iter().map(|input| InferInputTensor {
        name: input.name.clone(),
        datatype: input.tensor.dtype().name().to_owned(),
        shape: sizes(input.tensor.shape()),
        contents: (!raw).then(|| tensors::contents(&input.tensor)),
        ..InferInputTensor::default()
    });
    let bytes = |input: &Named| Bytes::copy_from_slice(input.tensor.as_bytes());
    let message = ModelInferRequest {
        inputs: described.collect(),
        raw_input_contents: if raw { inputs.iter().map(bytes).collect() } else { Vec::new() },
        ..ModelInferRequest::default()
    };
    Ok(message.encode_to_vec().into())
}
