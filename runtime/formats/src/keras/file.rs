//! The two kinds of files.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use innkeeper_tensor::Tensor;
use serde_json::Value;
use zip::ZipArchive;

use super::config::{self, layers};
use super::{KerasError, major};
use crate::hdf5::{Attribute, Hdf5, Object};

/// The most bytes of a configuration.
const JSON_BYTES_MAX: u64 = 64 << 20;
/// The most bytes of the weights in a `.keras` file, as a multiple of the file's.
const WEIGHTS_TIMES_MAX: u64 = 64;

/// What a file says.
pub(super) struct File {
    pub(super) version: String,
    /// `{"class_name": "Sequential", "config": {..}}`.
    pub(super) config: Value,
    /// Null where the model was not compiled.
    pub(super) compile: Value,
    /// The weights of the layers that have some, in the order in which Keras makes them.
    pub(super) layers: BTreeMap<String, Vec<Tensor>>,
    pub(super) optimizer: Vec<Tensor>,
}

impl File {
    pub(super) fn read(bytes: &[u8]) -> Result<File, KerasError> {
        match bytes.starts_with(b"PK") {
            true => read_keras(bytes),
            false => read_h5(bytes),
        }
    }

    /// A model of Keras 3 that has no weights.
    pub(super) fn without_weights(config: &str) -> Result<File, KerasError> {
        let (config, version) = (parse(config.as_bytes())?, "3".to_owned());
        let (layers, optimizer) = (BTreeMap::new(), Vec::new());
        Ok(File { version, config, compile: Value::Null, layers, optimizer })
    }
}

fn read_h5(bytes: &[u8]) -> Result<File, KerasError> {
    let file = Hdf5::open(bytes).map_err(KerasError::file)?;
    let root = file.root().map_err(KerasError::file)?;
    let config = text(&root, "model_config")?.ok_or_else(|| {
        KerasError::file("it has weights and no model; save the whole model by model.save(..)")
    })?;
    let compile = match text(&root, "training_config")? {
        Some(json) => parse(json.as_bytes())?,
        None => Value::Null,
    };
    let version = text(&root, "keras_version")?.unwrap_or_else(|| "2".to_owned());
    let mut layers = BTreeMap::new();
    if let Some(group) = root.find("model_weights").map_err(KerasError::file)? {
        for (name, layer) in group.children().map_err(KerasError::file)? {
            let weights = named_arrays(&layer)?;
            if !weights.is_empty() {
                layers.insert(name, weights);
            }
        }
    }
    let optimizer = match root.find("optimizer_weights").map_err(KerasError::file)? {
        Some(group) => named_arrays(&group)?,
        None => Vec::new(),
    };
    Ok(File { version, config: parse(config.as_bytes())?, compile, layers, optimizer })
}

fn text(object: &Object<'_>, name: &str) -> Result<Option<String>, KerasError> {
    let attribute = object.attribute(name).map_err(KerasError::file)?;
    Ok(attribute.as_ref().and_then(Attribute::text).map(str::to_owned))
}

/// The arrays that `weight_names` names, in its order. Keras spreads long lists over several attributes.
fn named_arrays(group: &Object<'_>) -> Result<Vec<Tensor>, KerasError> {
    let attribute = |name: &str| group.attribute(name).map_err(KerasError::file);
    let mut names = Vec::new();
    let mut add = |attribute: Attribute| match attribute {
        Attribute::Texts(texts) => names.extend(texts),
        // An empty list is stored as one of numbers.
        Attribute::Numbers(_) => {}
    };
    match attribute("weight_names")? {
        Some(all) => add(all),
        None => {
            let mut part = 0;
            while let Some(some) = attribute(&format!("weight_names{part}"))? {
                add(some);
                part += 1;
            }
        }
    }
    let array = |name: &String| {
        let found = group.find(name).map_err(KerasError::file)?;
        let object = found.ok_or_else(|| KerasError::file(format!("it has no weight {name:?}")))?;
        object.array().map_err(|error| KerasError::file(format!("weight {name:?}: {error}")))
    };
    names.iter().map(array).collect()
}

fn read_keras(bytes: &[u8]) -> Result<File, KerasError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(KerasError::file)?;
    let mut entry = |name: &str, max: u64| {
        let entry =
            archive.by_name(name).map_err(|error| KerasError::file(format!("{name}: {error}")))?;
        let mut bytes = Vec::new();
        (entry.take(max + 1).read_to_end(&mut bytes))
            .map_err(|error| KerasError::file(format!("{name}: {error}")))?;
        match bytes.len() as u64 > max {
            true => Err(KerasError::file(format!("{name} has over {max} bytes"))),
            false => Ok(bytes),
        }
    };
    let mut config = parse(&entry("config.json", JSON_BYTES_MAX)?)?;
    let metadata = parse(&entry("metadata.json", JSON_BYTES_MAX)?)?;
    let version = metadata["keras_version"].as_str().unwrap_or("3").to_owned();
    if major(&version) != Some(3) {
        let problem = format!("it was written by Keras {version}; .keras files are Keras 3's");
        return Err(KerasError::file(problem));
    }
    let compile = config.get_mut("compile_config").map_or(Value::Null, Value::take);
    let max = (64 << 20) + WEIGHTS_TIMES_MAX * bytes.len() as u64;
    let weights = entry("model.weights.h5", max)?;
    let weights = Hdf5::open(&weights).map_err(KerasError::file)?;
    let root = weights.root().map_err(KerasError::file)?;
    let mut layers_found = BTreeMap::new();
    if let Some(group) = root.find("layers").map_err(KerasError::file)? {
        let mut members = group.children().map_err(KerasError::file)?;
        for (layer, path) in layers(&config)?.iter().zip(paths(&config)?) {
            let Some(object) = members.remove(&path) else { continue };
            check_name(&object, layer)?;
            let inner = if config::is_cell(&layer.class) { "cell/vars" } else { "vars" };
            let arrays = numbered_arrays(object.find(inner).map_err(KerasError::file)?)?;
            if !arrays.is_empty() {
                layers_found.insert(layer.name.clone(), arrays);
            }
        }
    }
    let optimizer = root.find("optimizer/vars").map_err(KerasError::file)?;
    let optimizer = numbered_arrays(optimizer)?;
    Ok(File { version, config, compile, layers: layers_found, optimizer })
}

/// Newer versions write a layer's name beside its weights: they must be this layer's.
fn check_name(object: &Object<'_>, layer: &config::Layer<'_>) -> Result<(), KerasError> {
    let vars = object.find("vars").map_err(KerasError::file)?;
    let name = vars.map_or(Ok(None), |vars| text(&vars, "name"))?;
    match name.filter(|name| *name != layer.name) {
        Some(name) => Err(layer.error(format!("the weights in its place are of {name:?}"))),
        None => Ok(()),
    }
}

/// The arrays `0`, `1`, ... of a group.
fn numbered_arrays(group: Option<Object<'_>>) -> Result<Vec<Tensor>, KerasError> {
    let Some(group) = group else { return Ok(Vec::new()) };
    let members = group.children().map_err(KerasError::file)?;
    (0..members.len())
        .map(|number| {
            let missing = || KerasError::file(format!("its weights have no number {number}"));
            let object = members.get(&number.to_string()).ok_or_else(missing)?;
            object.array().map_err(KerasError::file)
        })
        .collect()
}

/// The group of each layer in a `.keras` file: its class in small letters, numbered within the class.
pub(super) fn paths(config: &Value) -> Result<Vec<String>, KerasError> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let path = |layer: &config::Layer<'_>| {
        let class = snake(&layer.class);
        let count = counts.entry(class.clone()).or_default();
        *count += 1;
        if *count == 1 { class } else { format!("{class}_{}", *count - 1) }
    };
    Ok(layers(config)?.iter().map(path).collect())
}

/// `LayerNormalization` as `layer_normalization`, and `ReLU` as `re_lu`, as Keras has it.
fn snake(class: &str) -> String {
    let chars: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut snake = String::new();
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        let is_lower = |c: Option<&char>| c.is_some_and(char::is_ascii_lowercase);
        let begins = c.is_ascii_uppercase()
            && before.is_some_and(|before| *before != '_')
            && (is_lower(chars.get(at + 1)) || is_lower(before));
        if begins {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Keras writes Infinity and NaN, which JSON does not have, only where a layer has them as settings.
fn parse(json: &[u8]) -> Result<Value, KerasError> {
    serde_json::from_slice(json)
        .map_err(|error| KerasError::file(format!("its configuration: {error}")))
}

#[cfg(test)]
mod tests {
    use super::snake;

    #[test]
    fn classes_are_written_as_keras_writes_them() {
        for (class, wanted) in [
            ("Dense", "dense"),
            ("Conv2D", "conv2d"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("LayerNormalization", "layer_normalization"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("LSTM", "lstm"),
            ("ReLU", "re_lu"),
            ("PReLU", "p_re_lu"),
            ("LeakyReLU", "leaky_re_lu"),
        ] {
            assert_eq!(snake(class), wanted);
        }
    }
}
