//! Tensors as people write and read them: nested JSON arrays in, JSON values out.

use std::borrow::Cow;

use anyhow::{Result, bail};
use innkeeper_tensor::{Buffer, DType, RANK_MAX, Shape, Tensor, bf16, f16};
use serde_json::{Number, Value};

/// A tensor of nested arrays, whose nesting is its shape.
pub(super) fn nested(name: &str, dtype: DType, value: &Value) -> Result<Tensor> {
    let mut shape = Vec::new();
    let mut level = value;
    while let Value::Array(items) = level {
        shape.push(items.len());
        match items.first() {
            Some(first) if shape.len() < RANK_MAX => level = first,
            _ => break,
        }
    }
    let mut flat = Vec::new();
    flatten(name, value, &shape, &mut flat)?;
    tensor(name, dtype, &shape, &flat)
}

/// A tensor of a shape and all its values, nested in any way.
pub(super) fn shaped(name: &str, dtype: DType, shape: &[usize], value: &Value) -> Result<Tensor> {
    let mut flat = Vec::new();
    collect(value, RANK_MAX, &mut flat);
    tensor(name, dtype, shape, &flat)
}

fn flatten<'a>(
    name: &str,
    value: &'a Value,
    shape: &[usize],
    flat: &mut Vec<&'a Value>,
) -> Result<()> {
    match (value, shape) {
        (Value::Array(items), [wanted, rest @ ..]) if items.len() == *wanted => {
            items.iter().try_for_each(|item| flatten(name, item, rest, flat))
        }
        (Value::Array(_), _) | (_, [_, ..]) => {
            bail!("the arrays of {name} are not of one length and depth; wanted a regular grid")
        }
        (scalar, []) => {
            flat.push(scalar);
            Ok(())
        }
    }
}

fn collect<'a>(value: &'a Value, depth: usize, flat: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) if depth > 0 => {
            items.iter().for_each(|item| collect(item, depth - 1, flat));
        }
        other => flat.push(other),
    }
}

fn tensor(name: &str, dtype: DType, shape: &[usize], values: &[&Value]) -> Result<Tensor> {
    let mut bytes = Vec::with_capacity(values.len() * dtype.size().unwrap_or(16));
    for (index, value) in values.iter().enumerate() {
        if append(dtype, value, &mut bytes).is_none() {
            let value: String = value.to_string().chars().take(60).collect();
            bail!("{name}[{index}] is {value}; wanted a value of {}", dtype.name());
        }
    }
    let tensor = Tensor::new(dtype, Shape::new(shape)?, Buffer::from_vec(bytes));
    tensor.map_err(|error| anyhow::anyhow!("{name}: {error}"))
}

/// One value's bytes; `None` when it is not one of this dtype.
fn append(dtype: DType, value: &Value, bytes: &mut Vec<u8>) -> Option<()> {
    macro_rules! integer {
        ($type:ty) => {{
            let wide = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from))?;
            bytes.extend_from_slice(&<$type>::try_from(wide).ok()?.to_le_bytes());
        }};
    }
    match dtype {
        DType::Bool => bytes.push(u8::from(value.as_bool()?)),
        DType::Uint8 => integer!(u8),
        DType::Uint16 => integer!(u16),
        DType::Uint32 => integer!(u32),
        DType::Uint64 => integer!(u64),
        DType::Int8 => integer!(i8),
        DType::Int16 => integer!(i16),
        DType::Int32 => integer!(i32),
        DType::Int64 => integer!(i64),
        DType::Fp16 => {
            let half = f16::from_f64(real(value)?);
            bytes.extend_from_slice(&fitting(half, half.is_infinite(), value)?.to_le_bytes());
        }
        DType::Bf16 => {
            let half = bf16::from_f64(real(value)?);
            bytes.extend_from_slice(&fitting(half, half.is_infinite(), value)?.to_le_bytes());
        }
        DType::Fp32 => {
            let single = real(value)? as f32;
            bytes.extend_from_slice(&fitting(single, single.is_infinite(), value)?.to_le_bytes());
        }
        DType::Fp64 => bytes.extend_from_slice(&real(value)?.to_le_bytes()),
        DType::Bytes => {
            let text = value.as_str()?.as_bytes();
            bytes.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
            bytes.extend_from_slice(text);
        }
    }
    Some(())
}

/// What JSON has no number for, as Python and JavaScript write it.
const TOKENS: [(&str, f64); 3] =
    [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)];

/// A number, or the name of one of [`TOKENS`].
fn real(value: &Value) -> Option<f64> {
    let named = |text| TOKENS.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    value.as_f64().or_else(|| value.as_str().and_then(named))
}

/// The narrower number, unless it is infinite and the value it was made of is not.
fn fitting<T>(number: T, is_infinite: bool, value: &Value) -> Option<T> {
    (!is_infinite || value.is_string()).then_some(number)
}

/// The text with every token of [`TOKENS`] outside of strings as a string, so that it is JSON.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    if !TOKENS.iter().any(|(name, _)| text.contains(name)) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut in_string, mut escaped) = (text, false, false);
    while let Some(first) = rest.chars().next() {
        let token = TOKENS.iter().find(|(name, _)| !in_string && rest.starts_with(name));
        if let Some((name, _)) = token {
            out.push_str(&format!("\"{name}\""));
            rest = &rest[name.len()..];
            continue;
        }
        in_string ^= first == '"' && !escaped;
        escaped = in_string && first == '\\' && !escaped;
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out.into()
}

/// The elements as JSON values, in order. What JSON has no number for becomes a string: "NaN", "-Infinity".
pub(super) fn elements(tensor: &Tensor) -> Vec<Value> {
    macro_rules! of {
        ($type:ty, $value:expr) => {{
            let chunks = tensor.as_bytes().chunks_exact(size_of::<$type>());
            let element = |chunk: &[u8]| {
                let mut bytes = [0; size_of::<$type>()];
                bytes.copy_from_slice(chunk);
                $value(<$type>::from_le_bytes(bytes))
            };
            chunks.map(element).collect()
        }};
    }
    match tensor.dtype() {
        DType::Bool => tensor.as_bytes().iter().map(|&byte| Value::Bool(byte != 0)).collect(),
        DType::Uint8 => of!(u8, Value::from),
        DType::Uint16 => of!(u16, Value::from),
        DType::Uint32 => of!(u32, Value::from),
        DType::Uint64 => of!(u64, Value::from),
        DType::Int8 => of!(i8, Value::from),
        DType::Int16 => of!(i16, Value::from),
        DType::Int32 => of!(i32, Value::from),
        DType::Int64 => of!(i64, Value::from),
        DType::Fp16 => of!(f16, |half: f16| short(half.to_f32())),
        DType::Bf16 => of!(bf16, |half: bf16| short(half.to_f32())),
        DType::Fp32 => of!(f32, short),
        DType::Fp64 => of!(f64, float),
        DType::Bytes => {
            let text = |bytes| Value::String(String::from_utf8_lossy(bytes).into_owned());
            tensor.strings().map(|strings| strings.map(text).collect()).unwrap_or_default()
        }
    }
}

/// The shortest decimal that stands for this `f32`, and not the long one of the `f64` beside it.
fn short(value: f32) -> Value {
    float(value.to_string().parse().unwrap_or(f64::NAN))
}

fn float(value: f64) -> Value {
    let named = || match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    };
    Number::from_f64(value).map_or_else(|| Value::String(named().to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_dtype_goes_in_and_comes_out() {
        let cases = [
            (DType::Bool, json!([true, false])),
            (DType::Uint8, json!([0, 255])),
            (DType::Uint16, json!([1, 65_535])),
            (DType::Uint32, json!([1, 4_294_967_295u32])),
            (DType::Uint64, json!([1, u64::MAX])),
            (DType::Int8, json!([-128, 127])),
            (DType::Int16, json!([-5, 5])),
            (DType::Int32, json!([-5, 5])),
            (DType::Int64, json!([i64::MIN, i64::MAX])),
            (DType::Fp16, json!([0.5, -2.0])),
            (DType::Bf16, json!([0.5, -2.0])),
            (DType::Fp32, json!([0.1, 1e30])),
            (DType::Fp64, json!([0.1, 1e300])),
            (DType::Bytes, json!(["", "käse"])),
        ];
        for (dtype, values) in cases {
            let tensor = nested("X", dtype, &values).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape().dims()), (dtype, &[2][..]));
            assert_eq!(Value::Array(elements(&tensor)), values, "{dtype:?}");
        }
    }

    #[test]
    fn what_json_has_no_number_for_has_a_name() {
        let text = r#"{"NaN \" NaN": [NaN, -Infinity,Infinity], "\\": "Infinity"}"#;
        let value: Value = serde_json::from_str(&quoted(text)).unwrap();
        let names = json!(["NaN", "-Infinity", "Infinity"]);
        assert_eq!(value, json!({ "NaN \" NaN": names, "\\": "Infinity" }));
        for dtype in [DType::Fp16, DType::Bf16, DType::Fp32, DType::Fp64] {
            let tensor = nested("X", dtype, &names).unwrap();
            assert_eq!(Value::Array(elements(&tensor)), names, "{dtype:?}");
        }
        assert!(nested("X", DType::Int32, &names).is_err());
    }

    #[test]
    fn nesting_is_the_shape() {
        let shape = |value: Value| {
            nested("X", DType::Fp32, &value).map(|tensor| tensor.shape().dims().to_vec())
        };
        assert!(shape(json!(1)).unwrap().is_empty());
        assert_eq!(shape(json!([[1, 2], [3, 4], [5, 6]])).unwrap(), [3, 2]);
        assert_eq!(shape(json!([[], []])).unwrap(), [2, 0]);
        for irregular in [json!([[1], 2]), json!([[1], [2, 3]]), json!([1, [2]])] {
            let error = shape(irregular).unwrap_err().to_string();
            assert!(error.contains("regular grid"), "{error}");
        }
        let flat = shaped("X", DType::Fp32, &[2, 2], &json!([1, 2, 3, 4])).unwrap();
        assert_eq!(flat.shape().dims(), [2, 2]);
        assert!(shaped("X", DType::Fp32, &[3], &json!([1, 2])).is_err());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let cases = [
            (DType::Uint8, json!([1, 256]), "X[1] is 256; wanted a value of UINT8"),
            (DType::Int64, json!([1.5]), "X[0] is 1.5"),
            (DType::Fp32, json!(["a"]), "X[0] is \"a\""),
            (DType::Fp32, json!([1e39]), "wanted a value of FP32"),
            (DType::Fp16, json!([1e5]), "wanted a value of FP16"),
            (DType::Bool, json!([1]), "wanted a value of BOOL"),
            (DType::Bytes, json!([null]), "X[0] is null"),
        ];
        for (dtype, value, wanted) in cases {
            let error = nested("X", dtype, &value).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
