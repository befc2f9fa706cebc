use innkeeper_tensor::{Buffer, Shape};
use proptest::prelude::*;

use super::super::reading::Reading;
use super::super::{elements, tokens};
use super::*;

const JSON: [DType; 12] = [
    DType::Bool,
    DType::Uint8,
    DType::Uint16,
    DType::Uint32,
    DType::Uint64,
    DType::Int8,
    DType::Int16,
    DType::Int32,
    DType::Int64,
    DType::Fp32,
    DType::Fp64,
    DType::Bytes,
];

fn read(dtype: DType, dims: &[usize], text: &str) -> Result<Tensor, String> {
    let shape = Shape::new(dims).unwrap();
    let replaced = tokens::replaced(text);
    let (text, original) = (replaced.as_deref().unwrap_or(text), replaced.as_ref().map(|_| text));
    let reading = Reading::new(text, original);
    let mut from = serde_json::Deserializer::from_str(text);
    elements::decode(&reading, text, dtype, shape, &mut from)
        .map_err(|error| reading.take(&error).to_string())
}

fn print(tensor: &Tensor) -> Result<String, String> {
    let mut out = Vec::new();
    encode(tensor, &mut out).map_err(|bad| bad.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn every_dtype_both_ways() {
    let cases = [
        (DType::Bool, "[true,false,true]"),
        (DType::Uint8, "[0,1,255]"),
        (DType::Uint16, "[0,1,65535]"),
        (DType::Uint32, "[0,1,4294967295]"),
        (DType::Uint64, "[0,1,18446744073709551615]"),
        (DType::Int8, "[-128,0,127]"),
        (DType::Int16, "[-32768,0,32767]"),
        (DType::Int32, "[-2147483648,0,2147483647]"),
        (DType::Int64, "[-9223372036854775808,0,9223372036854775807]"),
        (DType::Fp32, "[0.1,-2.0,3.4028235e+38]"),
        (DType::Fp32, "[NaN,Infinity,-Infinity]"),
        (DType::Fp64, "[0.1,-2.0,1.7976931348623157e+308]"),
        (DType::Fp64, "[NaN,Infinity,-Infinity]"),
        (DType::Bytes, r#"["","a\"\\\n\u0001","é💡"]"#),
    ];
    for (dtype, text) in cases {
        let tensor = read(dtype, &[3], text).unwrap();
        assert_eq!(print(&tensor).unwrap(), text, "{dtype}");
    }
    assert!(JSON.iter().all(|dtype| cases.iter().any(|case| case.0 == *dtype)));
}

#[test]
fn half_floats_have_no_json_form() {
    for dtype in [DType::Fp16, DType::Bf16] {
        assert!(read(dtype, &[1], "[1]").unwrap_err().contains("no JSON form"));
        let tensor =
            Tensor::new(dtype, Shape::new(&[1]).unwrap(), Buffer::from_vec(vec![0u16])).unwrap();
        assert!(print(&tensor).unwrap_err().contains("no JSON form"));
    }
}

#[test]
fn nested_and_flat_read_the_same() {
    let flat = read(DType::Int32, &[2, 1, 3], "[1,2,3,4,5,6]").unwrap();
    assert_eq!(read(DType::Int32, &[2, 1, 3], " [ [[1,2,3]] , [[4,5,6]] ]").unwrap(), flat);
    assert!(read(DType::Int32, &[0, 3], "[]").is_ok());
    assert!(read(DType::Int32, &[2, 0], "[[],[]]").is_ok());
    assert!(read(DType::Int32, &[], "[7]").is_ok());
    assert!(read(DType::Uint8, &[2], "[-0,0]").is_ok());
    assert_eq!(read(DType::Bool, &[4], "[1,0,true,false]").unwrap().as_bytes(), [1, 0, 1, 0]);
}

#[test]
fn bad_data_names_the_element() {
    let cases = [
        (DType::Uint8, &[3][..], "[1,2,256]", "[2]: not a whole number that fits UINT8"),
        (DType::Uint8, &[1], "[-1]", "[0]: not a whole number that fits UINT8"),
        (DType::Uint64, &[1], "[18446744073709551616]", "[0]: not a whole number that fits UINT64"),
        (DType::Int32, &[1], "[1.0]", "[0]: not a whole number that fits INT32"),
        (DType::Int32, &[1], "[NaN]", "[0]: not a whole number that fits INT32"),
        (
            DType::Int32,
            &[2],
            "[1,\"2\"]",
            "[1]: invalid type: string \"2\", expected a whole number",
        ),
        (DType::Bool, &[1], "[2]", "[0]: not true, false, 0 or 1"),
        (
            DType::Bool,
            &[1],
            "[\"true\"]",
            "[0]: invalid type: string \"true\", expected true, false",
        ),
        (DType::Fp32, &[1], "[1e39]", "[0]: number out of range"),
        (DType::Fp64, &[1], "[-1e309]", "[0]: number out of range"),
        (DType::Fp32, &[2], "[NaN,1e39]", "[1]: number out of range"),
        (DType::Fp32, &[2], "[1,null]", "[1]: invalid type: null, expected f32"),
        (DType::Fp32, &[2], "[1,2e]", "[1]: invalid number at line 1 column 6"),
        (DType::Bytes, &[1], "[1]", "[0]: invalid type: integer `1`, expected a string"),
        (DType::Fp32, &[2], "[1]", "shape [2] takes 2 elements, got 1"),
        (DType::Fp32, &[2], "[1,2,3]", "more than the 2 elements of its shape"),
        (DType::Fp32, &[2], "[[1,2]]", "[0]: invalid type: sequence, expected f32"),
        (
            DType::Fp32,
            &[2, 2],
            "[[1,2,3],[4]]",
            "nested otherwise than its shape: wanted 2 items, got 3",
        ),
        (DType::Fp32, &[2, 2], "[[1,2]]", "nested otherwise than its shape: wanted 2 items, got 1"),
        (DType::Fp32, &[2, 2], "[[1,2],3,4]", "invalid type: integer `3`, expected an array"),
        (DType::Fp32, &[2, 2], "[1,2,[3,4]]", "[2]: invalid type: sequence, expected f32"),
        (
            DType::Fp32,
            &[1 << 50],
            "[1]",
            "shape [1125899906842624] takes 1125899906842624 elements, got 1",
        ),
        (DType::Fp32, &[1], "1", "invalid type: integer `1`, expected an array"),
    ];
    for (dtype, dims, text, wanted) in cases {
        let error = read(dtype, dims, text).unwrap_err();
        assert!(error.starts_with(wanted), "{text}: {error}");
    }
}

#[test]
fn a_bytes_output_that_is_not_utf8_says_so() {
    let tensor = Tensor::from_strings(&[2], &[&b"ok"[..], &[0xff]]).unwrap();
    assert_eq!(print(&tensor).unwrap_err(), "[1]: not UTF-8; ask for this output with binary_data");
}

/// Values where rounding first to f64 and then to f32 goes wrong, and others at the edges.
#[test]
fn fp32_is_rounded_once() {
    let cases = [
        "7.038531e-26",
        "1.00000005960464477539",
        "1.000000059604644775390625",
        "1.00000005960464477540",
        "1e-45",
        "7.006492321624085e-46",
        "7.006492321624086e-46",
        "1.1754942807573643e-38",
        "3.4028235677973366e38",
        "0.000",
        "-0",
        "16777217",
        "123456789012345678901234567890",
        "1e-400",
        "0e999999999999",
    ];
    for text in cases {
        let tensor = read(DType::Fp32, &[1], &format!("[{text}]"))
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let wanted: f32 = text.parse().unwrap();
        assert_eq!(tensor.elements::<f32>().unwrap()[0].to_bits(), wanted.to_bits(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn floats_read_back_as_printed(values in prop::collection::vec(any::<u64>(), 1..20)) {
        let doubles: Vec<f64> = values.iter().map(|&bits| f64::from_bits(bits)).filter(|v| !v.is_nan()).collect();
        let singles: Vec<f32> = values.iter().map(|&bits| f32::from_bits(bits as u32)).filter(|v| !v.is_nan()).collect();
        for tensor in [
            Tensor::from_vec(&[doubles.len()], doubles).unwrap(),
            Tensor::from_vec(&[singles.len()], singles).unwrap(),
        ] {
            let text = print(&tensor).unwrap();
            prop_assert_eq!(read(tensor.dtype(), tensor.shape().dims(), &text).unwrap(), tensor);
        }
    }

    #[test]
    fn decimals_read_as_the_standard_library_reads_them(text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?(e-?[0-9]{1,2})?") {
        let json = format!("[{text}]");
        let (single, double) = (text.parse::<f32>().unwrap(), text.parse::<f64>().unwrap());
        match read(DType::Fp32, &[1], &json) {
            Ok(tensor) => prop_assert_eq!(tensor.elements::<f32>().unwrap()[0].to_bits(), single.to_bits()),
            Err(_) => prop_assert!(single.is_infinite()),
        }
        match read(DType::Fp64, &[1], &json) {
            Ok(tensor) => prop_assert_eq!(tensor.elements::<f64>().unwrap()[0].to_bits(), double.to_bits()),
            Err(_) => prop_assert!(double.is_infinite()),
        }
    }

    #[test]
    fn integers_read_back_as_printed(values in prop::collection::vec(any::<i64>(), 0..20)) {
        let narrow: Vec<i8> = values.iter().map(|&value| value as i8).collect();
        let wide: Vec<u64> = values.iter().map(|&value| value as u64).collect();
        for tensor in [
            Tensor::from_vec(&[values.len()], values).unwrap(),
            Tensor::from_vec(&[narrow.len()], narrow).unwrap(),
            Tensor::from_vec(&[wide.len()], wide).unwrap(),
        ] {
            let text = print(&tensor).unwrap();
            prop_assert_eq!(read(tensor.dtype(), tensor.shape().dims(), &text).unwrap(), tensor);
        }
    }

    #[test]
    fn strings_read_back_as_printed(values in prop::collection::vec(any::<String>(), 0..9)) {
        let tensor = Tensor::from_strings(&[values.len()], &values).unwrap();
        let text = print(&tensor).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Vec<String>>(&text).unwrap(), &values);
        prop_assert_eq!(read(DType::Bytes, &[values.len()], &text).unwrap(), tensor);
    }

    #[test]
    fn no_bytes_can_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), dims in prop::collection::vec(0usize..3, 0..4)) {
        for dtype in DType::ALL {
            let _ = read(dtype, &dims, &String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn nesting_is_the_shape() {
    let print = |tensor: Tensor| {
        let mut out = Vec::new();
        encode_nested(&tensor, &mut out).map_err(|bad| bad.to_string())?;
        Ok::<_, String>(String::from_utf8(out).unwrap())
    };
    let of = |dims: &[usize]| {
        let count = dims.iter().product::<usize>();
        Tensor::from_vec(dims, (0..count as i32).collect::<Vec<_>>()).unwrap()
    };
    for (dims, wanted) in [
        (&[][..], "0"),
        (&[2], "[0,1]"),
        (&[2, 3], "[[0,1,2],[3,4,5]]"),
        (&[2, 1, 2], "[[[0,1]],[[2,3]]]"),
        (&[0], "[]"),
        (&[2, 0], "[[],[]]"),
        (&[0, 2], "[]"),
    ] {
        assert_eq!(print(of(dims)), Ok(wanted.to_owned()), "{dims:?}");
    }
    let texts = Tensor::from_strings(&[2, 1], &["a,\"]", "b"]).unwrap();
    assert_eq!(print(texts), Ok(r#"[["a,\"]"],["b"]]"#.to_owned()));
    assert!(print(of(&[1 << 40, 0])).unwrap_err().contains("without elements"));
}
