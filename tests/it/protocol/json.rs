//! Tensors as JSON.

use serde_json::{Value, json};

use super::binary::{call, taken_apart};
use super::{expect_error, row, world};
use crate::harness::{Answer, Client};

const IDENTITY: &str = "/v2/models/identity/infer";

/// Sends text that no JSON library would write.
fn send(client: &Client, path: &str, body: &str) -> Answer {
    client.send("POST", path, &[("content-type", "application/json")], body.as_bytes())
}

/// A request to `identity` with one input, its data as text.
fn request(dtype: &str, shape: &str, data: &str, binary: bool) -> String {
    format!(
        r#"{{"parameters":{{"binary_data_output":{binary}}},"inputs":[
            {{"name":"INPUT_{dtype}","datatype":"{dtype}","shape":{shape},"data":{data}}}]}}"#
    )
}

fn le<T, const N: usize>(values: &[T], to: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(to).collect()
}

/// Each datatype with a JSON form: four elements as text, and as bytes.
fn samples() -> Vec<(&'static str, [&'static str; 4], Vec<u8>)> {
    let strings = ["", "text", "\u{fc}\u{20ac}\u{1f600}", "\0\"\\/\n"];
    let framed = strings.iter().flat_map(|text| {
        [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
    });
    vec![
        ("BOOL", ["false", "true", "true", "false"], vec![0, 1, 1, 0]),
        ("UINT8", ["0", "1", "127", "255"], vec![0, 1, 127, 255]),
        ("UINT16", ["0", "1", "4660", "65535"], le(&[0, 1, 4660, u16::MAX], |v| v.to_le_bytes())),
        ("UINT32", ["0", "1", "7", "4294967295"], le(&[0, 1, 7, u32::MAX], |v| v.to_le_bytes())),
        (
            "UINT64",
            ["0", "1", "9007199254740993", "18446744073709551615"],
            le(&[0, 1, 9_007_199_254_740_993, u64::MAX], |v| v.to_le_bytes()),
        ),
        ("INT8", ["0", "-1", "-128", "127"], le(&[0, -1, i8::MIN, i8::MAX], |v| v.to_le_bytes())),
        (
            "INT16",
            ["0", "-1", "-32768", "32767"],
            le(&[0, -1, i16::MIN, i16::MAX], |v| v.to_le_bytes()),
        ),
        (
            "INT32",
            ["0", "-1", "-2147483648", "2147483647"],
            le(&[0, -1, i32::MIN, i32::MAX], |v| v.to_le_bytes()),
        ),
        (
            "INT64",
            ["-9007199254740993", "-1", "-9223372036854775808", "9223372036854775807"],
            le(&[-9_007_199_254_740_993, -1, i64::MIN, i64::MAX], |v| v.to_le_bytes()),
        ),
        (
            "FP32",
            ["0.1", "-2.5", "3.4028235e38", "1e-45"],
            le(&[0.1f32, -2.5, f32::MAX, 1e-45], |v| v.to_le_bytes()),
        ),
        (
            "FP64",
            ["0.1", "-2.5", "1.7976931348623157e308", "5e-324"],
            le(&[0.1f64, -2.5, f64::MAX, 5e-324], |v| v.to_le_bytes()),
        ),
        (
            "BYTES",
            [r#""""#, r#""text""#, r#""\u00fc\u20ac\ud83d\ude00""#, r#""\u0000\"\\\/\n""#],
            framed.collect(),
        ),
    ]
}

#[test]
fn every_dtype_comes_back_from_json() {
    let world = world();
    for (dtype, [a, b, c, d], bytes) in samples() {
        let flat = format!("[{a},{b},{c},{d}]");
        let wanted: Value = serde_json::from_str(&flat).unwrap();
        let forms = [
            ("[4]", flat.clone()),
            ("[2,2]", flat.clone()),
            ("[2,2]", format!("[[{a},{b}],[{c},{d}]]")),
            ("[1,4,1]", format!(" [ [ [{a}],[{b}] ,[{c}],\n[{d}]]]\t")),
            ("[2,1,2]", flat),
        ];
        for (shape, data) in forms {
            let answer = send(&world.acme, IDENTITY, &request(dtype, shape, &data, false));
            let output = answer.expect_status(200).json()["outputs"][0].clone();
            let shape_wanted: Value = serde_json::from_str(shape).unwrap();
            assert_eq!(output["name"], format!("OUTPUT_{dtype}"));
            assert_eq!((&output["datatype"], &output["shape"]), (&json!(dtype), &shape_wanted));
            assert_eq!(output["data"], wanted, "{dtype} {shape} {data}");

            let answer = send(&world.acme, IDENTITY, &request(dtype, shape, &data, true));
            let (_, tensors) = taken_apart(&answer.expect_status(200));
            assert_eq!(tensors, [(format!("OUTPUT_{dtype}"), bytes.clone())], "{dtype} {shape}");
        }
        // And from bytes into JSON.
        let head = json!({ "inputs": [{ "name": format!("INPUT_{dtype}"), "datatype": dtype,
            "shape": [4], "parameters": { "binary_data_size": bytes.len() } }] });
        let answer = call(&world.acme, IDENTITY, &head, &bytes).expect_status(200);
        assert_eq!(answer.json()["outputs"][0]["data"], wanted, "{dtype}");
    }
}

#[test]
fn floats_are_printed_short_and_read_back_the_same() {
    let world = world();
    let texts = ["0.1", "0.3333333", "16777216", "1e-45", "0.5"];
    let answer = send(
        &world.acme,
        IDENTITY,
        &request("FP32", "[5]", &format!("[{}]", texts.join(",")), false),
    );
    let text = answer.expect_status(200).text();
    assert!(text.contains("0.1,0.3333333,"), "more digits than an FP32 has: {text}");
    // More digits than any float has, and the value half-way between two of them.
    let cases = [
        ("0.1000000000000000055511151231257827021181583404541015625", 0.1f32),
        ("1.00000005960464477539062500000000000000001", f32::from_bits(0x3f80_0001)),
        ("1.000000059604644775390625", 1.0),
        ("0.00000000000000000000000000000000000000000000000000000001e56", 1.0),
        ("1E2", 100.0),
        ("-0.0", -0.0),
        ("-0", -0.0),
    ];
    for (text, wanted) in cases {
        let body = request("FP32", "[1]", &format!("[{text}]"), true);
        let (_, tensors) = taken_apart(&send(&world.acme, IDENTITY, &body).expect_status(200));
        assert_eq!(tensors[0].1, wanted.to_le_bytes(), "{text}");
    }
}

#[test]
fn what_json_has_no_number_for_goes_both_ways() {
    let world = world();
    let tokens = "[NaN,Infinity,-Infinity,1.5]";
    for (dtype, width) in [("FP32", 4), ("FP64", 8)] {
        let answer = send(&world.acme, IDENTITY, &request(dtype, "[4]", tokens, false));
        let text = answer.expect_status(200).text();
        assert!(text.contains(r#""data":[NaN,Infinity,-Infinity,1.5]"#), "{text}");
        let answer = send(
            &world.acme,
            IDENTITY,
            &request(dtype, "[2,2]", "[[NaN,Infinity],[-Infinity,1.5]]", true),
        );
        let (_, tensors) = taken_apart(&answer.expect_status(200));
        let values: Vec<f64> = tensors[0]
            .1
            .chunks_exact(width)
            .map(|bytes| match width {
                4 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
                _ => f64::from_le_bytes(bytes.try_into().unwrap()),
            })
            .collect();
        assert!(values[0].is_nan(), "{values:?}");
        assert_eq!(values[1..], [f64::INFINITY, f64::NEG_INFINITY, 1.5]);
        for token in ["nan", "Inf", "inf", "-NaN", "+Infinity", "NaNs", "Infinit", r#""NaN""#] {
            let body = request(dtype, "[1]", &format!("[{token}]"), false);
            expect_error(send(&world.acme, IDENTITY, &body), 400, "");
        }
    }
    for dtype in ["INT32", "BOOL", "BYTES"] {
        let body = request(dtype, "[1]", "[NaN]", false);
        expect_error(send(&world.acme, IDENTITY, &body), 400, "");
    }
}

#[test]
fn scalars_and_empty_tensors_keep_their_shape() {
    let world = world();
    let cases = [
        ("FP32", "[]", "[2.5]", "[2.5]", 4),
        ("BYTES", "[]", r#"["x"]"#, r#"["x"]"#, 5),
        ("FP32", "[0]", "[]", "[]", 0),
        ("BOOL", "[2,0]", "[]", "[]", 0),
        ("INT64", "[2,0]", "[[],[]]", "[]", 0),
        ("BYTES", "[0,3]", "[]", "[]", 0),
        ("UINT8", "[1,0,7]", "[[]]", "[]", 0),
    ];
    for (dtype, shape, data, wanted, size) in cases {
        let what = format!("{dtype} {shape} {data}");
        let answer = send(&world.acme, IDENTITY, &request(dtype, shape, data, false));
        let output = answer.expect_status(200).json()["outputs"][0].clone();
        let (shape, wanted): (Value, Value) =
            (serde_json::from_str(shape).unwrap(), serde_json::from_str(wanted).unwrap());
        assert_eq!((&output["shape"], &output["data"]), (&shape, &wanted), "{what}");

        let answer = send(&world.acme, IDENTITY, &request(dtype, &shape.to_string(), data, true));
        let (head, tensors) = taken_apart(&answer.expect_status(200));
        assert_eq!(head["outputs"][0]["shape"], shape, "{what}");
        assert_eq!(tensors[0].1.len(), size, "{what}");

        let bytes = tensors[0].1.clone();
        let head = json!({ "inputs": [{ "name": format!("INPUT_{dtype}"), "datatype": dtype,
            "shape": shape, "parameters": { "binary_data_size": size } }] });
        let answer = call(&world.acme, IDENTITY, &head, &bytes).expect_status(200).json();
        assert_eq!(answer["outputs"][0]["data"], wanted, "{what}");
    }
    // No inputs at all is a request too, for a model that needs none.
    let answer = world.acme.infer("identity", json!([])).expect_status(200).json();
    assert_eq!(answer["outputs"], json!([]));
}

#[test]
fn keys_come_in_any_order_and_unknown_ones_are_no_matter() {
    let world = world();
    let bodies = [
        r#"{"inputs":[{"data":[[1,2],[3,4]],"shape":[2,2],"datatype":"INT32","name":"INPUT_INT32"}],"id":"x"}"#,
        r#"{"outputs":[{"name":"OUTPUT_INT32"}],"id":"x","inputs":[{"shape":[2,2],"data":[1,2,3,4],"name":"INPUT_INT32","datatype":"INT32"}]}"#,
        r#"{"inputs":[{"datatype":"INT32","data":[1,2,3,4],"extra":{"deep":[[{}],null]},"name":"INPUT_INT32","parameters":{},"shape":[2,2]}],"parameters":{},"extra":1.5e3,"id":"x"}"#,
        r#"{"\u0069nputs":[{"n\u0061me":"INPUT_\u0049NT32","datatype":"INT32","shape":[2,2],"data":[1,2,3,4]}],"id":"\u0078"}"#,
        "\u{20}\r\n\t{\"id\":\"x\",\"inputs\":[{\"data\":[1,2,3,4],\"name\":\"INPUT_INT32\",\"shape\":[2,2],\"datatype\":\"INT32\"}]}\n ",
    ];
    for body in bodies {
        let answer = send(&world.acme, IDENTITY, body).expect_status(200).json();
        assert_eq!(answer["id"], "x");
        assert_eq!(answer["outputs"][0]["data"], json!([1, 2, 3, 4]), "{body}");
    }
    // Who reads another of the two than we do would see another request.
    let twice = r#"{"inputs":[],"inputs":[{"name":"INPUT_INT32","datatype":"INT32","shape":[1],"data":[1]}]}"#;
    expect_error(send(&world.acme, IDENTITY, twice), 400, "twice");
}

#[test]
fn the_type_of_the_body_is_not_insisted_on() {
    let world = world();
    let body = json!({ "inputs": row(0.0) }).to_string();
    // No type is what tritonclient sends with pure JSON, a form's is what curl sends.
    let types: [&[(&str, &str)]; 5] = [
        &[],
        &[("content-type", "application/json; charset=utf-8")],
        &[("content-type", "application/octet-stream")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("inference-header-content-length", "LEN")],
    ];
    for headers in types {
        let len = body.len().to_string();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|&(name, value)| (name, if value == "LEN" { &len } else { value }))
            .collect();
        let answer = world.acme.send("POST", "/v2/models/add-one/infer", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{headers:?}: {}", answer.text());
    }
    let xml = [("content-type", "text/xml")];
    let answer = world.acme.send("POST", "/v2/models/add-one/infer", &xml, body.as_bytes());
    expect_error(answer, 415, "application/json");
}

#[test]
fn values_that_are_none_of_the_dtype_are_refused() {
    let world = world();
    let cases = [
        ("BOOL", "2"),
        ("BOOL", r#""true""#),
        ("UINT8", "256"),
        ("UINT8", "-1"),
        ("INT8", "128"),
        ("INT32", "1.5"),
        ("INT32", "true"),
        ("INT32", r#""1""#),
        ("INT64", "9223372036854775808"),
        ("UINT64", "18446744073709551616"),
        ("FP32", "1e39"),
        ("FP64", "1e999"),
        ("FP32", "true"),
        ("FP32", r#""1.0""#),
        ("FP32", "{}"),
        ("FP32", "01"),
        ("FP32", "1."),
        ("FP32", ".5"),
        ("FP32", "+1"),
        ("FP32", "0x10"),
        ("BYTES", "1"),
        ("BYTES", r#""\ud800""#),
        ("BYTES", "\"\n\""),
    ];
    for (dtype, value) in cases {
        let body = request(dtype, "[1]", &format!("[{value}]"), false);
        let answer = send(&world.acme, IDENTITY, &body);
        assert_eq!(answer.status, 400, "{dtype} {value}: {}", answer.text());
        expect_error(answer, 400, "inputs[0].data");
    }
    let shapes = [
        ("[2]", "[1]", "2"),
        ("[2]", "[1,2,3]", "2"),
        ("[2,2]", "[[1,2],[3]]", ""),
        ("[2,2]", "[[1,2],[3,4,5]]", ""),
        ("[2,2]", "[[1,2,3,4]]", ""),
        ("[2,2]", "[[1,2],3,4]", ""),
        ("[4]", "[[1,2],[3,4]]", ""),
        ("[]", "[]", ""),
        ("[1]", "1", ""),
        ("[-1]", "[1]", "-1"),
        ("[1.5]", "[1]", ""),
        ("[\"1\"]", "[1]", ""),
        ("4", "[1]", ""),
        ("[4294967296,4294967296,4294967296]", "[1]", ""),
        ("[9223372036854775807,2]", "[1]", ""),
        ("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[1]", ""),
    ];
    for (shape, data, text) in shapes {
        let answer = send(&world.acme, IDENTITY, &request("FP32", shape, data, false));
        assert_eq!(answer.status, 400, "{shape} {data}: {}", answer.text());
        expect_error(answer, 400, text);
    }
}
