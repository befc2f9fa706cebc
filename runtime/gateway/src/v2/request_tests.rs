use innkeeper_predict::SequenceId;
use innkeeper_tensor::Tensor;
use proptest::prelude::*;

use super::*;

const ONE: &str = r#"{"inputs":[{"name":"A","shape":[2],"datatype":"INT8","data":[1,2]}]}"#;

fn read(text: &str) -> Result<Infer, String> {
    decode(&Bytes::from(text.to_owned()), None).map_err(|bad| bad.to_string())
}

fn read_binary(json: &str, tail: &[u8]) -> Result<Infer, String> {
    let body = Bytes::from([json.as_bytes(), tail].concat());
    decode(&body, Some(json.len())).map_err(|bad| bad.to_string())
}

#[test]
fn reads_every_field() {
    let infer = read(
        r#"{"id":"x","parameters":{"a":1.5,"b":"\"","c":true,"binary_data_output":true},"unknown":[{}],
            "inputs":[{"name":"A","shape":[1,2],"datatype":"FP32","parameters":null,"data":[[1,2.5]]}],
            "outputs":[{"name":"Y","parameters":{"binary_data":false}},{"name":"Z"}]}"#,
    )
    .unwrap();
    assert_eq!(infer.id.as_deref(), Some("x"));
    let parameters: Vec<_> =
        infer.parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(parameters, [("a", "1.5"), ("b", r#""\"""#), ("c", "true")]);
    assert!(infer.binary);
    assert_eq!(*infer.inputs[0].tensor.elements::<f32>().unwrap(), [1.0, 2.5]);
    let wanted = |name: &str, binary| Wanted { name: name.into(), binary, classes: None };
    assert_eq!(infer.outputs, [wanted("Y", Some(false)), wanted("Z", None)]);
}

#[test]
fn keys_come_in_any_order() {
    let infer = read(
        r#"{"outputs":null,"inputs":[{"data":[[1],[NaN]],"datatype":"FP64","shape":[2,1],"name":"A"}]}"#,
    )
    .unwrap();
    assert_eq!(infer.inputs[0].tensor.elements::<f64>().unwrap()[0], 1.0);
    assert!(infer.inputs[0].tensor.elements::<f64>().unwrap()[1].is_nan());
}

/// The input of dtype `dtype` and shape [3] with this `data`, and that the same comes with `data` in front.
#[track_caller]
fn three(dtype: &str, data: &str) -> Result<Tensor, String> {
    let rest = format!(r#""name":"A","datatype":"{dtype}","shape":[3]"#);
    let later = read(&format!(r#"{{"inputs":[{{{rest},"data":{data}}}]}}"#));
    let first = read(&format!(r#"{{"inputs":[{{"data":{data},{rest}}}]}}"#));
    assert_eq!(first.is_ok(), later.is_ok(), "{data}");
    if let (Ok(first), Ok(later)) = (&first, &later) {
        let bytes = |infer: &Infer| infer.inputs[0].tensor.as_bytes().to_vec();
        assert_eq!(bytes(first), bytes(later), "{data}");
    }
    Ok(later?.inputs.remove(0).tensor)
}

#[test]
fn tokens_are_floats_and_nothing_else() {
    // 0.5 and its like are what stands for the tokens while they are read.
    let cases = [
        ("[Infinity,0.5,-0.500000]", [f32::INFINITY, 0.5, -0.5]),
        ("[0.500000 ,\n-Infinity\t, 7.038531e-26 ]", [0.5, f32::NEG_INFINITY, 7.038531e-26]),
    ];
    for (data, wanted) in cases {
        assert_eq!(*three("FP32", data).unwrap().elements::<f32>().unwrap(), wanted);
        let doubles = three("FP64", data).unwrap();
        assert_eq!(doubles.elements::<f64>().unwrap()[0] as f32, wanted[0]);
    }
    let refused = [
        (
            "FP32",
            "[NaN,1,\"NaN\"]",
            "inputs[0].data[2]: invalid type: string \"NaN\", expected f32",
        ),
        ("FP32", "[NaN,1,-NaN]", "inputs[0].data[2]: invalid number at line 1 column 69"),
        ("FP32", "[NaN,1,NaNs]", "inputs[0].data[2]: expected value at line 1 column 68"),
        ("FP32", "[NaN,1e39,1]", "inputs[0].data[1]: number out of range"),
        ("INT32", "[1,NaN,1]", "inputs[0].data[1]: not a whole number that fits INT32"),
        ("BOOL", "[1,1,-Infinity]", "inputs[0].data[2]: not true, false, 0 or 1"),
        (
            "BYTES",
            "[NaN,\"\",\"\"]",
            "inputs[0].data[0]: invalid type: floating point `0.5`, expected",
        ),
    ];
    for (dtype, data, wanted) in refused {
        let error = three(dtype, data).unwrap_err();
        assert!(error.starts_with(wanted), "{data}: {error}");
    }
    let elsewhere = [
        r#"{"inputs":NaN}"#,
        r#"{"inputs":[],"outputs":NaN}"#,
        r#"{"inputs":[],"parameters":NaN}"#,
        r#"{"inputs":[],"id":NaN}"#,
        r#"{"inputs":[],NaN:1}"#,
        r#"{"inputs":[],"x":NaNs}"#,
        r#"{"inputs":[{"name":"A","shape":[NaN],"datatype":"INT8","data":[1]}]}"#,
        r#"{"inputs":[{"name":"A","shape":NaN,"datatype":"INT8","data":[1]}]}"#,
        r#"{"inputs":[{"name":NaN,"shape":[1],"datatype":"INT8","data":[1]}]}"#,
        "NaN",
    ];
    for text in elsewhere {
        assert!(read(text).is_err(), "{text}");
    }
    let infer = read(r#"{"inputs":[],"parameters":{"a":-Infinity,"b":0.5},"x":[NaN]}"#).unwrap();
    assert_eq!(infer.parameters[0].1, "-Infinity");
    assert_eq!(infer.parameters[1].1, "0.5");
}

#[test]
fn what_nobody_reads_is_bounded_too() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        read(&format!(r#"{{"inputs":[],"x":{open}"]"{close}}}"#))
    };
    assert!(nested(100).is_ok());
    for depth in [101, 1_000_000] {
        assert_eq!(nested(depth).unwrap_err(), "x: JSON may be nested at most 100 deep");
    }
    for deep in ["[".repeat(1_000_000), "{\"a\":".repeat(1_000_000)] {
        for key in ["inputs", "outputs", "parameters", "id", "x"] {
            assert!(read(&format!(r#"{{"{key}":{deep}"#)).unwrap_err().len() < 200);
        }
    }
    let text = "é".repeat(100_000);
    let error = three("FP32", &format!("[1,2,\"{text}\"]")).unwrap_err();
    assert!(error.starts_with("inputs[0].data[2]: invalid type: string \"é"), "{error}");
    assert!(error.contains("expected f32 at line 1 column") && error.len() < 600, "{error}");
}

#[test]
fn keys_with_escapes_are_the_same_keys() {
    let text =
        r#"{"inputs":[{"name":"A","shape":[2,1],"datatype":"FP32","d\u0061ta" : [ [1],[2]]}]}"#;
    assert_eq!(*read(text).unwrap().inputs[0].tensor.elements::<f32>().unwrap(), [1.0, 2.0]);
    let twice = text.replace("}]}", ",\"data\":[1,2]}]}");
    assert_eq!(read(&twice).unwrap_err(), "inputs[0]: the key \"data\" stands twice");
    let half = r#"{"inputs":[],"parameters":{"a":"\ud800"}}"#;
    assert!(read(half).unwrap_err().starts_with("parameters.a: "));
}

#[test]
fn binary_tensors_follow_in_order_and_share_the_body() {
    let json = r#"{"inputs":[
        {"name":"A","shape":[2],"datatype":"UINT16","parameters":{"binary_data_size":4}},
        {"name":"B","shape":[1],"datatype":"INT8","data":[7]},
        {"name":"C","shape":[1],"datatype":"BF16","parameters":{"binary_data_size":2}},
        {"name":"D","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":9}}]}"#;
    let tail = [1, 0, 2, 0, 3, 4, 1, 0, 0, 0, b'x', 0, 0, 0, 0];
    let infer = read_binary(json, &tail).unwrap();
    let bytes: Vec<&[u8]> = infer.inputs.iter().map(|input| input.tensor.as_bytes()).collect();
    assert_eq!(bytes, [&[1, 0, 2, 0][..], &[7], &[3, 4], &tail[6..]]);
    let body = Bytes::from([json.as_bytes(), &tail].concat());
    let shared = decode(&body, Some(json.len())).unwrap();
    assert_eq!(shared.inputs[0].tensor.as_bytes().as_ptr(), body[json.len()..].as_ptr());
}

#[test]
fn binary_sizes_must_add_up() {
    let json = |size: &str| {
        format!(
            r#"{{"inputs":[{{"name":"A","shape":[2],"datatype":"INT8","parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    };
    let cases: [(&str, &[u8], &str); 6] = [
        ("2", &[1, 2, 3], "3 bytes follow the JSON, but the inputs' binary_data_size add up to 2"),
        ("2", &[1], "inputs[0]: binary_data_size is 2, but only 1 bytes are left"),
        ("3", &[1, 2, 3], "inputs[0]: a INT8 tensor of shape [2] takes 2 bytes, got 3"),
        ("-1", &[], "inputs[0].parameters.binary_data_size: -1 is no size"),
        (
            "9223372036854775807",
            &[1],
            "inputs[0]: binary_data_size is 9223372036854775807, but only 1 bytes are left",
        ),
        ("1e3", &[], "inputs[0].parameters.binary_data_size: not a whole number of 64 bits"),
    ];
    for (size, tail, wanted) in cases {
        assert_eq!(read_binary(&json(size), tail).unwrap_err(), wanted);
    }
    assert!(read_binary(ONE, &[]).is_ok());
    assert_eq!(
        read_binary(ONE, &[0]).unwrap_err(),
        "1 bytes follow the JSON, but the inputs' binary_data_size add up to 0"
    );
    let larger = decode(&Bytes::from(ONE), Some(ONE.len() + 1)).unwrap_err();
    assert_eq!(
        larger.to_string(),
        "Inference-Header-Content-Length is 69, but the body has 68 bytes"
    );
}

#[test]
fn errors_name_the_field() {
    let input = |fields: &str| format!(r#"{{"inputs":[{{"name":"A",{fields}}}]}}"#);
    let cases = [
        ("".into(), "EOF while parsing a value at line 1 column 0"),
        ("[]".into(), "invalid type: sequence, expected an object at line 1 column 0"),
        ("{}".into(), r#"the request has no "inputs""#),
        (format!("{ONE}x"), "trailing characters at line 1 column 69"),
        (r#"{"inputs":[],"inputs":[]}"#.into(), r#"the key "inputs" stands twice"#),
        (r#"{"inputs":[{}]}"#.into(), r#"inputs[0]: "name" is missing"#),
        (
            r#"{"inputs":[{"name":1}]}"#.into(),
            "inputs[0].name: invalid type: integer `1`, expected a string at line 1 column 20",
        ),
        (input(r#""shape":[1]"#), r#"inputs[0]: "datatype" is missing"#),
        (input(r#""datatype":"INT8""#), r#"inputs[0]: "shape" is missing"#),
        (input(r#""datatype":"INT8","shape":[1]"#), r#"inputs[0]: "data" is missing"#),
        (
            input(r#""datatype":"INT8","shape":[-1],"data":[]"#),
            "inputs[0].shape: dimension 0 is -1; sizes are not negative",
        ),
        (
            input(r#""datatype":"INT8","shape":[4294967296,4294967296],"data":[]"#),
            "inputs[0].shape: the product of the dimensions is too large",
        ),
        (
            input(r#""datatype":"INT8","shape":[1.5],"data":[]"#),
            "inputs[0].shape[0]: not a whole number of 64 bits",
        ),
        (
            input(r#""datatype":"INT8","shape":[1],"data":[128]"#),
            "inputs[0].data[0]: not a whole number that fits INT8",
        ),
        (
            input(r#""data":[1,128],"shape":[2],"datatype":"INT8""#),
            "inputs[0].data[1]: not a whole number that fits INT8",
        ),
        (
            input(r#""datatype":"FP16","shape":[1],"data":[1]"#),
            "inputs[0].data: FP16 has no JSON form; use the binary tensor data extension",
        ),
        (
            input(
                r#""datatype":"INT8","shape":[1],"data":[1],"parameters":{"binary_data_size":1}"#,
            ),
            r#"inputs[0]: has both "data" and "binary_data_size"; send one"#,
        ),
        (
            input(r#""parameters":{"shared_memory_region":"r"}"#),
            "inputs[0].parameters.shared_memory_region: this parameter is not served here",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"Y"},{"name":"Y"}]}"#.into(),
            r#"outputs[1]: output "Y" is asked for twice"#,
        ),
        (
            r#"{"parameters":{"a":[1]}}"#.into(),
            "parameters.a: wanted a string, a number or a boolean",
        ),
        (
            r#"{"parameters":{"headers":"x"}}"#.into(),
            "parameters.headers: this parameter is not served here",
        ),
        (
            r#"{"parameters":{"sequence_id":-1}}"#.into(),
            "parameters.sequence_id: wanted a whole number of 64 bits, not negative, or a text",
        ),
        (r#"{"parameters":{"a":1,"a":2}}"#.into(), "parameters.a: stands twice"),
    ];
    for (text, wanted) in cases {
        assert_eq!(read(&text).unwrap_err(), wanted, "{text}");
    }
    let wrong = read(&input(r#""datatype":"float32""#)).unwrap_err();
    assert!(wrong.starts_with(r#"inputs[0].datatype: unknown datatype "float32"; there are BOOL"#));
}

#[test]
fn a_requests_turn_is_read() {
    let schedule = |parameters: &str| {
        let text = format!(r#"{{"inputs":[],"parameters":{{{parameters}}}}}"#);
        read(&text).map(|infer| infer.schedule)
    };
    assert_eq!(schedule(""), Ok(Schedule::default()));
    let all =
        r#""priority":2,"timeout":500,"sequence_id":7,"sequence_start":true,"sequence_end":true"#;
    let wanted = Schedule {
        priority: 2,
        timeout_us: 500,
        sequence_id: Some(SequenceId::Number(7)),
        sequence_start: true,
        sequence_end: true,
    };
    assert_eq!(schedule(all), Ok(wanted));
    for (id, wanted) in [
        ("0", None),
        (r#""""#, None),
        ("18446744073709551615", Some(SequenceId::Number(u64::MAX))),
        (r#""7""#, Some(SequenceId::Text("7".into()))),
    ] {
        let got = schedule(&format!(r#""sequence_id":{id}"#)).unwrap();
        assert_eq!((got.sequence_id, got.priority), (wanted, 0), "{id}");
    }
    for wrong in
        [r#""priority":-1"#, r#""timeout":"1""#, r#""sequence_start":1"#, r#""sequence_id":1.5"#]
    {
        assert!(schedule(wrong).unwrap_err().starts_with("parameters."), "{wrong}");
    }
}

#[test]
fn counts_and_lengths_are_bounded() {
    let inputs = format!(r#"{{"inputs":[{}]}}"#, vec![&ONE[11..67 - 1]; 257].join(","));
    assert!(read(&inputs).unwrap_err().contains("more than 256 items"), "{inputs:.80}");
    let long = "x".repeat(2000);
    assert!(
        read(&format!(r#"{{"id":"{long}"}}"#)).unwrap_err().starts_with("id: longer than 1024")
    );
    assert!(
        read(&format!(r#"{{"inputs":[{{"name":"{long}"}}]}}"#))
            .unwrap_err()
            .contains("longer than 256")
    );
    let parameters: Vec<String> = (0..65).map(|i| format!(r#""p{i}":1"#)).collect();
    let text = format!(r#"{{"parameters":{{{}}}}}"#, parameters.join(","));
    assert!(read(&text).unwrap_err().contains("at most 64 parameters"));
    assert!(read(&format!(r#"{{"{long}":}}"#)).unwrap_err().len() < 200);
}

/// What texts that are nearly requests are made of.
const PIECES: [&str; 22] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\ud800",
    "\"data\"",
    "\"shape\"",
    "\"x\":",
    "0",
    "-",
    ".5",
    "e9",
    "NaN",
    "-Infinity",
    "null",
    " ",
    "é",
    "\u{1}",
];

proptest! {
    #[test]
    fn no_bytes_can_panic(
        at in 0..ONE.len(),
        bytes in prop::collection::vec(any::<u8>(), 0..6),
        header in prop::option::of(0usize..200),
    ) {
        let mut text = ONE.as_bytes().to_vec();
        text.splice(at..(at + bytes.len()).min(text.len()), bytes);
        let _ = decode(&Bytes::from(text), header);
    }

    #[test]
    fn no_near_json_can_panic(
        at in 0..ONE.len(),
        len in 0usize..12,
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..8),
    ) {
        let mut text = ONE.to_owned();
        text.replace_range(at..(at + len).min(text.len()), &pieces.concat());
        let _ = read(&text);
    }

    #[test]
    fn binary_tensors_come_through(values in prop::collection::vec(any::<i32>(), 0..20)) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let json = format!(
            r#"{{"inputs":[{{"name":"A","shape":[{}],"datatype":"INT32","parameters":{{"binary_data_size":{}}}}}]}}"#,
            values.len(), bytes.len()
        );
        let infer = read_binary(&json, &bytes).unwrap();
        prop_assert_eq!(infer.inputs[0].tensor.elements::<i32>().unwrap().into_owned(), values);
    }
}
