//! The body of an inference answer.

use std::collections::VecDeque;

use bytes::Bytes;
use innkeeper_tensor::{Buffer, Named};

use super::Bad;
use super::data::{self, print_integer, print_string};
use super::request::Wanted;
use crate::reply::Shared;

/// Binary outputs up to this size are copied behind the JSON, so that the answer is one write; larger ones are sent
/// from where they lie.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// What an answer says beside its tensors.
pub(crate) struct Head<'a> {
    pub(crate) model: &'a str,
    pub(crate) version: &'a str,
    pub(crate) id: Option<&'a str>,
}

/// An answer's body.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The length of the leading JSON when binary tensors follow it.
    pub(crate) header_len: Option<usize>,
    /// The bytes, in order.
    pub(crate) chunks: VecDeque<Bytes>,
}

/// How each output goes over the wire.
pub(crate) struct Form<'a> {
    pub(crate) wanted: &'a [Wanted],
    pub(crate) binary: bool,
}

impl Form<'_> {
    /// Whether the output is to be binary: as it says itself, else as the request says for all.
    pub(crate) fn is_binary(&self, output: &str) -> bool {
        self.wanted(output).and_then(|wanted| wanted.binary).unwrap_or(self.binary)
    }

    /// How many classes are wanted in the place of the output, if any.
    pub(crate) fn classes(&self, output: &str) -> Option<usize> {
        self.wanted(output).and_then(|wanted| wanted.classes)
    }

    fn wanted(&self, output: &str) -> Option<&Wanted> {
        self.wanted.iter().find(|wanted| wanted.name == output)
    }
}

/// Writes the answer.
///
/// # Errors
/// An output that has no JSON form and was not asked for as binary.
pub(crate) fn encode(head: &Head<'_>, outputs: &[Named], form: &Form<'_>) -> Result<Encoded, Bad> {
    let mut json = Vec::with_capacity(room(outputs, form));
    json.extend_from_slice(b"{\"model_name\":");
    print_string(&mut json, head.model);
    json.extend_from_slice(b",\"model_version\":");
    print_string(&mut json, head.version);
    if let Some(id) = head.id {
        json.extend_from_slice(b",\"id\":");
        print_string(&mut json, id);
    }
    json.extend_from_slice(b",\"outputs\":[");
    let mut tail = Vec::new();
    for (index, output) in outputs.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        if form.is_binary(&output.name) {
            print_binary(&mut json, output);
            tail.push(output.tensor.data());
        } else {
            print_json(&mut json, output)
                .map_err(|bad| bad.at(&format!("output {:?}", output.name)))?;
        }
    }
    json.extend_from_slice(b"]}");
    Ok(assemble(json, &tail))
}

fn print_spec(json: &mut Vec<u8>, output: &Named) {
    json.extend_from_slice(b"{\"name\":");
    print_string(json, &output.name);
    json.extend_from_slice(b",\"datatype\":\"");
    json.extend_from_slice(output.tensor.dtype().name().as_bytes());
    json.extend_from_slice(b"\",\"shape\":[");
    for (axis, &dim) in output.tensor.shape().dims().iter().enumerate() {
        if axis > 0 {
            json.push(b',');
        }
        print_integer(json, dim);
    }
    json.push(b']');
}

fn print_json(json: &mut Vec<u8>, output: &Named) -> Result<(), Bad> {
    print_spec(json, output);
    json.extend_from_slice(b",\"data\":");
    data::encode(&output.tensor, json)?;
    json.push(b'}');
    Ok(())
}

fn print_binary(json: &mut Vec<u8>, output: &Named) {
    print_spec(json, output);
    json.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
    print_integer(json, output.tensor.as_bytes().len());
    json.extend_from_slice(b"}}");
}

/// Enough for most answers, so that they are written without growing.
fn room(outputs: &[Named], form: &Form<'_>) -> usize {
    let tensors = outputs.iter().map(|output| {
        let elements = output.tensor.shape().elements();
        let json = if form.is_binary(&output.name) { 0 } else { elements.saturating_mul(11) };
        json + output.name.len() + 96
    });
    // A wrong guess must not reserve more than a few times what comes.
    96 + tensors.sum::<usize>().min(1 << 20) + 128
}

fn assemble(mut json: Vec<u8>, tail: &[&Buffer]) -> Encoded {
    if tail.is_empty() {
        return Encoded { header_len: None, chunks: VecDeque::from([Bytes::from(json)]) };
    }
    let header_len = Some(json.len());
    let mut chunks = VecDeque::new();
    for buffer in tail {
        if buffer.len() <= COPIED_BYTES_MAX {
            json.extend_from_slice(buffer.as_bytes());
        } else {
            if !json.is_empty() {
                chunks.push_back(Bytes::from(std::mem::take(&mut json)));
            }
            chunks.push_back(Bytes::from_owner(Shared((*buffer).clone())));
        }
    }
    if !json.is_empty() {
        chunks.push_back(Bytes::from(json));
    }
    Encoded { header_len, chunks }
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::Tensor;

    use super::*;

    const HEAD: Head<'_> = Head { model: "m", version: "1", id: Some("a\"b") };

    fn named(name: &str, tensor: Tensor) -> Named {
        Named { name: name.into(), tensor }
    }

    fn whole(encoded: &Encoded) -> Vec<u8> {
        encoded.chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect()
    }

    #[test]
    fn json_and_binary_outputs_mix() {
        let outputs = [
            named("Y", Tensor::from_vec(&[1, 2], vec![1.5f32, f32::NAN]).unwrap()),
            named("Z", Tensor::from_vec(&[2], vec![1i16, -1]).unwrap()),
        ];
        let wanted = [Wanted { name: "Z".into(), binary: Some(true), classes: None }];
        let encoded = encode(&HEAD, &outputs, &Form { wanted: &wanted, binary: false }).unwrap();
        let json = concat!(
            r#"{"model_name":"m","model_version":"1","id":"a\"b","outputs":["#,
            r#"{"name":"Y","datatype":"FP32","shape":[1,2],"data":[1.5,NaN]},"#,
            r#"{"name":"Z","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":4}}]}"#,
        );
        assert_eq!(encoded.header_len, Some(json.len()));
        assert_eq!(whole(&encoded), [json.as_bytes(), &[1, 0, 255, 255]].concat());
    }

    #[test]
    fn large_outputs_are_not_copied() {
        let small = named("S", Tensor::from_vec(&[1], vec![7u8]).unwrap());
        let large = named("L", Tensor::from_vec(&[100_000], vec![1u8; 100_000]).unwrap());
        let outputs = [small.clone(), large.clone(), small];
        let encoded = encode(&HEAD, &outputs, &Form { wanted: &[], binary: true }).unwrap();
        assert_eq!(encoded.chunks.len(), 3);
        assert_eq!(encoded.chunks[1].as_ptr(), large.tensor.as_bytes().as_ptr());
        assert_eq!(encoded.chunks[2], [7u8][..]);
        assert_eq!(whole(&encoded).len(), encoded.header_len.unwrap() + 100_002);
    }

    #[test]
    fn outputs_without_a_json_form_are_named() {
        let outputs = [named("T", Tensor::from_strings(&[1], &[[0xffu8]]).unwrap())];
        let error = encode(&HEAD, &outputs, &Form { wanted: &[], binary: false }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "output \"T\"[0]: not UTF-8; ask for this output with binary_data"
        );
    }
}
