//! What lies under `/v1`: OpenAI's models, embeddings, files and fine-tuning jobs, and `:predict` as TensorFlow Serving and KServe V1 have it.
//!
//! Both claim `/v1/models/{m}`. A GET there answers one object with the fields of both; a verb behind a colon is
//! TensorFlow Serving's.

mod embeddings;
pub(crate) mod files;
pub(crate) mod fine_tuning;
mod models;
mod predict;

pub(crate) use embeddings::embeddings;
pub(crate) use models::{list, metadata, show, status};
pub(crate) use predict::predict;
