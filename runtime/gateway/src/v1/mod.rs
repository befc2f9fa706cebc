//! What lies under `/v1`: OpenAI's models and embeddings, and `:predict` as TensorFlow Serving and KServe V1 have it.
//!
//! Both claim `/v1/models/{m}`. A GET there answers one object with the fields of both; a verb behind a colon is
//! TensorFlow Serving's.

mod embeddings;
mod models;
mod predict;

pub(crate) use embeddings::embeddings;
pub(crate) use models::{list, metadata, show, status};
pub(crate) use predict::predict;
