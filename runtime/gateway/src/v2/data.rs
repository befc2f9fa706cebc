//! The elements of a tensor as JSON, both ways.

use std::borrow::Cow;

use innkeeper_tensor::{Buffer, DType, Element, Shape, Tensor};

use super::Bad;
use super::json::{Digits, Number, Reader};

/// Reads `data`: an array of the elements in row-major order, flat or nested as the shape says.
///
/// # Errors
/// A value that is none of the dtype or does not fit it, too few or too many of them, or other nesting.
pub(crate) fn decode(reader: &mut Reader<'_>, dtype: DType, shape: Shape) -> Result<Tensor, Bad> {
    let dims = shape.dims();
    let data = match dtype {
        DType::Bool => Buffer::from_vec(elements(reader, dims, &shape, boolean)?),
        DType::Uint8 => whole::<u8>(reader, &shape)?,
        DType::Uint16 => whole::<u16>(reader, &shape)?,
        DType::Uint32 => whole::<u32>(reader, &shape)?,
        DType::Uint64 => whole::<u64>(reader, &shape)?,
        DType::Int8 => whole::<i8>(reader, &shape)?,
        DType::Int16 => whole::<i16>(reader, &shape)?,
        DType::Int32 => whole::<i32>(reader, &shape)?,
        DType::Int64 => whole::<i64>(reader, &shape)?,
        DType::Fp32 => Buffer::from_vec(elements(reader, dims, &shape, fp32)?),
        DType::Fp64 => Buffer::from_vec(elements(reader, dims, &shape, fp64)?),
        DType::Bytes => Buffer::from_vec(elements(reader, dims, &shape, string)?),
        DType::Fp16 | DType::Bf16 => return Err(no_json_form(dtype)),
    };
    Tensor::new(dtype, shape, data).map_err(|error| Bad::new(error.to_string()))
}

/// What is said to whoever wants FP16 or BF16 as JSON.
pub(crate) fn no_json_form(dtype: DType) -> Bad {
    Bad::new(format!("{dtype} has no JSON form; use the binary tensor data extension"))
}

/// Walks the array and calls `element` at each element.
fn elements<T>(
    reader: &mut Reader<'_>,
    dims: &[usize],
    shape: &Shape,
    element: impl Fn(&mut Reader<'_>, &mut Vec<T>) -> Result<(), Bad>,
) -> Result<Vec<T>, Bad> {
    // An element takes two bytes of text at least, so a shape alone reserves nothing.
    let room = shape.elements().min(reader.remaining() / 2 + 1);
    let mut walk =
        Walk { out: Vec::with_capacity(room), count: 0, wanted: shape.elements(), element };
    reader.open(b'[')?;
    if reader.peek() == Some(b'[') && dims.len() > 1 {
        walk.nested(reader, dims)?;
    } else {
        walk.flat(reader)?;
    }
    if walk.count != walk.wanted {
        return Err(count_error(shape, walk.count));
    }
    Ok(walk.out)
}

struct Walk<T, F> {
    out: Vec<T>,
    count: usize,
    wanted: usize,
    element: F,
}

impl<T, F: Fn(&mut Reader<'_>, &mut Vec<T>) -> Result<(), Bad>> Walk<T, F> {
    /// The elements of an array that has been stepped into.
    #[inline]
    fn flat(&mut self, reader: &mut Reader<'_>) -> Result<(), Bad> {
        let mut first = true;
        while reader.item(&mut first)? {
            if self.count == self.wanted {
                return Err(Bad::new(format!(
                    "more than the {} elements of its shape",
                    self.wanted
                )));
            }
            (self.element)(reader, &mut self.out).map_err(|bad| bad.at_index(self.count))?;
            self.count += 1;
        }
        Ok(())
    }

    /// The same for an array of arrays; `dims` are the sizes from this array inwards.
    fn nested(&mut self, reader: &mut Reader<'_>, dims: &[usize]) -> Result<(), Bad> {
        let [size, inner @ ..] = dims else { return Ok(()) };
        let (mut first, mut items) = (true, 0);
        if inner.is_empty() {
            let before = self.count;
            self.flat(reader)?;
            items = self.count - before;
        } else {
            while reader.item(&mut first)? {
                reader.open(b'[')?;
                self.nested(reader, inner)?;
                items += 1;
            }
        }
        if items != *size {
            return Err(Bad::new(format!(
                "nested otherwise than its shape: wanted {size} items, got {items}"
            )));
        }
        Ok(())
    }
}

#[cold]
fn count_error(shape: &Shape, got: usize) -> Bad {
    Bad::new(format!("shape {shape} takes {} elements, got {got}", shape.elements()))
}

fn whole<T: Element + TryFrom<i128>>(
    reader: &mut Reader<'_>,
    shape: &Shape,
) -> Result<Buffer, Bad> {
    let integer = |reader: &mut Reader<'_>, out: &mut Vec<T>| {
        let value = match reader.number()? {
            Number::Digits(digits) if digits.whole && digits.exact => {
                let value = i128::from(digits.mantissa);
                T::try_from(if digits.negative { -value } else { value }).ok()
            }
            _ => None,
        };
        match value {
            Some(value) => out.push(value),
            None => return Err(Bad::new(format!("not a whole number that fits {}", T::DTYPE))),
        }
        Ok(())
    };
    Ok(Buffer::from_vec(elements(reader, shape.dims(), shape, integer)?))
}

fn boolean(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let value = match reader.peek() {
        Some(b'0'..=b'9') => match reader.number()? {
            Number::Digits(Digits { mantissa: bit @ 0..=1, whole: true, exact: true, .. }) => {
                bit == 1
            }
            _ => return Err(Bad::new("not true, false, 0 or 1")),
        },
        _ => reader.boolean()?,
    };
    out.push(u8::from(value));
    Ok(())
}

/// An element of a BYTES tensor, framed as in memory.
fn string(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Bad> {
    let text: Cow<'_, str> = reader.string()?;
    let len = u32::try_from(text.len()).map_err(|_| Bad::new("longer than 4 GiB"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn fp64(reader: &mut Reader<'_>, out: &mut Vec<f64>) -> Result<(), Bad> {
    out.push(match reader.number()? {
        Number::Digits(digits) => finite(to_f64(&digits), DType::Fp64)?,
        Number::NaN => f64::NAN,
        Number::Infinite { negative } => {
            if negative {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }
        }
    });
    Ok(())
}

#[inline]
fn fp32(reader: &mut Reader<'_>, out: &mut Vec<f32>) -> Result<(), Bad> {
    out.push(match reader.number()? {
        Number::Digits(digits) => {
            let value = to_f32(&digits);
            if !value.is_finite() {
                finite(f64::INFINITY, DType::Fp32)?;
            }
            value
        }
        Number::NaN => f32::NAN,
        Number::Infinite { negative } => {
            if negative {
                f32::NEG_INFINITY
            } else {
                f32::INFINITY
            }
        }
    });
    Ok(())
}

fn finite(value: f64, dtype: DType) -> Result<f64, Bad> {
    if value.is_finite() { Ok(value) } else { Err(Bad::new(format!("too large for {dtype}"))) }
}

/// Powers of ten that f64 holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The nearest f64; infinite when there is none.
#[inline]
fn to_f64(digits: &Digits<'_>) -> f64 {
    if digits.exact
        && digits.mantissa <= 1 << 53
        && digits.exponent.unsigned_abs() < TENS.len() as u64
    {
        // Both operands are exact, so that one operation rounds once: correctly.
        let ten = TENS[digits.exponent.unsigned_abs() as usize];
        let value = digits.mantissa as f64;
        let value = if digits.exponent < 0 { value / ten } else { value * ten };
        return if digits.negative { -value } else { value };
    }
    parsed(digits).unwrap_or(f64::INFINITY)
}

/// The nearest f32; infinite when there is none.
#[inline]
fn to_f32(digits: &Digits<'_>) -> f32 {
    /// What an f64 has beyond an f32's mantissa, and the value there that lies half-way between two f32.
    const REST: u64 = (1 << 29) - 1;
    const HALF: u64 = 1 << 28;
    let value = to_f64(digits);
    // Rounding twice is the same as once, except where the first rounding lands half-way between two f32, or below
    // the normal ones, where an f32 has fewer bits.
    let twice_is_once =
        value.to_bits() & REST != HALF && value.abs() >= f64::from(f32::MIN_POSITIVE);
    if twice_is_once || value == 0.0 && digits.mantissa == 0 {
        return value as f32;
    }
    parsed(digits).unwrap_or(f32::INFINITY)
}

#[cold]
fn parsed<T: std::str::FromStr>(digits: &Digits<'_>) -> Option<T> {
    std::str::from_utf8(digits.text).ok()?.parse().ok()
}

/// Appends the elements to `out` as a flat JSON array.
///
/// # Errors
/// FP16 and BF16, which have no JSON form, and BYTES that are not UTF-8.
pub(crate) fn encode(tensor: &Tensor, out: &mut Vec<u8>) -> Result<(), Bad> {
    let bad = |error: innkeeper_tensor::TensorError| Bad::new(error.to_string());
    macro_rules! numbers {
        ($type:ty, $print:ident) => {
            array(out, tensor.elements::<$type>().map_err(bad)?.iter(), |out, value| {
                $print(out, *value);
                Ok(())
            })
        };
    }
    match tensor.dtype() {
        DType::Bool => array(out, tensor.as_bytes().iter(), |out, &value| {
            out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
            Ok(())
        }),
        DType::Uint8 => numbers!(u8, print_integer),
        DType::Uint16 => numbers!(u16, print_integer),
        DType::Uint32 => numbers!(u32, print_integer),
        DType::Uint64 => numbers!(u64, print_integer),
        DType::Int8 => numbers!(i8, print_integer),
        DType::Int16 => numbers!(i16, print_integer),
        DType::Int32 => numbers!(i32, print_integer),
        DType::Int64 => numbers!(i64, print_integer),
        DType::Fp32 => numbers!(f32, print_f32),
        DType::Fp64 => numbers!(f64, print_f64),
        DType::Bytes => {
            let mut index = 0;
            array(out, tensor.strings().map_err(bad)?, |out, value| {
                let text = std::str::from_utf8(value).map_err(|_| {
                    Bad::new("not UTF-8; ask for this output with binary_data").at_index(index)
                })?;
                print_string(out, text);
                index += 1;
                Ok(())
            })
        }
        dtype @ (DType::Fp16 | DType::Bf16) => Err(no_json_form(dtype)),
    }
}

#[inline]
fn array<T>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = T>,
    mut print: impl FnMut(&mut Vec<u8>, T) -> Result<(), Bad>,
) -> Result<(), Bad> {
    out.push(b'[');
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        print(out, value)?;
    }
    out.push(b']');
    Ok(())
}

/// Appends a whole number.
pub(crate) fn print_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn print_f32(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        print_special(out, f64::from(value));
    }
}

fn print_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        print_special(out, value);
    }
}

/// The tokens of Triton and of Python's `json`.
#[cold]
fn print_special(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(match value {
        value if value.is_nan() => b"NaN",
        value if value > 0.0 => b"Infinity",
        _ => b"-Infinity",
    });
}

/// Appends a JSON string.
pub(crate) fn print_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, &byte) in text.as_bytes().iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
