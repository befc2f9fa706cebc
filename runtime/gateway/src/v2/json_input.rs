//! Inputs whose shape is that of their JSON, as other protocols send them.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use bytes::Bytes;
use innkeeper_tensor::{DType, Named, Signature, TensorSpec};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::tokens::outside_strings;
use super::{Bad, request};

/// Reads tensors of the dtypes that the specs say: each value is an element or a nested array, and its nesting is its
/// shape.
///
/// # Errors
/// A value that is none of the dtype, uneven nesting, and a dtype without a JSON form.
pub(crate) fn read(values: &[(&TensorSpec, &str)]) -> Result<Vec<Named>, Bad> {
    let mut text = String::from("{\"inputs\":[");
    for (index, (spec, value)) in values.iter().enumerate() {
        if spec.dtype == DType::Bytes && has_objects(value) {
            return Err(Bad::new(
                "wanted strings; base64 in an object is not served, send such bytes by the v2 protocol",
            )
            .at(&spec.name));
        }
        let shape = shape_of(value);
        let (open, close) = if shape.is_empty() { ("[", "]") } else { ("", "") };
        let name = serde_json::Value::from(spec.name.as_str());
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{comma}{{\"name\":{name},\"datatype\":\"{}\",\"shape\":{shape:?},\"data\":{open}{value}{close}}}",
            spec.dtype
        );
    }
    text.push_str("]}");
    let body = Bytes::from(text);
    Ok(request::decode(&body, None)?.inputs)
}

fn has_objects(text: &str) -> bool {
    outside_strings(text).any(|(_, byte)| byte == b'{')
}

/// How deep the arrays of a value are nested.
pub(crate) fn rank(text: &str) -> usize {
    shape_of(text).len()
}

/// The sizes of the first array at each depth: the shape of the text, if it is even.
fn shape_of(text: &str) -> Vec<usize> {
    let mut sizes: Vec<usize> = Vec::new();
    let (mut depth, mut closed) = (0usize, usize::MAX);
    // Strings are stepped over, so that an array is known to be empty by its text alone.
    let (mut is_empty, mut begin) = (true, 0);
    for (at, byte) in outside_strings(text) {
        // The arrays that are open and the first of their depth are those above the shallowest that has closed.
        let is_first = depth > 0 && depth < closed;
        match byte {
            b'[' => {
                depth += 1;
                if depth > sizes.len() && depth < closed {
                    sizes.push(0);
                }
                (is_empty, begin) = (true, at + 1);
            }
            b']' => {
                is_empty = is_empty && text[begin..at].trim().is_empty();
                if is_first && !is_empty {
                    sizes[depth - 1] += 1;
                }
                if is_first {
                    closed = depth;
                }
                is_empty = false;
                depth = depth.saturating_sub(1);
            }
            b',' if is_first => sizes[depth - 1] += 1,
            b',' | b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => is_empty = false,
        }
    }
    sizes
}

/// The fields of an object, each once, in any number that a signature and its parameters can have.
///
/// # Errors
/// What is no object, a key twice, and too many of them.
pub(crate) fn fields(text: &str) -> Result<BTreeMap<String, &RawValue>, Bad> {
    let mut from = serde_json::Deserializer::from_str(text);
    let read = from.deserialize_map(Fields).and_then(|fields| from.end().map(|()| fields));
    read.map_err(|error| Bad::new(error.to_string()))
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = BTreeMap<String, &'de RawValue>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            if fields.len() == Signature::TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {} keys", Signature::TENSORS_MAX)));
            }
            if fields.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(fields)
    }
}

/// The number of commas outside of strings, which bounds how many items there can be.
pub(crate) fn commas(text: &str) -> usize {
    outside_strings(text).filter(|(_, byte)| *byte == b',').count()
}

/// The items of an array's JSON text.
pub(crate) fn items(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut depth, mut begin) = (0usize, 0);
    for (at, byte) in outside_strings(text) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth == 1 {
                    begin = at + 1;
                }
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && !text[begin..at].trim().is_empty() {
                    found.push(text[begin..at].trim());
                }
            }
            b',' if depth == 1 => {
                found.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nesting_is_the_shape() {
        for (text, wanted) in [
            ("1", &[][..]),
            ("\"a,b\"", &[]),
            ("[]", &[0]),
            ("[1]", &[1]),
            ("[1, 2,3]", &[3]),
            ("[[1,2],[3,4],[5,6]]", &[3, 2]),
            ("[ [ ] , [ ] ]", &[2, 0]),
            ("[[[1],[2]]]", &[1, 2, 1]),
            ("[\"a,]\", \"b\"]", &[2]),
            ("[[\"\"],[\"\"]]", &[2, 1]),
        ] {
            assert_eq!(shape_of(text), wanted, "{text}");
        }
    }

    #[test]
    fn items_are_cut_at_their_commas() {
        assert_eq!(items("[1, [2,3] ,\"a,b\"]"), ["1", "[2,3]", "\"a,b\""]);
        assert!(items("[ ]").is_empty());
    }

    #[test]
    fn values_become_tensors() {
        let spec = |dtype| TensorSpec { name: "A".into(), dtype, shape: None, optional: false };
        let read = |dtype, text| {
            let named = read(&[(&spec(dtype), text)]).map_err(|bad| bad.to_string())?;
            Ok::<_, String>(named[0].tensor.shape().dims().to_vec())
        };
        assert_eq!(read(DType::Fp32, "[[1,2.5],[NaN,4]]"), Ok(vec![2, 2]));
        assert_eq!(read(DType::Int64, "7"), Ok(vec![]));
        assert_eq!(read(DType::Bytes, "[\"x\"]"), Ok(vec![1]));
        assert!(read(DType::Fp32, "[[1],[2,3]]").is_err());
        assert!(read(DType::Fp32, "[[1,2],[3]]").is_err());
        assert!(read(DType::Fp32, "[\"x\"]").is_err());
        assert!(read(DType::Fp16, "[1]").unwrap_err().contains("no JSON form"));
        assert!(read(DType::Bytes, "[{\"b64\":\"eA==\"}]").unwrap_err().contains("base64"));
    }
}
