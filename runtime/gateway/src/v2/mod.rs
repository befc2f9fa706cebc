//! The Open Inference Protocol v2 over REST: what its routes answer.

mod bad;
mod data;
mod elements;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod infer;
mod input;
mod metadata;
mod parameters;
mod raw;
mod reading;
mod request;
mod response;
mod tokens;

pub(crate) use bad::Bad;
pub(crate) use infer::infer;
pub(crate) use metadata::{EXTENSIONS, model, model_ready, models, platform, server};
pub(crate) use parameters::{NOT_SERVED, PARAMETERS_MAX, SEQUENCE_ID_BYTES_MAX, is_the_servers};
pub(crate) use request::ID_BYTES_MAX;

/// The inputs of a JSON request and the outputs that it asks for.
#[cfg(test)]
pub(crate) fn read_example(text: &str) -> (Vec<innkeeper_tensor::Named>, Vec<String>) {
    let infer = request::decode(&bytes::Bytes::from(text.to_owned()), None).unwrap();
    (infer.inputs, infer.outputs.into_iter().map(|wanted| wanted.name).collect())
}
