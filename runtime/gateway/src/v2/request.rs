//! The body of an inference request, read straight into tensors.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use innkeeper_tensor::{Buffer, DType, Named, RANK_MAX, Shape, Signature, Tensor};

use super::json::{Number, Reader};
use super::{Bad, data};

/// More parameters than any protocol defines.
const PARAMETERS_MAX: usize = 64;
/// Bytes of one parameter's JSON text.
const PARAMETER_BYTES_MAX: usize = 16 << 10;
/// Bytes of the caller's id, which is echoed.
const ID_BYTES_MAX: usize = 1 << 10;

/// An inference request.
#[derive(Debug, Default)]
pub(crate) struct Infer {
    /// The caller's id.
    pub(crate) id: Option<String>,
    /// Parameters for the model, as JSON text.
    pub(crate) parameters: Vec<(String, String)>,
    /// The inputs, in the order given.
    pub(crate) inputs: Vec<Named>,
    /// The outputs asked for; none means all.
    pub(crate) outputs: Vec<Wanted>,
    /// Whether outputs are binary where they do not say.
    pub(crate) binary: bool,
}

/// An output asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is to be binary, if that was said.
    pub(crate) binary: Option<bool>,
}

/// Reads a body, whose first `header_len` bytes are JSON and the rest binary tensors; without it, all is JSON.
///
/// # Errors
/// Anything that is not as the protocol has it, with the field's path.
pub(crate) fn decode(body: &Bytes, header_len: Option<usize>) -> Result<Infer, Bad> {
    let header_len = header_len.unwrap_or(body.len());
    if header_len > body.len() {
        return Err(Bad::new(format!(
            "Inference-Header-Content-Length is {header_len}, but the body has {} bytes",
            body.len()
        )));
    }
    let mut tail = Tail { body, at: header_len, shared: None };
    let mut reader = Reader::new(&body[..header_len]);
    let infer = infer(&mut reader, &mut tail)?;
    reader.end()?;
    if tail.at != body.len() {
        return Err(Bad::new(format!(
            "{} bytes follow the JSON, but the inputs' binary_data_size add up to {}",
            body.len() - header_len,
            tail.at - header_len
        )));
    }
    Ok(infer)
}

/// The binary tensors behind the JSON, taken from front to back.
struct Tail<'a> {
    body: &'a Bytes,
    at: usize,
    /// The body as a buffer, made when the first tensor wants a part of it.
    shared: Option<Buffer>,
}

impl Tail<'_> {
    fn take(&mut self, len: usize) -> Result<Buffer, Bad> {
        let body = self.body;
        let shared = self.shared.get_or_insert_with(|| Buffer::shared(Arc::new(body.clone())));
        let end = self.at.checked_add(len);
        let part = end.and_then(|end| shared.slice(self.at..end)).ok_or_else(|| {
            Bad::new(format!(
                "binary_data_size is {len}, but only {} bytes are left",
                body.len() - self.at
            ))
        })?;
        self.at += len;
        Ok(part)
    }
}

fn infer(reader: &mut Reader<'_>, tail: &mut Tail<'_>) -> Result<Infer, Bad> {
    let mut infer = Infer::default();
    let mut has_inputs = false;
    fields(reader, |key, reader| {
        match key {
            "id" => infer.id = Some(bounded(reader, ID_BYTES_MAX)?),
            "parameters" => request_parameters(reader, &mut infer)?,
            "inputs" => {
                has_inputs = true;
                each(reader, Signature::TENSORS_MAX, |reader| {
                    infer.inputs.push(input(reader, tail)?);
                    Ok(())
                })?;
            }
            "outputs" => each(reader, Signature::TENSORS_MAX, |reader| {
                let wanted = output(reader)?;
                if infer.outputs.iter().any(|other| other.name == wanted.name) {
                    return Err(Bad::new(format!("output {:?} is asked for twice", wanted.name)));
                }
                infer.outputs.push(wanted);
                Ok(())
            })?,
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    if !has_inputs {
        return Err(Bad::new("the request has no \"inputs\""));
    }
    Ok(infer)
}

/// Calls `read` with each key of an object, the reader standing at its value. A value of `null` counts as left out.
fn fields<'a>(
    reader: &mut Reader<'a>,
    mut read: impl FnMut(&str, &mut Reader<'a>) -> Result<(), Bad>,
) -> Result<(), Bad> {
    reader.open(b'{')?;
    // The keys that the protocol knows, once each: whoever reads another of two than we do sees another request.
    const KNOWN: [&str; 8] =
        ["id", "parameters", "inputs", "outputs", "name", "shape", "datatype", "data"];
    let mut seen = 0u8;
    let mut first = true;
    while let Some(key) = reader.key(&mut first)? {
        if let Some(bit) = KNOWN.iter().position(|known| *known == key) {
            if seen & 1 << bit != 0 {
                return Err(Bad::new(format!("the key {key:?} stands twice")));
            }
            seen |= 1 << bit;
        }
        if reader.peek() == Some(b'n') {
            reader.skip()?;
        } else {
            read(&key, reader).map_err(|bad| bad.at(&shortened(&key)))?;
        }
    }
    Ok(())
}

/// Calls `read` at each item of an array.
fn each<'a>(
    reader: &mut Reader<'a>,
    items_max: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<(), Bad>,
) -> Result<(), Bad> {
    reader.open(b'[')?;
    let (mut first, mut index) = (true, 0);
    while reader.item(&mut first)? {
        if index == items_max {
            return Err(Bad::new(format!("more than {items_max} items")));
        }
        read(reader).map_err(|bad| bad.at_index(index))?;
        index += 1;
    }
    Ok(())
}

#[derive(Default)]
struct Input<'a> {
    name: Option<String>,
    dtype: Option<DType>,
    shape: Option<Shape>,
    binary_size: Option<usize>,
    tensor: Option<Tensor>,
    /// Data that stood before the dtype or the shape.
    unread: Option<&'a [u8]>,
}

fn input(reader: &mut Reader<'_>, tail: &mut Tail<'_>) -> Result<Named, Bad> {
    let mut input = Input::default();
    fields(reader, |key, reader| {
        match key {
            "name" => input.name = Some(name(reader)?),
            "datatype" => {
                let parsed = reader.string()?.parse();
                input.dtype = Some(parsed.map_err(|error| Bad::new(format!("{error}")))?);
            }
            "shape" => input.shape = Some(shape(reader)?),
            "parameters" => input.binary_size = input_parameters(reader)?,
            "data" => match (input.dtype, input.shape.clone()) {
                (Some(dtype), Some(shape)) => {
                    input.tensor = Some(data::decode(reader, dtype, shape)?)
                }
                _ => input.unread = Some(reader.skip()?),
            },
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    finish(input, tail)
}

fn finish(input: Input<'_>, tail: &mut Tail<'_>) -> Result<Named, Bad> {
    let missing = |field: &str| Bad::new(format!("\"{field}\" is missing"));
    let name = input.name.ok_or_else(|| missing("name"))?;
    let dtype = input.dtype.ok_or_else(|| missing("datatype"))?;
    let shape = input.shape.ok_or_else(|| missing("shape"))?;
    let has_data = input.tensor.is_some() || input.unread.is_some();
    let tensor = match (input.tensor, input.unread, input.binary_size) {
        (_, _, Some(_)) if has_data => {
            return Err(Bad::new("has both \"data\" and \"binary_data_size\"; send one"));
        }
        (_, _, Some(len)) => {
            let bytes = tail.take(len)?;
            Tensor::new(dtype, shape, bytes).map_err(|error| Bad::new(error.to_string()))?
        }
        (Some(tensor), _, _) => tensor,
        (None, Some(text), _) => {
            data::decode(&mut Reader::new(text), dtype, shape).map_err(|bad| bad.at("data"))?
        }
        (None, None, None) => return Err(missing("data")),
    };
    Ok(Named { name, tensor })
}

fn shape(reader: &mut Reader<'_>) -> Result<Shape, Bad> {
    let mut dims = [0i64; RANK_MAX];
    let mut rank = 0;
    each(reader, RANK_MAX, |reader| {
        dims[rank] = integer(reader)?;
        rank += 1;
        Ok(())
    })?;
    Shape::from_i64(&dims[..rank]).map_err(|error| Bad::new(error.to_string()))
}

fn output(reader: &mut Reader<'_>) -> Result<Wanted, Bad> {
    let (mut wanted, mut binary) = (None, None);
    fields(reader, |key, reader| {
        match key {
            "name" => wanted = Some(name(reader)?),
            "parameters" => parameters(reader, |key, reader| match key {
                "binary_data" => {
                    binary = Some(reader.boolean()?);
                    Ok(())
                }
                "classification" => Err(Bad::new("the classification extension is not served")),
                _ => Err(not_served()),
            })?,
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    let name = wanted.ok_or_else(|| Bad::new("\"name\" is missing"))?;
    Ok(Wanted { name, binary })
}

/// `binary_data_size`, if it is there.
fn input_parameters(reader: &mut Reader<'_>) -> Result<Option<usize>, Bad> {
    let mut size = None;
    parameters(reader, |key, reader| match key {
        "binary_data_size" => {
            let got = integer(reader)?;
            let got = usize::try_from(got).map_err(|_| Bad::new(format!("{got} is no size")))?;
            size = Some(got);
            Ok(())
        }
        // A hint for servers that keep other types; the datatype says all here.
        "content_type" => reader.skip().map(drop),
        _ => Err(not_served()),
    })?;
    Ok(size)
}

fn not_served() -> Bad {
    Bad::new("this parameter is not served here")
}

fn request_parameters(reader: &mut Reader<'_>, infer: &mut Infer) -> Result<(), Bad> {
    parameters(reader, |key, reader| {
        match key {
            "binary_data_output" => infer.binary = reader.boolean()?,
            "sequence_id" | "sequence_start" | "sequence_end" | "priority" | "timeout"
            | "headers" => {
                return Err(not_served());
            }
            _ if key.starts_with("triton_") => return Err(not_served()),
            _ => infer.parameters.push((key.to_owned(), parameter(reader)?)),
        }
        Ok(())
    })
}

fn parameters<'a>(
    reader: &mut Reader<'a>,
    mut read: impl FnMut(&str, &mut Reader<'a>) -> Result<(), Bad>,
) -> Result<(), Bad> {
    let mut names: Vec<String> = Vec::new();
    fields(reader, |key, reader| {
        if names.len() == PARAMETERS_MAX || key.len() > Signature::NAME_BYTES_MAX {
            return Err(Bad::new(format!(
                "at most {PARAMETERS_MAX} parameters, with names of at most {} bytes",
                Signature::NAME_BYTES_MAX
            )));
        }
        if names.iter().any(|name| name == key) {
            return Err(Bad::new("stands twice"));
        }
        names.push(key.to_owned());
        read(key, reader)
    })
}

/// A parameter's value as JSON text: a string, a number or a boolean.
fn parameter(reader: &mut Reader<'_>) -> Result<String, Bad> {
    if let Some(b'{' | b'[') = reader.peek() {
        return Err(reader.unexpected("a string, a number or a boolean"));
    }
    let text = reader.skip()?;
    if text.len() > PARAMETER_BYTES_MAX {
        return Err(Bad::new(format!("longer than {PARAMETER_BYTES_MAX} bytes")));
    }
    // The reader has taken it for JSON, so that this holds.
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn name(reader: &mut Reader<'_>) -> Result<String, Bad> {
    bounded(reader, Signature::NAME_BYTES_MAX)
}

fn bounded(reader: &mut Reader<'_>, bytes_max: usize) -> Result<String, Bad> {
    let text = reader.string()?;
    if text.len() > bytes_max {
        return Err(Bad::new(format!("longer than {bytes_max} bytes")));
    }
    Ok(text.into_owned())
}

fn integer(reader: &mut Reader<'_>) -> Result<i64, Bad> {
    let Number::Digits(digits) = reader.number()? else {
        return Err(Bad::new("not a whole number"));
    };
    let value = i128::from(digits.mantissa);
    let value = i64::try_from(if digits.negative { -value } else { value }).ok();
    match value {
        Some(value) if digits.whole && digits.exact => Ok(value),
        _ => Err(Bad::new(format!(
            "{} is not a whole number of 64 bits",
            shortened(&String::from_utf8_lossy(digits.text))
        ))),
    }
}

/// What somebody sent, short enough for an error text.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= 64 { text.into() } else { text.chars().take(64).collect::<String>().into() }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
