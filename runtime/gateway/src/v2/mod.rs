//! The Open Inference Protocol v2 over REST: what its routes answer.

mod bad;
mod body;
mod data;
mod elements;
mod infer;
mod input;
mod metadata;
mod parameters;
mod raw;
mod reading;
mod repository;
mod request;
mod response;
mod stats;
mod tokens;

pub(crate) use bad::Bad;
pub(crate) use infer::infer;
pub(crate) use metadata::{model, model_ready, models, server};
pub(crate) use repository::{index, load, unload};
pub(crate) use stats::{all_stats, config, model_stats};

/// The inputs of a JSON request and the outputs that it asks for.
#[cfg(test)]
pub(crate) fn read_example(text: &str) -> (Vec<innkeeper_tensor::Named>, Vec<String>) {
    let infer = request::decode(&bytes::Bytes::from(text.to_owned()), None).unwrap();
    (infer.inputs, infer.outputs.into_iter().map(|wanted| wanted.name).collect())
}
