//! The elements of a tensor from JSON, straight into its bytes.

use std::fmt;
use std::marker::PhantomData;

use innkeeper_tensor::{Buffer, DType, Element, Shape, Tensor};
use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error};
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::data::no_json_form;
use super::reading::{Reading, trimmed};

/// Reads `data`: an array of the elements in row-major order, flat or nested as the shape says. `ahead` is the text that
/// `from` stands at, which is only looked at.
///
/// # Errors
/// A value that is none of the dtype or does not fit it, too few or too many of them, or other nesting.
pub(crate) fn decode<'de, D: Deserializer<'de>>(
    reading: &Reading<'de>,
    ahead: &str,
    dtype: DType,
    shape: Shape,
    from: D,
) -> Result<Tensor, D::Error> {
    let array = Array { reading, ahead, shape: &shape };
    let data = match dtype {
        DType::Bool => array.read(from, Bit),
        DType::Uint8 => array.read(from, Whole::<u8>(PhantomData)),
        DType::Uint16 => array.read(from, Whole::<u16>(PhantomData)),
        DType::Uint32 => array.read(from, Whole::<u32>(PhantomData)),
        DType::Uint64 => array.read(from, Whole::<u64>(PhantomData)),
        DType::Int8 => array.read(from, Whole::<i8>(PhantomData)),
        DType::Int16 => array.read(from, Whole::<i16>(PhantomData)),
        DType::Int32 => array.read(from, Whole::<i32>(PhantomData)),
        DType::Int64 => array.read(from, Whole::<i64>(PhantomData)),
        DType::Fp32 => array.read_floats::<f32, D>(from),
        DType::Fp64 => array.read_floats::<f64, D>(from),
        DType::Bytes => array.read(from, Text),
        DType::Fp16 | DType::Bf16 => Err(reading.keep(no_json_form(dtype))),
    }?;
    Tensor::new(dtype, shape, data).map_err(|error| reading.bad(error.to_string()))
}

struct Array<'r, 'de> {
    reading: &'r Reading<'de>,
    ahead: &'r str,
    shape: &'r Shape,
}

impl<'de> Array<'_, 'de> {
    fn read_floats<T, D>(self, from: D) -> Result<Buffer, D::Error>
    where
        T: Element + DeserializeOwned + From<f32>,
        D: Deserializer<'de>,
    {
        if self.reading.has_tokens() {
            self.read(from, FloatOrToken::<T>(PhantomData))
        } else {
            self.read(from, Float::<T>(PhantomData))
        }
    }

    fn read<D, K>(self, from: D, kind: K) -> Result<Buffer, D::Error>
    where
        D: Deserializer<'de>,
        K: Kind<'de>,
    {
        let wanted = self.shape.elements();
        // An element takes two bytes of text at least, so a shape alone reserves nothing.
        let room = wanted.min(self.reading.text().len() / 2 + 1);
        let out = Vec::with_capacity(room);
        let mut walk = Walk { reading: self.reading, out, count: 0, wanted, kind };
        let dims = if self.is_nested() { self.shape.dims() } else { &[] };
        from.deserialize_seq(Row { walk: &mut walk, dims })?;
        if walk.count != wanted {
            return Err(self
                .reading
                .bad(format!("shape {} takes {wanted} elements, got {}", self.shape, walk.count)));
        }
        Ok(Buffer::from_vec(walk.out))
    }

    fn is_nested(&self) -> bool {
        let inside = trimmed(self.ahead).strip_prefix('[').map(trimmed);
        self.shape.dims().len() > 1 && inside.is_some_and(|inside| inside.starts_with('['))
    }
}

/// The elements read so far.
struct Walk<'r, 'de, K: Kind<'de>> {
    reading: &'r Reading<'de>,
    out: Vec<K::Item>,
    count: usize,
    wanted: usize,
    kind: K,
}

/// An array of elements, or of arrays; `dims` are the sizes from this array inwards, if it is nested.
struct Row<'w, 'r, 'de, K: Kind<'de>> {
    walk: &'w mut Walk<'r, 'de, K>,
    dims: &'w [usize],
}

impl<'de, K: Kind<'de>> DeserializeSeed<'de> for Row<'_, '_, 'de, K> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, K: Kind<'de>> Visitor<'de> for Row<'_, '_, 'de, K> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Row { walk, dims } = self;
        let mut items = 0;
        if let [_, inner @ ..] = dims
            && !inner.is_empty()
        {
            while seq.next_element_seed(Row { walk: &mut *walk, dims: inner })?.is_some() {
                items += 1;
            }
        } else {
            let before = walk.count;
            while seq.next_element_seed(One(&mut *walk))?.is_some() {}
            items = walk.count - before;
        }
        match dims.first() {
            Some(&size) if size != items => Err(walk
                .reading
                .bad(format!("nested otherwise than its shape: wanted {size} items, got {items}"))),
            _ => Ok(()),
        }
    }
}

/// The next element.
struct One<'w, 'r, 'de, K: Kind<'de>>(&'w mut Walk<'r, 'de, K>);

impl<'de, K: Kind<'de>> DeserializeSeed<'de> for One<'_, '_, 'de, K> {
    type Value = ();
    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let Walk { reading, out, count, wanted, kind } = self.0;
        if count == wanted {
            return Err(reading.bad(format!("more than the {wanted} elements of its shape")));
        }
        kind.push(reading, from, out).map_err(|error| reading.at_index(error, *count))?;
        *count += 1;
        Ok(())
    }
}

/// How an element is read.
trait Kind<'de>: Copy {
    /// What it is put into memory as.
    type Item: Element;
    /// Reads one and appends it.
    fn push<D: Deserializer<'de>>(
        self,
        reading: &Reading<'de>,
        from: D,
        out: &mut Vec<Self::Item>,
    ) -> Result<(), D::Error>;
}

#[derive(Clone, Copy)]
struct Whole<T>(PhantomData<T>);

impl<'de, T: Element + TryFrom<u64> + TryFrom<i64>> Kind<'de> for Whole<T> {
    type Item = T;
    #[inline]
    fn push<D: Deserializer<'de>>(
        self,
        reading: &Reading<'de>,
        from: D,
        out: &mut Vec<T>,
    ) -> Result<(), D::Error> {
        out.push(reading.whole(from)?);
        Ok(())
    }
}

/// A float, rounded once: serde_json with `float_roundtrip` reads an f32 as such and not by way of an f64.
#[derive(Clone, Copy)]
struct Float<T>(PhantomData<T>);

impl<'de, T: Element + Deserialize<'de>> Kind<'de> for Float<T> {
    type Item = T;
    #[inline]
    fn push<D: Deserializer<'de>>(
        self,
        _: &Reading<'de>,
        from: D,
        out: &mut Vec<T>,
    ) -> Result<(), D::Error> {
        out.push(T::deserialize(from)?);
        Ok(())
    }
}

/// The same where numbers may stand for tokens.
#[derive(Clone, Copy)]
struct FloatOrToken<T>(PhantomData<T>);

impl<'de, T: Element + DeserializeOwned + From<f32>> Kind<'de> for FloatOrToken<T> {
    type Item = T;
    fn push<D: Deserializer<'de>>(
        self,
        reading: &Reading<'de>,
        from: D,
        out: &mut Vec<T>,
    ) -> Result<(), D::Error> {
        let value = <&RawValue>::deserialize(from)?;
        out.push(match reading.as_sent(value.get()) {
            "NaN" => T::from(f32::NAN),
            "Infinity" => T::from(f32::INFINITY),
            "-Infinity" => T::from(f32::NEG_INFINITY),
            number => serde_json::from_str(number).map_err(|error| {
                // It counts from the element on.
                let text = error.to_string();
                let problem = text.rsplit_once(" at line ").map_or(&*text, |(problem, _)| problem);
                reading.keep(reading.take(&problem))
            })?,
        });
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Bit;

impl<'de> Kind<'de> for Bit {
    type Item = u8;
    #[inline]
    fn push<D: Deserializer<'de>>(
        self,
        reading: &Reading<'de>,
        from: D,
        out: &mut Vec<u8>,
    ) -> Result<(), D::Error> {
        let value = from.deserialize_any(BitVisitor)?;
        let value = value.ok_or_else(|| reading.bad("not true, false, 0 or 1"))?;
        out.push(u8::from(value));
        Ok(())
    }
}

struct BitVisitor;

impl Visitor<'_> for BitVisitor {
    type Value = Option<bool>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, 0 or 1")
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Option<bool>, E> {
        Ok(Some(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Option<bool>, E> {
        Ok((value <= 1).then_some(value == 1))
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<bool>, E> {
        Ok(None)
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<bool>, E> {
        Ok(None)
    }
}

/// An element of a BYTES tensor, framed as in memory.
#[derive(Clone, Copy)]
struct Text;

impl<'de> Kind<'de> for Text {
    type Item = u8;
    #[inline]
    fn push<D: Deserializer<'de>>(
        self,
        _: &Reading<'de>,
        from: D,
        out: &mut Vec<u8>,
    ) -> Result<(), D::Error> {
        from.deserialize_str(Frame(out))
    }
}

struct Frame<'o>(&'o mut Vec<u8>);

impl Visitor<'_> for Frame<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    #[inline]
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let len = u32::try_from(text.len()).map_err(|_| E::custom("longer than 4 GiB"))?;
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
