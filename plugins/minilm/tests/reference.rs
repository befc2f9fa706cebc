//! The model against the libraries that it comes from; `golden.py` wrote what they say.

use innkeeper_sdk::test::Harness;
use innkeeper_sdk::{Inputs, Tensor};
use minilm::MiniLm;
use serde_json::Value;

fn model() -> Harness<MiniLm> {
    Harness::load_plugin(env!("CARGO_MANIFEST_DIR"))
        .expect("the assets are made by prepare.py; see there, or run `cargo xtask models`")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn texts() -> Vec<String> {
    let request = json(include_str!("../samples/sentences.json"));
    let data = request["inputs"][0]["data"].as_array().unwrap();
    data.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn embeddings(model: &Harness<MiniLm>, texts: &[String]) -> Vec<f32> {
    let inputs = Inputs::new().with("TEXT", Tensor::from_strings(&[texts.len()], texts).unwrap());
    model.predict(inputs).unwrap().tensor("EMBEDDING").unwrap().to_vec().unwrap()
}

/// 1 - the cosine of the angle between two vectors.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn tokens_are_those_of_the_tokenizers_library() {
    let model = model();
    let cases = json(include_str!("tokens.json"));
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 80);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let tokens = model.model().tokens(text);
        assert_eq!(serde_json::json!(tokens), case["ids"], "{text:?}");
    }
}

#[test]
fn embeddings_are_those_of_sentence_transformers() {
    let wanted = json(include_str!("../samples/sentences.expected.json"));
    let wanted = wanted["outputs"][0]["data"].as_array().unwrap();
    let wanted: Vec<f32> = wanted.iter().map(|value| value.as_f64().unwrap() as f32).collect();
    let got = embeddings(&model(), &texts());
    assert_eq!(got.len(), wanted.len());
    for (row, (got, wanted)) in got.chunks(384).zip(wanted.chunks(384)).enumerate() {
        let distance = distance(got, wanted);
        assert!(distance <= 1e-6, "row {row} is {distance:e} away");
        let worst = got.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-5, "row {row} is {worst:e} off");
    }
}

#[test]
fn a_sentence_has_one_embedding_whatever_comes_with_it() {
    let (model, texts) = (model(), texts());
    let together = embeddings(&model, &texts);
    for (text, together) in texts.iter().zip(together.chunks(384)) {
        let alone = embeddings(&model, std::slice::from_ref(text));
        assert!(distance(&alone, together) <= 1e-6, "{text:?}");
    }
    assert!(embeddings(&model, &[]).is_empty());
}

#[test]
fn sentences_that_mean_the_same_are_close() {
    let got = embeddings(&model(), &texts());
    let row = |index: usize| &got[index * 384..(index + 1) * 384];
    assert!(distance(row(0), row(1)) < 0.5);
    assert!(distance(row(0), row(2)) > 0.8);
}
