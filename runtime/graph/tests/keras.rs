//! Keras models, as they are imported, against Keras's answers.
//!
//! `runtime/formats/fixtures/make_keras.py` makes the files by Keras 2 and 3. Where TensorFlow can be imported by the tests'
//! Python, models are made anew, and what is exported is loaded by Keras.

// Every function here is part of a test, also those without the attribute that clippy looks for.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use innkeeper_formats::keras::{self, KerasModel};
use innkeeper_formats::safetensors;
use innkeeper_graph::{Graph, LoadLimits, Unlimited};
use innkeeper_kernels::{Cpu, Run};
use innkeeper_tensor::{Buffer, Named, Tensor};

const TOLERANCE: f32 = 1e-5;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/fixtures")
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tensors whose names begin so.
fn golden(path: &Path, begin: &str) -> BTreeMap<String, Tensor> {
    let all = safetensors::tensors(&Buffer::from_vec(read(path))).unwrap();
    let of =
        |(name, tensor): (String, Tensor)| Some((name.strip_prefix(begin)?.to_owned(), tensor));
    all.into_iter().filter_map(of).collect()
}

fn imported(path: &Path) -> KerasModel {
    keras::read(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Holds what a model answers against what Keras answered.
fn check(folder: &Path, file: &str, answers: &str) {
    let model = imported(&folder.join(file));
    let graph = Graph::load(&model.onnx, &LoadLimits::default(), &Run::new())
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let answers = folder.join(answers);
    let (inputs, wanted) = (golden(&answers, "input:"), golden(&answers, "output:"));
    let inputs: Vec<Named> = (graph.inputs().iter())
        .map(|spec| {
            // Keras 2 takes an input's name from elsewhere.
            let tensor = inputs.get(&*spec.name).or(inputs.values().next()).unwrap().clone();
            Named { name: spec.name.clone(), tensor }
        })
        .collect();
    let got = graph.run(&Cpu::new(), inputs, None, &Unlimited, &Run::new());
    let got = got.unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(got.len(), wanted.len(), "{file}");
    for Named { name, tensor } in got {
        let wanted = wanted.get(&*name).unwrap_or_else(|| panic!("{file}: no output {name}"));
        assert_eq!(tensor.shape(), wanted.shape(), "{file}: {name}");
        let (got, wanted) = (tensor.elements::<f32>().unwrap(), wanted.elements::<f32>().unwrap());
        for (got, wanted) in got.iter().zip(&*wanted) {
            let error = (got - wanted).abs();
            assert!(error <= TOLERANCE * wanted.abs().max(1.0), "{file}: {name}: {got} {wanted}");
        }
    }
}

#[test]
fn models_answer_as_keras_does() {
    let folder = fixtures().join("keras");
    for (file, answers) in [
        ("mlp.h5", "mlp"),
        ("mlp.keras", "mlp"),
        ("image.keras", "image"),
        ("image2.h5", "image2"),
        ("parts.h5", "parts"),
        ("text.keras", "text"),
        ("text2.h5", "text2"),
    ] {
        check(&folder, file, &format!("{answers}.safetensors"));
    }
}

#[test]
fn what_training_needs_comes_along() {
    for file in ["mlp.h5", "mlp.keras"] {
        let model = imported(&fixtures().join("keras").join(file));
        let shapes: Vec<(&str, &[usize])> =
            (model.weights.iter()).map(|(name, tensor)| (&**name, tensor.shape().dims())).collect();
        assert_eq!(shapes.len(), 6, "{shapes:?}");
        assert_eq!(shapes[0].1, [1000, 64]);
        // Adam's count and its rate: the model was compiled and not trained.
        assert_eq!(model.optimizer.len(), 2, "{file}");
        assert!(model.config["keras_version"].as_str().unwrap().starts_with("3."));
        let compile = model.config["compile_config"].to_string();
        assert!(compile.contains("sparse_categorical_crossentropy"), "{compile}");
    }
}

fn exported(model: &KerasModel) -> Vec<u8> {
    let named = |tensors: &[(String, Tensor)]| tensors.iter().cloned().collect();
    keras::to_keras(&model.config, &named(&model.weights), &named(&model.optimizer)).unwrap()
}

#[test]
fn what_is_exported_is_the_same_model() {
    for file in ["mlp.h5", "mlp.keras", "image.keras", "parts.h5", "text.keras"] {
        let model = imported(&fixtures().join("keras").join(file));
        let again = keras::read(&exported(&model)).unwrap();
        assert_eq!(again.onnx, model.onnx, "{file}");
        assert_eq!((again.weights, again.optimizer), (model.weights, model.optimizer), "{file}");
        assert_eq!(again.config["compile_config"], model.config["compile_config"], "{file}");
    }
    let old = imported(&fixtures().join("keras/text2.h5"));
    let error = keras::to_keras(&old.config, &BTreeMap::new(), &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("load and save it by Keras 3"), "{error}");
}

/// A model of one layer after its input, of this class and configuration.
fn refusal(class: &str, config: &str) -> String {
    let named = |name: &str, class: &str, config: &str| {
        format!("{{\"class_name\": \"{class}\", \"config\": {{\"name\": \"{name}\", {config}}}}}")
    };
    let input = named("x", "InputLayer", "\"batch_shape\": [null, 4, 4, 2]");
    let layers = format!("[{input}, {}]", named("odd", class, config));
    let model = format!("{{\"class_name\": \"Sequential\", \"config\": {{\"layers\": {layers}}}}}");
    keras::read_config(&model).map(|_| ()).expect_err(class).to_string()
}

#[test]
fn what_is_not_supported_is_named() {
    for (class, config, wanted) in [
        ("Conv3D", "\"filters\": 1", "layer \"odd\" (Conv3D): this class is not supported"),
        ("Lambda", "\"function\": 1", "layer \"odd\" (Lambda): this class is not supported"),
        ("Activation", "\"activation\": \"cube\"", "activation = \"cube\" is not supported"),
        ("LSTM", "\"units\": 2, \"stateful\": true", "stateful = true is not supported"),
        (
            "Embedding",
            "\"input_dim\": 2, \"output_dim\": 2, \"mask_zero\": true",
            "mask_zero = true",
        ),
        ("Dense", "\"units\": 2, \"dtype\": \"mixed_float16\"", "dtype = \"mixed_float16\""),
        ("Dense", "\"units\": -1", "units = -1"),
        ("Dense", "\"units\": 3", "the file has 0 weights of it, and it takes 2"),
        (
            "Conv2D",
            "\"filters\": 1, \"kernel_size\": 2, \"data_format\": \"channels_first\"",
            "data_format = \"channels_first\"",
        ),
        ("MaxPooling2D", "\"pool_size\": [2, 2], \"padding\": \"odd\"", "padding = \"odd\""),
        ("Add", "\"a\": 1", "it is applied to one tensor"),
    ] {
        let got = refusal(class, config);
        assert!(got.contains(wanted), "{class}: wanted {wanted:?}, got {got:?}");
    }
}

#[test]
fn no_damaged_file_can_panic() {
    for file in ["text.keras", "text2.h5"] {
        let bytes = read(&fixtures().join("keras").join(file));
        for len in (0..bytes.len()).step_by(bytes.len() / 40) {
            assert!(keras::read(&bytes[..len]).is_err(), "{file}, {len} bytes");
        }
        // Every byte in turn would take minutes; these are spread over all kinds of blocks.
        for place in (0..bytes.len()).step_by(97) {
            for value in [0, 0xff, bytes[place] ^ 1] {
                let mut bytes = bytes.clone();
                bytes[place] = value;
                if let Ok(model) = keras::read(&bytes) {
                    let _ = Graph::load(&model.onnx, &LoadLimits::default(), &Run::new());
                }
            }
        }
    }
}

/// Runs only where the tests' Python has TensorFlow.
#[test]
fn models_made_now_agree_and_exports_load_in_keras() {
    let python = std::env::var_os("INNKEEPER_TEST_KERAS_VENV")
        .or_else(|| std::env::var_os("INNKEEPER_TEST_VENV"))
        .map(|venv| Path::new(&venv).join("bin/python"));
    let has_keras = |python: &PathBuf| {
        let status =
            Command::new(python).args(["-c", "import tensorflow, tf_keras, safetensors"]).output();
        status.is_ok_and(|output| output.status.success())
    };
    let Some(python) = python.filter(has_keras) else {
        eprintln!(
            "SKIPPED: no TensorFlow in INNKEEPER_TEST_KERAS_VENV or INNKEEPER_TEST_VENV; Keras itself was not asked"
        );
        return;
    };
    let folder = std::env::temp_dir().join(format!("innkeeper-keras-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let run = |script: &str| {
        let status =
            Command::new(&python).arg(fixtures().join(script)).arg(&folder).status().unwrap();
        assert!(status.success(), "{script} failed");
    };
    run("make_keras.py");
    for name in ["image", "parts", "text"] {
        for ending in ["keras", "h5"] {
            check(
                &folder.join("keras"),
                &format!("{name}.{ending}"),
                &format!("{name}.safetensors"),
            );
            let exported = exported(&imported(&folder.join(format!("keras/{name}.{ending}"))));
            fs::write(folder.join(format!("keras/{name}-{ending}.exported.keras")), exported)
                .unwrap();
        }
        check(&folder.join("keras"), &format!("{name}2.h5"), &format!("{name}2.safetensors"));
    }
    run("load_keras.py");
    fs::remove_dir_all(&folder).unwrap();
}
