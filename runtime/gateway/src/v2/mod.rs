//! The Open Inference Protocol v2 over REST: what its routes answer.

mod bad;
mod body;
pub(crate) mod classification;
mod data;
mod elements;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod generate;
mod infer;
mod input;
mod json_input;
mod metadata;
mod parameters;
mod raw;
mod reading;
mod repository;
mod request;
mod response;
mod settings;
mod stats;
mod tokens;

pub(crate) use bad::Bad;
pub(crate) use body::read as read_body;
pub(crate) use data::encode_nested;
pub(crate) use generate::{Form, generate};
pub(crate) use infer::infer;
pub(crate) use json_input::{commas, fields, items, read as read_json};
pub(crate) use metadata::{EXTENSIONS, model, model_ready, models, platform, server};
pub(crate) use parameters::{NOT_SERVED, PARAMETERS_MAX, SEQUENCE_ID_BYTES_MAX, is_the_servers};
pub(crate) use repository::{index, load, unload};
pub(crate) use request::ID_BYTES_MAX;
pub(crate) use settings::{logging, set_logging, set_trace, shared_memory, trace};
pub(crate) use stats::{all_stats, config, model_stats};

/// The inputs of a JSON request and the outputs that it asks for.
#[cfg(test)]
pub(crate) fn read_example(text: &str) -> (Vec<innkeeper_tensor::Named>, Vec<String>) {
    let infer = request::decode(&bytes::Bytes::from(text.to_owned()), None).unwrap();
    (infer.inputs, infer.outputs.into_iter().map(|wanted| wanted.name).collect())
}
