//! What is asked for, what is echoed, and how it is said that something is wrong.

use serde_json::{Value, json};

use super::{expect_error, row, world};

const ADD_ONE: &str = "/v2/models/add-one/infer";
const DIGITS: &str = "/v2/models/digits/infer";
/// A request that can be read, and that the model does not take.
const MISMATCH: u16 = 422;

fn picture() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": vec![0.0; 64] }])
}

#[test]
fn the_id_is_echoed() {
    let world = world();
    for id in ["1", "a b/c", "\u{1f600} \"quoted\" \\", &"x".repeat(500)] {
        let body = json!({ "id": id, "inputs": row(0.0) });
        let answer = world.acme.post(ADD_ONE, &body).expect_status(200).json();
        assert_eq!(answer["id"], *id);
    }
    let answer = world.acme.infer("add-one", row(0.0)).expect_status(200).json();
    assert!(answer.get("id").is_none(), "{answer}");
    assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!("add-one"), &json!("1")));
    for id in [json!(7), json!(["1"]), json!("x".repeat(1 << 20))] {
        expect_error(world.acme.post(ADD_ONE, &json!({ "id": id, "inputs": row(0.0) })), 400, "id");
    }
}

#[test]
fn outputs_come_as_asked_and_in_that_order() {
    let world = world();
    let cases = [
        (json!([]), &["PROBABILITIES", "LABEL"][..]),
        (Value::Null, &["PROBABILITIES", "LABEL"]),
        (json!([{ "name": "LABEL" }]), &["LABEL"]),
        (json!([{ "name": "PROBABILITIES" }]), &["PROBABILITIES"]),
        (json!([{ "name": "LABEL" }, { "name": "PROBABILITIES" }]), &["LABEL", "PROBABILITIES"]),
    ];
    for (outputs, wanted) in cases {
        let body = json!({ "inputs": picture(), "outputs": outputs });
        let answer = world.acme.post(DIGITS, &body).expect_status(200).json();
        let names: Vec<&str> = answer["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| o["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, wanted, "{outputs}");
    }
    for name in ["label", "INPUT0"] {
        let body = json!({ "inputs": picture(), "outputs": [{ "name": name }] });
        expect_error(world.acme.post(DIGITS, &body), MISMATCH, name);
    }
    let wrong = [
        (json!([{ "name": "LABEL" }, { "name": "LABEL" }]), "twice"),
        (json!([{}]), "name"),
        (json!(["LABEL"]), "outputs[0]"),
        (json!({ "name": "LABEL" }), "outputs"),
        (json!([{ "name": "LABEL", "parameters": { "binary_data": "yes" } }]), "binary_data"),
    ];
    for (outputs, text) in wrong {
        let body = json!({ "inputs": picture(), "outputs": outputs });
        expect_error(world.acme.post(DIGITS, &body), 400, text);
    }
}

#[test]
fn parameters_are_strings_numbers_and_bools() {
    let world = world();
    let with = |parameters: Value| {
        world.acme.post(ADD_ONE, &json!({ "inputs": row(0.0), "parameters": parameters }))
    };
    let fine = json!({ "text": "x", "whole": 7, "float": -1.5e3, "yes": true, "no": false });
    with(json!({ "priority": 0, "timeout": 10_000_000, "sequence_id": 0 })).expect_status(200);
    with(fine).expect_status(200);
    with(json!({})).expect_status(200);
    let cases = [
        (json!({ "list": [1] }), "list"),
        (json!({ "object": {} }), "object"),
        (json!([1]), "parameters"),
        (json!("x"), "parameters"),
        (json!({ "binary_data_output": "true" }), "binary_data_output"),
        (json!({ "binary_data_output": 1 }), "binary_data_output"),
        // What has a meaning elsewhere and none here must not be taken as if it had been heeded.
        (json!({ "sequence_id": 5 }), "sequence_id"),
        (json!({ "sequence_start": true }), "sequence_id"),
        (json!({ "priority": 1 }), "priority"),
        (json!({ "priority": -1 }), "priority"),
        (json!({ "timeout": 1.5 }), "timeout"),
        (json!({ "triton_enable_empty_final_response": true }), "triton_"),
    ];
    for (parameters, text) in cases {
        expect_error(with(parameters), 400, text);
    }
    let shared = json!({ "shared_memory_region": "r", "shared_memory_byte_size": 64 });
    let mut inputs = row(0.0);
    inputs[0]["parameters"] = shared;
    expect_error(world.acme.infer("add-one", inputs), 400, "shared_memory");
}

#[test]
fn requests_that_cannot_be_read_are_told_where() {
    let world = world();
    let cases = [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        ("null", ""),
        ("{}", "inputs"),
        (r#"{"inputs":{}}"#, "inputs"),
        (r#"{"inputs":[1]}"#, "inputs[0]"),
        (r#"{"inputs":[{}]}"#, "inputs[0]"),
        (r#"{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,16]}]}"#, "data"),
        (r#"{"inputs":[{"name":"INPUT0","shape":[1,16],"data":[]}]}"#, "datatype"),
        (r#"{"inputs":[{"name":"INPUT0","datatype":"FP32","data":[]}]}"#, "shape"),
        (r#"{"inputs":[{"datatype":"FP32","shape":[0],"data":[]}]}"#, "name"),
        (r#"{"inputs":[{"name":"INPUT0","datatype":"FLOAT","shape":[0],"data":[]}]}"#, "FLOAT"),
        (r#"{"inputs":[{"name":"INPUT0","datatype":"fp32","shape":[0],"data":[]}]}"#, "fp32"),
        (r#"{"inputs":[]} x"#, ""),
        (r#"{"inputs":[],}"#, ""),
        (r#"{'inputs':[]}"#, ""),
        ("{\"inputs\":[]\u{0}}", ""),
    ];
    for (body, text) in cases {
        let json = [("content-type", "application/json")];
        let answer = world.acme.send("POST", ADD_ONE, &json, body.as_bytes());
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        expect_error(answer, 400, text);
    }
    let deep = format!("{{\"inputs\":[],\"extra\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let answer = world.acme.send("POST", ADD_ONE, &[], deep.as_bytes());
    expect_error(answer, 400, "");
}

#[test]
fn tensors_that_the_model_does_not_take_are_named() {
    let world = world();
    let input = |name: &str, dtype: &str, shape: Value, len: usize| json!({ "name": name, "datatype": dtype, "shape": shape, "data": vec![0; len] });
    let good = input("INPUT0", "FP32", json!([1, 16]), 16);
    let cases = [
        (json!([]), "INPUT0"),
        (json!([input("INPUT1", "FP32", json!([1, 16]), 16)]), "INPUT1"),
        (json!([input("input0", "FP32", json!([1, 16]), 16)]), "input0"),
        (json!([input("INPUT0", "FP64", json!([1, 16]), 16)]), "FP64"),
        (json!([input("INPUT0", "FP32", json!([1, 15]), 15)]), "[1,15]"),
        (json!([input("INPUT0", "FP32", json!([16]), 16)]), "[16]"),
        (json!([input("INPUT0", "FP32", json!([1, 1, 16]), 16)]), "[1,1,16]"),
        (json!([good, good]), "INPUT0"),
        (json!([good, input("INPUT1", "FP32", json!([1]), 1)]), "INPUT1"),
    ];
    for (inputs, text) in cases {
        expect_error(world.acme.infer("add-one", inputs), MISMATCH, text);
    }
    // A row of none is a tensor like any other.
    let none = world.acme.infer("add-one", json!([input("INPUT0", "FP32", json!([0, 16]), 0)]));
    assert_eq!(none.expect_status(200).json()["outputs"][0]["shape"], json!([0, 16]));
}
