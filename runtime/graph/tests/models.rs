//! Real models, as PyTorch, scikit-learn and ONNX Runtime's quantiser write them, against ONNX Runtime's answers.
//!
//! `tests/models/export.py` makes the files; see there which networks these are.

// Every function here is part of a test, also those without the attribute that clippy looks for.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use innkeeper_formats::safetensors;
use innkeeper_graph::{Graph, LoadLimits, Unlimited};
use innkeeper_kernels::{Cpu, Run};
use innkeeper_tensor::{Buffer, DType, Named, Tensor};

/// How far an output may be from ONNX Runtime's.
#[derive(Clone, Copy)]
enum Bound {
    /// Each element, as a share of the largest.
    Largest(f64),
    /// The output as a whole, as 1 - cosine. Of quantised networks single elements say little: a rounding error that
    /// moves an activation across a step is a whole step, and several layers add them up.
    Cosine(f64),
}

const FLOAT: Bound = Bound::Largest(1e-4);
const QUANTISED: Bound = Bound::Cosine(1e-2);

fn check(name: &str, cases: &[&str], bound: Bound) {
    let graph =
        match Graph::load(&file(&format!("{name}.onnx")), &LoadLimits::default(), &Run::new()) {
            Ok(graph) => graph,
            Err(error) => panic!("{name}.onnx cannot be loaded: {error}"),
        };
    for case in cases {
        let (inputs, wanted) = golden(&format!("{name}.{case}.safetensors"));
        // Twice, since a second run takes the plan and the packed weights of the first.
        for _ in 0..2 {
            let got = graph.run(&Cpu::new(), inputs.clone(), None, &Unlimited, &Run::new());
            let got = got.unwrap_or_else(|error| panic!("{name}, case {case}: {error}"));
            assert_eq!(got.len(), wanted.len(), "{name}, case {case}");
            for Named { name: output, tensor } in &got {
                let what = format!("{name}, case {case}, output {output}");
                compare(&what, tensor, &wanted[&**output], bound);
            }
        }
    }
}

fn compare(what: &str, got: &Tensor, wanted: &Tensor, bound: Bound) {
    assert_eq!(
        (got.dtype(), got.shape()),
        (wanted.dtype(), wanted.shape()),
        "{what} has another dtype or shape than ONNX Runtime's"
    );
    if got.dtype() != DType::Fp32 {
        assert_eq!(got, wanted, "{what}");
        return;
    }
    let (got, wanted) = (got.elements::<f32>().unwrap(), wanted.elements::<f32>().unwrap());
    let tolerance = match bound {
        Bound::Largest(tolerance) => tolerance,
        Bound::Cosine(most) => {
            let distance = cosine_distance(&got, &wanted);
            // Not the other way round: a NaN must not pass.
            assert!(distance <= most, "{what} is {distance} away from ONNX Runtime's");
            return;
        }
    };
    let largest = wanted.iter().fold(0.0f64, |max, x| max.max(f64::from(x.abs())));
    for (index, (&got, &wanted)) in got.iter().zip(wanted.iter()).enumerate() {
        let off = (f64::from(got) - f64::from(wanted)).abs();
        // Not the other way round: a NaN must not pass.
        assert!(
            off <= tolerance * largest,
            "{what}[{index}] is {got}, ONNX Runtime's {wanted}; the largest element is {largest}"
        );
    }
}

fn cosine_distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The inputs of a case, and the outputs that ONNX Runtime gave.
fn golden(name: &str) -> (Vec<Named>, BTreeMap<String, Tensor>) {
    let tensors = safetensors::tensors(&Buffer::aligned_copy(&file(name))).unwrap();
    let (mut inputs, mut outputs) = (Vec::new(), BTreeMap::new());
    for (name, tensor) in tensors {
        match name.split_once('.').unwrap() {
            ("input", name) => inputs.push(Named { name: name.into(), tensor }),
            ("output", name) => drop(outputs.insert(name.to_owned(), tensor)),
            ("text", name) => drop(outputs.insert(name.to_owned(), strings(&tensor))),
            (other, _) => panic!("a golden has inputs and outputs, not {other}"),
        }
    }
    (inputs, outputs)
}

/// Rows of bytes that are filled up with zeros.
fn strings(rows: &Tensor) -> Tensor {
    let [count, width] = *rows.shape().dims() else { panic!("strings are rows") };
    let row = |row: &[u8]| row[..row.iter().position(|&byte| byte == 0).unwrap_or(width)].to_vec();
    let strings: Vec<Vec<u8>> = rows.as_bytes().chunks_exact(width).map(row).collect();
    Tensor::from_strings(&[count], &strings).unwrap()
}

fn file(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "cannot read {}: {error}\n`cargo xtask models` makes the files that this test needs; it takes some \
             minutes and Python",
            path.display()
        )
    })
}

/// Where `cargo xtask models` puts them.
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = || {
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        root.join(target).join("models")
    };
    std::env::var_os("INNKEEPER_TEST_MODELS").map_or_else(target, PathBuf::from)
}

#[test]
fn mlp() {
    check("mlp-ts", &["one", "many"], FLOAT);
    check("mlp-dynamo", &["one", "many"], FLOAT);
}

#[test]
fn resnet() {
    check("resnet-ts", &["one", "many"], FLOAT);
    check("resnet-dynamo", &["one", "many"], FLOAT);
    check("resnet-norms", &["one"], FLOAT);
    check("resnet-opset7", &["one"], FLOAT);
}

#[test]
fn mobilenet() {
    check("mobilenet-ts", &["one", "many"], FLOAT);
    check("mobilenet-dynamo", &["one", "many"], FLOAT);
}

#[test]
fn gpt() {
    check("gpt-ts", &["one", "many"], FLOAT);
    check("gpt-dynamo", &["one", "many"], FLOAT);
    check("gpt-opset25", &["one", "many"], FLOAT);
}

#[test]
fn llama() {
    check("llama-dynamo", &["one", "many"], FLOAT);
    check("llama-opset25", &["one", "many"], FLOAT);
}

#[test]
fn gpt_with_a_cache_of_keys_and_values() {
    check("gpt-step-ts", &["one", "first", "many"], FLOAT);
    check("gpt-step-dynamo", &["one", "first", "many"], FLOAT);
}

#[test]
fn minilm() {
    check("minilm-ts", &["one", "padded", "long"], FLOAT);
    check("minilm-dynamo", &["one", "padded", "long"], FLOAT);
}

/// Of dynamic quantisation ONNX Runtime takes one range for a whole tensor, and this executor one for each row. What
/// counts is how near the answers are to those of the network before it was quantised.
#[test]
fn minilm_in_int8() {
    let bytes = file("minilm-int8.onnx");
    let graph = Graph::load(&bytes, &LoadLimits::default(), &Run::new()).unwrap();
    for case in ["one", "padded", "long"] {
        let (inputs, quantised) = golden(&format!("minilm-int8.{case}.safetensors"));
        let (same, original) = golden(&format!("minilm-ts.{case}.safetensors"));
        assert_eq!(inputs, same);
        let operations = graph.operations(inputs.clone()).unwrap().unwrap();
        let count = |name: &str| operations.iter().filter(|other| **other == name).count();
        assert_eq!(count("matmul-integer") + count("dynamic-quantize"), 0, "{operations:?}");
        assert!(count("linear-int8") >= 24, "{operations:?}");
        let got = graph.run(&Cpu::new(), inputs, None, &Unlimited, &Run::new()).unwrap();
        let numbers = |tensor: &Tensor| tensor.elements::<f32>().unwrap().into_owned();
        let name = "last_hidden_state";
        let (got, original) = (numbers(&got[0].tensor), numbers(&original[name]));
        let theirs = cosine_distance(&numbers(&quantised[name]), &original);
        let ours = cosine_distance(&got, &original);
        println!("{case}: {ours} and {theirs}");
        assert!(ours <= theirs, "{case}: {ours} from the original, ONNX Runtime {theirs}");
    }
}

#[test]
fn recurrent_layers() {
    for name in ["lstm-ts", "gru-ts", "rnn-ts", "lstm-dynamo", "gru-dynamo", "rnn-dynamo"] {
        check(name, &["one", "many"], FLOAT);
    }
}

#[test]
fn resampling() {
    check("pyramid-ts", &["one", "many"], FLOAT);
    check("pyramid-dynamo", &["one", "many"], FLOAT);
}

#[test]
fn boxes() {
    check("detector", &["one", "many"], FLOAT);
}

#[test]
fn networks_that_onnx_runtime_quantised() {
    for name in ["resnet-qdq", "resnet-qlinear", "mlp-qdq", "mlp-qlinear"] {
        check(name, &["one", "many"], QUANTISED);
    }
}

#[test]
fn classifiers_of_scikit_learn() {
    for name in [
        "digits-forest",
        "digits-boosting",
        "digits-logistic",
        "digits-pipeline",
        "digits-names",
        "digits-two",
        "digits-gaps",
        "digits-svr",
    ] {
        check(name, &["one", "many"], FLOAT);
    }
}
