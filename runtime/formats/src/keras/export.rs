//! `.keras` files, written.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use innkeeper_tensor::Tensor;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::config::{is_cell, layers};
use super::file::paths;
use super::{KerasError, major};
use crate::hdf5::{self, Node};

/// The `.keras` file of what [`read`](super::read) gave: its configuration, and weights and optimiser's state, which may
/// have changed since.
///
/// # Errors
/// The configuration is Keras 2's, of which no `.keras` file can be made, or weights are not those of its layers.
pub fn to_keras(
    config: &Value,
    weights: &BTreeMap<String, Tensor>,
    optimizer: &BTreeMap<String, Tensor>,
) -> Result<Vec<u8>, KerasError> {
    let version = config["keras_version"].as_str().unwrap_or_default();
    if major(version) != Some(3) {
        let problem = format!(
            "it was saved by Keras {version}, and .keras files are Keras 3's; load and save it by Keras 3, and import it again"
        );
        return Err(KerasError::file(problem));
    }
    let mut model = config["config"].clone();
    let Some(object) = model.as_object_mut() else {
        return Err(KerasError::file("its configuration is no object"));
    };
    // A .h5 file leaves out where the classes of models are.
    let is_sequential = object.get("class_name").is_some_and(|class| class == "Sequential");
    let module = if is_sequential { "keras" } else { "keras.src.models.functional" };
    object.entry("module").or_insert_with(|| json!(module));
    object.entry("registered_name").or_insert(Value::Null);
    if !config["compile_config"].is_null() {
        object.insert("compile_config".to_owned(), config["compile_config"].clone());
    }
    let mut groups = BTreeMap::new();
    let mut used = 0;
    for (layer, path) in layers(&config["config"])?.iter().zip(paths(&config["config"])?) {
        let mut vars = BTreeMap::new();
        while let Some(tensor) = weights.get(&format!("{}/{}", layer.name, vars.len())) {
            vars.insert(vars.len().to_string(), Node::Array(tensor.clone()));
        }
        used += vars.len();
        let vars = group("vars", vars);
        let members = if is_cell(&layer.class) { group("cell", vars) } else { vars };
        groups.insert(path, Node::Group(members));
    }
    if used != weights.len() {
        let problem = format!("{} weights, of which the layers have {used}", weights.len());
        return Err(KerasError::file(problem));
    }
    let mut root = group("layers", groups);
    if !optimizer.is_empty() {
        let state =
            optimizer.iter().map(|(name, tensor)| (name.clone(), Node::Array(tensor.clone())));
        root.insert("optimizer".to_owned(), Node::Group(group("vars", state.collect())));
    }
    let weights = hdf5::write(&root).map_err(KerasError::file)?;
    let metadata = json!({ "keras_version": version, "date_saved": "1980-01-01@00:00:00" });
    let parts = [
        ("metadata.json", metadata.to_string().into_bytes()),
        ("config.json", model.to_string().into_bytes()),
        ("model.weights.h5", weights),
    ];
    zipped(&parts).map_err(KerasError::file)
}

fn group(name: &str, members: BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    BTreeMap::from([(name.to_owned(), Node::Group(members))])
}

/// Stored, with one time for all, so that the same model gives the same bytes.
fn zipped(parts: &[(&str, Vec<u8>)]) -> zip::result::ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    for (name, bytes) in parts {
        archive.start_file(*name, options)?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}
