//! One input of a request: its fields, and its tensor from JSON or from behind it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use innkeeper_tensor::{Buffer, DType, Named, RANK_MAX, Shape, Signature, Tensor};
use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::parameters::{NOT_SERVED, parameters};
use super::reading::{Fields, Items, Reading};
use super::{Bad, elements};

/// The binary tensors behind the JSON, taken from front to back.
pub(crate) struct Tail<'a> {
    body: &'a Bytes,
    at: usize,
    /// The body as a buffer, made when the first tensor wants a part of it.
    shared: Option<Buffer>,
}

impl<'a> Tail<'a> {
    /// What follows the first `at` bytes.
    pub(crate) fn new(body: &'a Bytes, at: usize) -> Tail<'a> {
        Tail { body, at, shared: None }
    }

    /// Where in the body the next tensor begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

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

/// Reads an input.
///
/// # Errors
/// A missing field, or one that is not as the protocol has it.
pub(crate) fn read<'de, D: Deserializer<'de>>(
    reading: &Reading<'de>,
    from: D,
    tail: &mut Tail<'_>,
) -> Result<Named, D::Error> {
    let mut input = Input {
        reading,
        name: None,
        dtype: None,
        shape: None,
        binary_size: None,
        tensor: None,
        unread: None,
    };
    reading.object(from, &mut input)?;
    input.finish(tail).map_err(|bad| reading.keep(bad))
}

struct Input<'r, 'de> {
    reading: &'r Reading<'de>,
    name: Option<String>,
    dtype: Option<DType>,
    shape: Option<Shape>,
    binary_size: Option<usize>,
    tensor: Option<Tensor>,
    /// Data that stood before the dtype or the shape.
    unread: Option<&'de RawValue>,
}

impl<'de> Fields<'de> for Input<'_, 'de> {
    fn read<D: Deserializer<'de>>(&mut self, key: &Cow<'de, str>, from: D) -> Result<(), D::Error> {
        let reading = self.reading;
        match &**key {
            "name" => self.name = Some(reading.string(from, Signature::NAME_BYTES_MAX)?),
            "datatype" => self.dtype = Some(dtype(reading, from)?),
            "shape" => self.shape = Some(shape(reading, from)?),
            "parameters" => self.binary_size = input_parameters(reading, from)?,
            "data" => match (self.dtype, self.shape.clone(), reading.behind(key)) {
                (Some(dtype), Some(shape), Some(ahead)) => {
                    self.tensor = Some(elements::decode(reading, ahead, dtype, shape, from)?);
                }
                _ => self.unread = Some(Deserialize::deserialize(from)?),
            },
            _ => reading.skip(from)?,
        }
        Ok(())
    }
}

impl Input<'_, '_> {
    fn finish(self, tail: &mut Tail<'_>) -> Result<Named, Bad> {
        let missing = |field: &str| Bad::new(format!("\"{field}\" is missing"));
        let name = self.name.ok_or_else(|| missing("name"))?;
        let dtype = self.dtype.ok_or_else(|| missing("datatype"))?;
        let shape = self.shape.ok_or_else(|| missing("shape"))?;
        let has_data = self.tensor.is_some() || self.unread.is_some();
        let tensor = match (self.tensor, self.unread, self.binary_size) {
            (_, _, Some(_)) if has_data => {
                return Err(Bad::new("has both \"data\" and \"binary_data_size\"; send one"));
            }
            (_, _, Some(len)) => {
                let bytes = tail.take(len)?;
                Tensor::new(dtype, shape, bytes).map_err(|error| Bad::new(error.to_string()))?
            }
            (Some(tensor), _, _) => tensor,
            (None, Some(data), _) => {
                let mut from = serde_json::Deserializer::from_str(data.get());
                elements::decode(self.reading, data.get(), dtype, shape, &mut from)
                    .map_err(|error| self.reading.take(&error).at("data"))?
            }
            (None, None, None) => return Err(missing("data")),
        };
        Ok(Named { name, tensor })
    }
}

fn dtype<'de, D: Deserializer<'de>>(reading: &Reading<'de>, from: D) -> Result<DType, D::Error> {
    let name = reading.string(from, Signature::NAME_BYTES_MAX)?;
    name.parse().map_err(|error| reading.bad(format!("{error}")))
}

fn shape<'de, D: Deserializer<'de>>(reading: &Reading<'de>, from: D) -> Result<Shape, D::Error> {
    let mut dims = Dims { reading, dims: [0; RANK_MAX], rank: 0 };
    reading.array(from, RANK_MAX, &mut dims)?;
    Shape::from_i64(&dims.dims[..dims.rank]).map_err(|error| reading.bad(error.to_string()))
}

struct Dims<'r, 'de> {
    reading: &'r Reading<'de>,
    dims: [i64; RANK_MAX],
    rank: usize,
}

impl<'de> Items<'de> for Dims<'_, 'de> {
    fn read<D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        self.dims[self.rank] = self.reading.size(from)?;
        self.rank += 1;
        Ok(())
    }
}

/// `binary_data_size`, if it is there.
fn input_parameters<'de, D: Deserializer<'de>>(
    reading: &Reading<'de>,
    from: D,
) -> Result<Option<usize>, D::Error> {
    let mut known = Known { reading, binary_size: None };
    parameters(reading, from, &mut known)?;
    Ok(known.binary_size)
}

struct Known<'r, 'de> {
    reading: &'r Reading<'de>,
    binary_size: Option<usize>,
}

impl<'de> Fields<'de> for Known<'_, 'de> {
    fn read<D: Deserializer<'de>>(&mut self, key: &Cow<'de, str>, from: D) -> Result<(), D::Error> {
        match &**key {
            "binary_data_size" => {
                let got = self.reading.size(from)?;
                let size = usize::try_from(got).ok();
                self.binary_size = size;
                size.map(drop).ok_or_else(|| self.reading.bad(format!("{got} is no size")))
            }
            // A hint for servers that keep other types; the datatype says all here.
            "content_type" => self.reading.skip(from),
            _ => Err(self.reading.bad::<D::Error>(NOT_SERVED)),
        }
    }
}
