//! Tensors as bytes: the extension `binary_tensor_data`.

use serde_json::{Value, json};

use super::{expect_error, row, world};
use crate::harness::{Answer, Client};

/// Every datatype.
pub(crate) const DTYPES: &[&str] = &[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "FP32", "FP64", "BF16", "BYTES",
];

const LENGTH: &str = "inference-header-content-length";
const IDENTITY: &str = "/v2/models/identity/infer";

/// Sends a JSON header with bytes behind it.
pub(super) fn call(client: &Client, path: &str, head: &Value, bytes: &[u8]) -> Answer {
    let head = head.to_string();
    let length = head.len().to_string();
    let headers = [("content-type", "application/octet-stream"), (LENGTH, length.as_str())];
    client.send("POST", path, &headers, &[head.as_bytes(), bytes].concat())
}

/// The JSON of an answer, and its binary tensors by name, in order. Their sizes must add up.
#[track_caller]
pub(super) fn taken_apart(answer: &Answer) -> (Value, Vec<(String, Vec<u8>)>) {
    let Some(length) = answer.header(LENGTH) else {
        assert_eq!(answer.header("content-type"), Some("application/json"));
        return (answer.json(), Vec::new());
    };
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    let (head, mut rest) = answer.body.split_at(length.parse().unwrap());
    let head: Value = serde_json::from_slice(head).unwrap();
    let mut tensors = Vec::new();
    for output in head["outputs"].as_array().unwrap() {
        let Some(size) = output["parameters"]["binary_data_size"].as_u64() else {
            assert!(output["data"].is_array(), "neither data nor a size: {output}");
            continue;
        };
        assert!(output.get("data").is_none(), "{output}");
        let (bytes, after) = rest.split_at(size.try_into().unwrap());
        tensors.push((output["name"].as_str().unwrap().to_owned(), bytes.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty(), "{} bytes belong to no output", rest.len());
    (head, tensors)
}

/// An input of `identity` whose bytes follow the JSON.
fn input(dtype: &str, shape: &[usize], size: usize) -> Value {
    json!({ "name": format!("INPUT_{dtype}"), "datatype": dtype, "shape": shape,
        "parameters": { "binary_data_size": size } })
}

/// Four elements of each datatype as they lie on the wire, every bit pattern of interest among them.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    fn bytes<T, const N: usize>(values: [T; 4], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        values.into_iter().flat_map(to).collect()
    }
    let strings: [&[u8]; 4] = [b"", b"text", "\u{fc}\u{20ac}\u{1f600}".as_bytes(), b"\0\xff\xfe"];
    let framed = strings
        .into_iter()
        .flat_map(|text| [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text].concat());
    vec![
        ("BOOL", vec![0, 1, 1, 0]),
        ("UINT8", vec![0, 1, 127, 255]),
        ("UINT16", bytes([0, 1, 0x1234, u16::MAX], u16::to_le_bytes)),
        ("UINT32", bytes([0, 1, 0x1234_5678, u32::MAX], u32::to_le_bytes)),
        ("UINT64", bytes([0, 1, 0x1234_5678_9abc_def0, u64::MAX], u64::to_le_bytes)),
        ("INT8", bytes([0, -1, i8::MIN, i8::MAX], i8::to_le_bytes)),
        ("INT16", bytes([0, -1, i16::MIN, i16::MAX], i16::to_le_bytes)),
        ("INT32", bytes([0, -1, i32::MIN, i32::MAX], i32::to_le_bytes)),
        ("INT64", bytes([0, -1, i64::MIN, i64::MAX], i64::to_le_bytes)),
        // One, minus infinity, a NaN with a payload, the smallest of all.
        ("FP16", bytes([0x3c00, 0xfc00, 0x7e01, 0x0001], u16::to_le_bytes)),
        ("BF16", bytes([0x3f80, 0xff80, 0x7fc1, 0x0001], u16::to_le_bytes)),
        ("FP32", bytes([0x3f80_0000, 0xff80_0000, 0x7fc0_0001, 1], u32::to_le_bytes)),
        ("FP64", bytes([0x3ff << 52, 0xfff << 52, 0x7ff8 << 48 | 1, 1], u64::to_le_bytes)),
        ("BYTES", framed.collect()),
    ]
}

#[test]
fn every_dtype_comes_back_bit_for_bit() {
    let world = world();
    let samples = samples();
    assert_eq!(samples.len(), DTYPES.len());
    for (dtype, bytes) in &samples {
        for shape in [&[4][..], &[2, 2], &[1, 4, 1]] {
            let head = json!({
                "inputs": [input(dtype, shape, bytes.len())],
                "parameters": { "binary_data_output": true },
            });
            let answer = call(&world.acme, IDENTITY, &head, bytes).expect_status(200);
            let (head, tensors) = taken_apart(&answer);
            let output = &head["outputs"][0];
            assert_eq!((&output["datatype"], &output["shape"]), (&json!(dtype), &json!(shape)));
            assert_eq!(tensors, [(format!("OUTPUT_{dtype}"), bytes.clone())], "{dtype} {shape:?}");
        }
    }
    // All at once, in the order of the request's outputs, which is not that of its inputs.
    let inputs: Vec<Value> =
        samples.iter().map(|(dtype, bytes)| input(dtype, &[4], bytes.len())).collect();
    let outputs: Vec<Value> = samples
        .iter()
        .rev()
        .map(|(dtype, _)| {
            json!({ "name": format!("OUTPUT_{dtype}"), "parameters": { "binary_data": true } })
        })
        .collect();
    let bytes: Vec<u8> = samples.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let head = json!({ "inputs": inputs, "outputs": outputs });
    let (_, tensors) = taken_apart(&call(&world.acme, IDENTITY, &head, &bytes).expect_status(200));
    let wanted: Vec<(String, Vec<u8>)> = samples
        .into_iter()
        .rev()
        .map(|(dtype, bytes)| (format!("OUTPUT_{dtype}"), bytes))
        .collect();
    assert_eq!(tensors, wanted);
}

#[test]
fn json_and_binary_tensors_mix() {
    let world = world();
    // A blob belongs to the inputs that have a size, in their order, whatever stands between them.
    let head = json!({
        "id": "mixed",
        "inputs": [
            input("INT16", &[2], 4),
            { "name": "INPUT_FP32", "datatype": "FP32", "shape": [2], "data": [0.5, -2.0] },
            input("UINT8", &[3], 3),
        ],
        "outputs": [
            { "name": "OUTPUT_FP32", "parameters": { "binary_data": true } },
            { "name": "OUTPUT_UINT8" },
            { "name": "OUTPUT_INT16", "parameters": { "binary_data": true } },
        ],
    });
    let answer = call(&world.acme, IDENTITY, &head, &[1, 0, 0xff, 0xff, 7, 8, 9]);
    let (head, tensors) = taken_apart(&answer.expect_status(200));
    assert_eq!(head["id"], "mixed");
    let names: Vec<&Value> =
        head["outputs"].as_array().unwrap().iter().map(|output| &output["name"]).collect();
    assert_eq!(names, ["OUTPUT_FP32", "OUTPUT_UINT8", "OUTPUT_INT16"]);
    assert_eq!(head["outputs"][1]["data"], json!([7, 8, 9]));
    let floats = [0.5f32.to_le_bytes(), (-2f32).to_le_bytes()].concat();
    let shorts = vec![1, 0, 0xff, 0xff];
    assert_eq!(tensors, [("OUTPUT_FP32".into(), floats), ("OUTPUT_INT16".into(), shorts)]);
}

#[test]
fn each_output_says_its_form_or_the_request_does() {
    let world = world();
    let picture =
        json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": vec![0; 64] }]);
    let outputs = |first: Value, second: Value| {
        json!([{ "name": "PROBABILITIES", "parameters": first },
            { "name": "LABEL", "parameters": second }])
    };
    let (yes, no) = (json!({ "binary_data": true }), json!({ "binary_data": false }));
    let nothing = json!({});
    // For all, for each; then which of the two are binary.
    let cases = [
        (json!({}), Value::Null, [false, false]),
        (json!({ "binary_data_output": false }), Value::Null, [false, false]),
        (json!({ "binary_data_output": true }), Value::Null, [true, true]),
        (json!({}), outputs(yes.clone(), nothing.clone()), [true, false]),
        (json!({}), outputs(nothing.clone(), yes.clone()), [false, true]),
        (
            json!({ "binary_data_output": true }),
            outputs(no.clone(), nothing.clone()),
            [false, true],
        ),
        (json!({ "binary_data_output": true }), outputs(no.clone(), yes.clone()), [false, true]),
        (json!({ "binary_data_output": true }), outputs(no.clone(), no.clone()), [false, false]),
        (json!({ "binary_data_output": false }), outputs(yes, nothing), [true, false]),
    ];
    for (parameters, outputs, wanted) in cases {
        let mut body = json!({ "inputs": picture, "parameters": parameters });
        if outputs.is_array() {
            body["outputs"] = outputs;
        }
        let answer = world.acme.post("/v2/models/digits/infer", &body).expect_status(200);
        let (head, tensors) = taken_apart(&answer);
        let is_binary = |index: usize| head["outputs"][index].get("data").is_none();
        assert_eq!([is_binary(0), is_binary(1)], wanted, "{body}");
        assert_eq!(tensors.len(), wanted.iter().filter(|binary| **binary).count());
    }
}

#[test]
fn a_raw_binary_request_is_all_data() {
    let world = world();
    let raw = |model: &str, body: &[u8]| {
        let path = format!("/v2/models/{model}/infer");
        world.acme.send("POST", &path, &[(LENGTH, "0")], body)
    };
    let (head, tensors) =
        taken_apart(&raw("add-one", &1f32.to_le_bytes().repeat(16)).expect_status(200));
    assert_eq!(head["outputs"][0]["shape"], json!([1, 16]));
    assert_eq!(tensors, [("OUTPUT0".into(), 2f32.to_le_bytes().repeat(16))]);
    // All of a model's outputs come back as bytes.
    let (head, tensors) = taken_apart(&raw("digits", &[0; 256]).expect_status(200));
    assert_eq!(head["outputs"][1]["shape"], json!([1]));
    let sizes: Vec<usize> = tensors.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(sizes, [40, 8]);

    expect_error(raw("add-one", &[0; 63]), 400, "63");
    expect_error(raw("identity", &[0; 4]), 400, "one input");
}

#[test]
fn sizes_must_add_up() {
    let world = world();
    let with = |inputs: Value, bytes: &[u8]| {
        call(&world.acme, IDENTITY, &json!({ "inputs": inputs }), bytes)
    };
    let cases = [
        (json!([input("UINT8", &[4], 4)]), 3, "4"),
        (json!([input("UINT8", &[4], 4)]), 5, "5"),
        (json!([input("UINT8", &[4], 3)]), 3, "4"),
        (json!([input("INT16", &[4], 4)]), 4, "8"),
        (json!([input("UINT8", &[2], 2), input("INT8", &[2], 2)]), 3, "2"),
        (json!([]), 1, ""),
        (json!([input("UINT8", &[4], usize::MAX)]), 4, ""),
    ];
    for (inputs, bytes, text) in cases {
        expect_error(with(inputs, &vec![0; bytes]), 400, text);
    }
    // A length that lies within the strings, and one that does not end them.
    expect_error(with(json!([input("BYTES", &[1], 6)]), &[9, 0, 0, 0, 1, 2]), 400, "");
    expect_error(with(json!([input("BYTES", &[1], 6)]), &[1, 0, 0, 0, 1, 2]), 400, "");
    // What is no bool.
    expect_error(with(json!([input("BOOL", &[2], 2)]), &[0, 2]), 400, "");

    let path = "/v2/models/add-one/infer";
    let body = json!({ "inputs": row(0.0) }).to_string();
    for length in ["999999", "18446744073709551616", "-1", "1.0", "x", ""] {
        let headers = [("content-type", "application/octet-stream"), (LENGTH, length)];
        expect_error(world.acme.send("POST", path, &headers, body.as_bytes()), 400, "");
    }
}

#[test]
fn without_a_json_form_bytes_it_is() {
    let world = world();
    for dtype in ["FP16", "BF16"] {
        let as_json = json!({ "name": format!("INPUT_{dtype}"), "datatype": dtype, "shape": [1], "data": [1.0] });
        expect_error(world.acme.infer("identity", json!([as_json])), 400, "no JSON form");
        // Asked for by name, and as one of all that there are.
        for outputs in [json!([{ "name": format!("OUTPUT_{dtype}") }]), json!([])] {
            let head = json!({ "inputs": [input(dtype, &[1], 2)], "outputs": outputs });
            expect_error(call(&world.acme, IDENTITY, &head, &[0, 0]), 400, "no JSON form");
        }
    }
    // Text that is none has no JSON form either; the one who sees it is told which way there is.
    let head = json!({ "inputs": [input("BYTES", &[1], 5)] });
    let answer = call(&world.acme, IDENTITY, &head, &[1, 0, 0, 0, 0xff]);
    assert!((400..500).contains(&answer.status), "{}", answer.text());
    assert!(answer.error().contains("binary_data"), "{}", answer.text());
}
