//! The elements of a tensor as JSON.

use innkeeper_tensor::{DType, Tensor};

use super::Bad;
use super::tokens::outside_strings;

/// What is said to whoever wants FP16 or BF16 as JSON.
pub(crate) fn no_json_form(dtype: DType) -> Bad {
    Bad::new(format!("{dtype} has no JSON form; use the binary tensor data extension"))
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

/// Rows without elements that are printed; nothing else bounds them.
const EMPTY_ROWS_MAX: usize = 1 << 16;

/// Appends the elements to `out` as JSON arrays that are nested as the shape says; a scalar stands alone.
///
/// # Errors
/// As [`encode`], and a shape of very many rows without elements.
pub(crate) fn encode_nested(tensor: &Tensor, out: &mut Vec<u8>) -> Result<(), Bad> {
    let mut flat = Vec::new();
    encode(tensor, &mut flat)?;
    let dims = tensor.shape().dims();
    let Some((_, outer)) = dims.split_last() else {
        out.extend_from_slice(&flat[1..flat.len() - 1]);
        return Ok(());
    };
    if tensor.shape().elements() == 0 {
        let mut rows = outer.iter().take_while(|&&dim| dim > 0);
        let rows = rows.try_fold(1usize, |rows, &dim| rows.checked_mul(dim));
        if rows.is_none_or(|rows| rows > EMPTY_ROWS_MAX) {
            return Err(Bad::new(format!("more than {EMPTY_ROWS_MAX} rows without elements")));
        }
        print_empty(out, dims);
        return Ok(());
    }
    // An array of each depth ends after so many elements.
    let spans: Vec<usize> = (0..dims.len()).map(|axis| dims[axis..].iter().product()).collect();
    let inner = String::from_utf8_lossy(&flat[1..flat.len() - 1]);
    let (mut count, mut copied) = (0, 0);
    let open = |out: &mut Vec<u8>, count: usize| {
        out.extend(spans.iter().filter(|&&span| count.is_multiple_of(span)).map(|_| b'['));
    };
    let close = |out: &mut Vec<u8>, count: usize| {
        out.extend(spans.iter().filter(|&&span| count.is_multiple_of(span)).map(|_| b']'));
    };
    open(out, 0);
    for (at, _) in outside_strings(&inner).filter(|(_, byte)| *byte == b',') {
        out.extend_from_slice(&inner.as_bytes()[copied..at]);
        (count, copied) = (count + 1, at + 1);
        close(out, count);
        out.push(b',');
        open(out, count);
    }
    out.extend_from_slice(&inner.as_bytes()[copied..]);
    close(out, count + 1);
    Ok(())
}

fn print_empty(out: &mut Vec<u8>, dims: &[usize]) {
    out.push(b'[');
    if let [dim, rest @ ..] = dims
        && !rest.is_empty()
    {
        for index in 0..*dim {
            if index > 0 {
                out.push(b',');
            }
            print_empty(out, rest);
        }
    }
    out.push(b']');
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
