use super::*;

/// A file of these header text and data, whose data begin at an address that leaves `askew` over 8.
fn file(header: &str, data: &[u8], askew: usize) -> Buffer {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    let before = (8 + askew - header.len() % 8) % 8;
    let padded = Buffer::aligned_copy(&[vec![0; before], bytes].concat());
    padded.slice(before..padded.len()).unwrap()
}

const ONE: &str = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

fn ones() -> Vec<u8> {
    [1f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn tensors_are_views_of_the_file() {
    let file = file(ONE, &ones(), 0);
    let tensors = tensors(&file).unwrap();
    let weights = &tensors["w"];
    assert_eq!(*weights.elements::<f32>().unwrap(), [1.0, 2.0]);
    assert!(file.as_bytes().as_ptr_range().contains(&weights.as_bytes().as_ptr()));
}

#[test]
fn data_that_lie_askew_are_copied_straight() {
    for askew in 1..8 {
        let file = file(ONE, &ones(), askew);
        let weights = &tensors(&file).unwrap()["w"];
        assert_eq!(*weights.elements::<f32>().unwrap(), [1.0, 2.0]);
        assert!((weights.as_bytes().as_ptr() as usize).is_multiple_of(8), "{askew}");
    }
}

#[test]
fn a_tensor_behind_an_odd_one_is_straight_too() {
    let header = r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
        "w":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}}"#;
    let data = [vec![9; 3], ones()].concat();
    let tensors = tensors(&file(header, &data, 0)).unwrap();
    assert_eq!(*tensors["a"].elements::<u8>().unwrap(), [9; 3]);
    assert_eq!(*tensors["w"].elements::<f32>().unwrap(), [1.0, 2.0]);
    assert!((tensors["w"].as_bytes().as_ptr() as usize).is_multiple_of(4));
}

#[test]
fn every_dtype_that_we_have_is_read() {
    let rows = [
        ("BOOL", DType::Bool, 1),
        ("U8", DType::Uint8, 1),
        ("U16", DType::Uint16, 2),
        ("U32", DType::Uint32, 4),
        ("U64", DType::Uint64, 8),
        ("I8", DType::Int8, 1),
        ("I16", DType::Int16, 2),
        ("I32", DType::Int32, 4),
        ("I64", DType::Int64, 8),
        ("F16", DType::Fp16, 2),
        ("BF16", DType::Bf16, 2),
        ("F32", DType::Fp32, 4),
        ("F64", DType::Fp64, 8),
    ];
    for (name, dtype, size) in rows {
        let header =
            format!(r#"{{"w":{{"dtype":"{name}","shape":[1,1],"data_offsets":[0,{size}]}}}}"#);
        let tensors = tensors(&file(&header, &vec![1; size], 0)).unwrap();
        assert_eq!((tensors["w"].dtype(), tensors["w"].shape().dims()), (dtype, &[1, 1][..]));
    }
}

#[test]
fn what_the_crate_writes_is_read() {
    let data = ones();
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1, 2], &data).unwrap();
    let bytes = safetensors::serialize([("layer.weight", view)], None).unwrap();
    let tensors = tensors(&Buffer::from_vec(bytes)).unwrap();
    assert_eq!(tensors["layer.weight"].shape().dims(), [1, 2]);
}

#[test]
fn bad_files_are_refused() {
    let one = |dtype: &str, shape: &str, end: usize| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let deep = format!("{{\"w\":{}", "[".repeat(100_000));
    let rank = format!("[{}1]", "1,".repeat(16));
    let rows = [
        (file("", b"", 0), "invalid JSON in header"),
        (file("{", b"", 0), "invalid JSON in header"),
        (file(&deep, b"", 0), "invalid JSON in header"),
        (file(ONE, b"1234", 0), "not fully covered"),
        (file(ONE, &[0; 9], 0), "not fully covered"),
        (file(&one("F32", "[3]", 8), &ones(), 0), "invalid shape"),
        (file(&one("F32", "[4611686018427387904,4]", 8), &ones(), 0), "overflow"),
        (file(&one("F8_E4M3", "[8]", 8), &ones(), 0), "\"w\" is F8_E4M3; store it as BOOL"),
        (file(&one("C64", "[1]", 8), &ones(), 0), "\"w\" is C64"),
        (file(&one("F4", "[16]", 8), &ones(), 0), "\"w\" is F4"),
        (file(&one("BOOL", "[8]", 8), &[2; 8], 0), "\"w\": BOOL element 0 is 2"),
        (file(&one("F32", &rank, 4), &[0; 4], 0), "at most 16 dimensions, this one has 17"),
        (Buffer::from_vec(vec![1u8; 5]), "header too small"),
        (Buffer::from_vec(vec![255u8; 50]), "header too large"),
        (Buffer::from_vec((100u64).to_le_bytes().to_vec()), "invalid header length"),
    ];
    for (file, wanted) in rows {
        let error = tensors(&file).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "wanted {wanted:?}, got {error:?}");
    }
    let huge = vec![b' '; HEADER_BYTES_MAX as usize + 1];
    let error = tensors(&file(std::str::from_utf8(&huge).unwrap(), b"", 0)).unwrap_err();
    assert_eq!(error, SafetensorsError::Header { got: HEADER_BYTES_MAX + 1 });
}

#[test]
fn too_many_tensors_are_refused() {
    let of = |count: usize| {
        let one = |i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
        let header: Vec<String> = (0..count).map(one).collect();
        tensors(&file(&format!("{{{}}}", header.join(",")), b"", 0)).map(|tensors| tensors.len())
    };
    assert_eq!(of(TENSORS_MAX), Ok(TENSORS_MAX));
    let error = of(TENSORS_MAX + 1).unwrap_err();
    assert_eq!(error, SafetensorsError::TooMany { got: TENSORS_MAX + 1 });
}
