//! Keras models, as ONNX models.
//!
//! A `.h5` file (Keras 2 and 3) or a `.keras` file (Keras 3) is read: the model's configuration, its weights, how it was
//! compiled, and its optimiser's state. The configuration is written down again as an ONNX model, layer by layer. Images and sequences
//! keep their channels last, as in Keras, also where ONNX's operators want them first. What is not
//! supported is refused by layer, class and setting; what only matters for training (dropout, initialisers,
//! regularisers, constraints) is kept in the configuration.

mod activation;
mod build;
mod config;
mod conv;
mod export;
mod file;
mod layers;
mod recurrent;

use innkeeper_tensor::{Buffer, Named, Tensor};
use serde_json::Value;

use crate::safetensors;

pub use export::to_keras;

/// A model that was read.
#[derive(Clone, Debug)]
pub struct KerasModel {
    /// The model as an ONNX file. Inputs and outputs are called as in Keras.
    pub onnx: Vec<u8>,
    /// The weights, as `LAYER/0`, `LAYER/1`, ... in Keras's order.
    pub weights: Vec<(String, Tensor)>,
    /// The optimiser's state, as `0`, `1`, ...; empty when the file has none.
    pub optimizer: Vec<(String, Tensor)>,
    /// What the file says besides: `keras_version`, `config` (class, layers, settings) and `compile_config`, null where
    /// the model was not compiled.
    pub config: Value,
}

/// The asset of a bundle that holds [`KerasModel::onnx`].
pub const ONNX_ASSET: &str = "model.onnx";
/// The asset with [`KerasModel::config`], as JSON.
pub const CONFIG_ASSET: &str = "keras.json";
/// The asset with [`KerasModel::weights`].
pub const WEIGHTS_ASSET: &str = "weights.safetensors";
/// The asset with [`KerasModel::optimizer`], where there is a state.
pub const OPTIMIZER_ASSET: &str = "optimizer.safetensors";

impl KerasModel {
    /// The assets of a bundle for it, by name: the model to serve, and what training goes on from.
    ///
    /// # Errors
    /// Two weights have one name.
    pub fn to_assets(&self) -> Result<Vec<(&'static str, Vec<u8>)>, KerasError> {
        let file = |tensors: &[(String, Tensor)]| {
            let named = |(name, tensor): &(String, Tensor)| Named {
                name: name.as_str().into(),
                tensor: tensor.clone(),
            };
            let named: Vec<Named> = tensors.iter().map(named).collect();
            safetensors::to_bytes(&named, &[]).map_err(KerasError::file)
        };
        let mut assets = vec![
            (ONNX_ASSET, self.onnx.clone()),
            (CONFIG_ASSET, self.config.to_string().into_bytes()),
            (WEIGHTS_ASSET, file(&self.weights)?),
        ];
        if !self.optimizer.is_empty() {
            assets.push((OPTIMIZER_ASSET, file(&self.optimizer)?));
        }
        Ok(assets)
    }
}

/// The `.keras` file of a bundle's assets, which may have other weights than were imported.
///
/// # Errors
/// An asset is not what [`KerasModel::to_assets`] makes, and what [`to_keras`] says.
pub fn keras_of_assets(
    config: &[u8],
    weights: Vec<u8>,
    optimizer: Option<Vec<u8>>,
) -> Result<Vec<u8>, KerasError> {
    let config = serde_json::from_slice(config)
        .map_err(|error| KerasError::file(format!("{CONFIG_ASSET}: {error}")))?;
    let tensors =
        |bytes: Vec<u8>| safetensors::tensors(&Buffer::from_vec(bytes)).map_err(KerasError::file);
    let optimizer = optimizer.map(tensors).transpose()?.unwrap_or_default();
    to_keras(&config, &tensors(weights)?, &optimizer)
}

/// Why a file is no model that can be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KerasError {
    /// The file is damaged, or none of Keras's.
    #[error("it is no Keras model: {0}")]
    File(String),
    /// A layer, or a setting of one, that is not supported.
    #[error("layer {layer:?} ({class}): {problem}")]
    Layer {
        /// The layer's name.
        layer: String,
        /// Its class.
        class: String,
        /// What is not supported, or wrong.
        problem: String,
    },
}

impl KerasError {
    fn file(problem: impl std::fmt::Display) -> KerasError {
        KerasError::File(problem.to_string())
    }
}

/// Reads a `.h5` or a `.keras` file, which are told by their first bytes.
///
/// # Errors
/// See [`KerasError`].
pub fn read(bytes: &[u8]) -> Result<KerasModel, KerasError> {
    let file = file::File::read(bytes)?;
    of_file(file)
}

/// A model of this configuration, as `config.json` has it, without weights: for finding out whether its layers are
/// supported.
///
/// # Errors
/// See [`KerasError`].
pub fn read_config(config: &str) -> Result<KerasModel, KerasError> {
    of_file(file::File::without_weights(config)?)
}

fn of_file(file: file::File) -> Result<KerasModel, KerasError> {
    let onnx = build::onnx(&file)?;
    let weights = (file.layers.iter())
        .flat_map(|(layer, weights)| {
            let named = move |(place, tensor): (usize, &Tensor)| {
                (format!("{layer}/{place}"), tensor.clone())
            };
            weights.iter().enumerate().map(named)
        })
        .collect();
    let optimizer = (file.optimizer.into_iter().enumerate())
        .map(|(place, tensor)| (place.to_string(), tensor))
        .collect();
    let config = serde_json::json!({
        "keras_version": file.version,
        "config": file.config,
        "compile_config": file.compile,
    });
    Ok(KerasModel { onnx, weights, optimizer, config })
}

/// The first number of a version such as `3.15.1`.
fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}
