//! Tensors in messages: as numbers of a type of their own, or as raw bytes.

use std::sync::Arc;

use bytes::Bytes;
use innkeeper_tensor::{Buffer, DType, Element, Named, Shape, Tensor};

use super::messages::inference::InferTensorContents;
use super::messages::inference::model_infer_request::InferInputTensor;
use crate::v2::{Bad, NOT_SERVED};

/// The inputs of a request, whose bytes lie in the message where it has them raw.
///
/// # Errors
/// Anything that is not as the protocol has it, with the field's path.
pub(crate) fn inputs(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> Result<Vec<Named>, Bad> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(Bad::new(format!(
            "{} for {} inputs; send one for each, in their order, or none",
            raw.len(),
            inputs.len()
        ))
        .at("raw_input_contents"));
    }
    let mut raw = raw.into_iter();
    let inputs = inputs.into_iter().enumerate();
    inputs
        .map(|(index, each)| {
            input(each, raw.next()).map_err(|bad| bad.at_index(index).at("inputs"))
        })
        .collect()
}

fn input(input: InferInputTensor, raw: Option<Bytes>) -> Result<Named, Bad> {
    if let Some(name) = input.parameters.keys().find(|name| *name != "content_type") {
        return Err(Bad::new(NOT_SERVED).at(name).at("parameters"));
    }
    let wrong = |error: &dyn std::fmt::Display, field| Bad::new(error.to_string()).at(field);
    let dtype: DType = input.datatype.parse().map_err(|error| wrong(&error, "datatype"))?;
    let shape = Shape::from_i64(&input.shape).map_err(|error| wrong(&error, "shape"))?;
    let tensor = match (raw, input.contents) {
        (Some(_), Some(_)) => {
            return Err(
                Bad::new("must be left out where raw_input_contents is used").at("contents")
            );
        }
        (Some(bytes), None) => Tensor::new(dtype, shape, Buffer::shared(Arc::new(bytes)))
            .map_err(|error| wrong(&error, "raw_input_contents"))?,
        (None, contents) => {
            typed(dtype, shape, contents.unwrap_or_default()).map_err(|bad| bad.at("contents"))?
        }
    };
    Ok(Named { name: input.name, tensor })
}

/// The field that has the elements of a dtype.
fn field(dtype: DType) -> Result<&'static str, Bad> {
    Ok(match dtype {
        DType::Bool => "bool_contents",
        DType::Int8 | DType::Int16 | DType::Int32 => "int_contents",
        DType::Int64 => "int64_contents",
        DType::Uint8 | DType::Uint16 | DType::Uint32 => "uint_contents",
        DType::Uint64 => "uint64_contents",
        DType::Fp32 => "fp32_contents",
        DType::Fp64 => "fp64_contents",
        DType::Bytes => "bytes_contents",
        DType::Fp16 | DType::Bf16 => {
            return Err(Bad::new(format!("{dtype} has no typed form; use raw_input_contents")));
        }
    })
}

fn typed(dtype: DType, shape: Shape, contents: InferTensorContents) -> Result<Tensor, Bad> {
    let wanted = field(dtype)?;
    for (name, len) in lengths(&contents) {
        if name != wanted && len > 0 {
            return Err(Bad::new(format!("{dtype} elements go into {wanted}")).at(name));
        }
        if name == wanted && len != shape.elements() {
            let text = format!("shape {shape} takes {} elements, got {len}", shape.elements());
            return Err(Bad::new(text).at(name));
        }
    }
    let data = match dtype {
        DType::Bool => Buffer::from_vec(contents.bool_contents.into_iter().map(u8::from).collect()),
        DType::Int8 => narrowed::<_, i8>(contents.int_contents, wanted)?,
        DType::Int16 => narrowed::<_, i16>(contents.int_contents, wanted)?,
        DType::Int32 => Buffer::from_vec(contents.int_contents),
        DType::Int64 => Buffer::from_vec(contents.int64_contents),
        DType::Uint8 => narrowed::<_, u8>(contents.uint_contents, wanted)?,
        DType::Uint16 => narrowed::<_, u16>(contents.uint_contents, wanted)?,
        DType::Uint32 => Buffer::from_vec(contents.uint_contents),
        DType::Uint64 => Buffer::from_vec(contents.uint64_contents),
        DType::Fp32 => Buffer::from_vec(contents.fp32_contents),
        DType::Fp64 => Buffer::from_vec(contents.fp64_contents),
        DType::Bytes | DType::Fp16 | DType::Bf16 => {
            return Tensor::from_strings(shape.dims(), &contents.bytes_contents)
                .map_err(|error| Bad::new(error.to_string()).at(wanted));
        }
    };
    Tensor::new(dtype, shape, data).map_err(|error| Bad::new(error.to_string()).at(wanted))
}

fn lengths(contents: &InferTensorContents) -> [(&'static str, usize); 8] {
    [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ]
}

/// Numbers of a smaller type, which the protocol carries in a larger one.
fn narrowed<Large, Small>(numbers: Vec<Large>, field: &str) -> Result<Buffer, Bad>
where
    Large: Copy + std::fmt::Display,
    Small: Element + TryFrom<Large>,
{
    let narrow = |(index, number): (usize, Large)| {
        Small::try_from(number).map_err(|_| {
            Bad::new(format!("{number} does not fit {}", Small::DTYPE)).at_index(index).at(field)
        })
    };
    let numbers: Result<Vec<Small>, Bad> = numbers.into_iter().enumerate().map(narrow).collect();
    Ok(Buffer::from_vec(numbers?))
}

/// Whether every one of these outputs has a typed form.
pub(crate) fn have_typed_form(outputs: &[Named]) -> bool {
    outputs.iter().all(|output| field(output.tensor.dtype()).is_ok())
}

/// The elements of an output that has a typed form.
pub(crate) fn contents(tensor: &Tensor) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match tensor.dtype() {
        DType::Bool => {
            contents.bool_contents = tensor.as_bytes().iter().map(|&byte| byte != 0).collect();
        }
        DType::Int8 => contents.int_contents = widened::<i8, _>(tensor),
        DType::Int16 => contents.int_contents = widened::<i16, _>(tensor),
        DType::Int32 => contents.int_contents = widened::<i32, _>(tensor),
        DType::Int64 => contents.int64_contents = widened::<i64, _>(tensor),
        DType::Uint8 => contents.uint_contents = widened::<u8, _>(tensor),
        DType::Uint16 => contents.uint_contents = widened::<u16, _>(tensor),
        DType::Uint32 => contents.uint_contents = widened::<u32, _>(tensor),
        DType::Uint64 => contents.uint64_contents = widened::<u64, _>(tensor),
        DType::Fp32 => contents.fp32_contents = widened::<f32, _>(tensor),
        DType::Fp64 => contents.fp64_contents = widened::<f64, _>(tensor),
        DType::Bytes => {
            let strings = tensor.strings().into_iter().flatten();
            contents.bytes_contents = strings.map(Bytes::copy_from_slice).collect();
        }
        // Whoever calls has asked `have_typed_form`.
        DType::Fp16 | DType::Bf16 => {}
    }
    contents
}

fn widened<Small: Element, Large: From<Small>>(tensor: &Tensor) -> Vec<Large> {
    // The dtype was looked at; there is nothing to go wrong.
    let elements = tensor.elements::<Small>().unwrap_or_default();
    elements.iter().map(|&element| Large::from(element)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(
        datatype: &str,
        shape: &[i64],
        contents: Option<InferTensorContents>,
    ) -> InferInputTensor {
        let (datatype, shape) = (datatype.to_owned(), shape.to_vec());
        InferInputTensor { name: "A".into(), datatype, shape, contents, ..Default::default() }
    }

    fn half(dtype: DType) -> Tensor {
        let one = Shape::new(&[1]).unwrap();
        Tensor::new(dtype, one, Buffer::from_vec(vec![0u8, 60])).unwrap()
    }

    #[test]
    fn every_dtype_comes_back() {
        let tensors = [
            Tensor::from_bools(&[2], &[true, false]).unwrap(),
            Tensor::from_vec(&[2], vec![i8::MIN, i8::MAX]).unwrap(),
            Tensor::from_vec(&[2], vec![i16::MIN, i16::MAX]).unwrap(),
            Tensor::from_vec(&[1, 2], vec![i32::MIN, i32::MAX]).unwrap(),
            Tensor::from_vec(&[2], vec![i64::MIN, i64::MAX]).unwrap(),
            Tensor::from_vec(&[2], vec![0, u8::MAX]).unwrap(),
            Tensor::from_vec(&[2], vec![0, u16::MAX]).unwrap(),
            Tensor::from_vec(&[2], vec![0, u32::MAX]).unwrap(),
            Tensor::from_vec(&[2], vec![0, u64::MAX]).unwrap(),
            Tensor::from_vec(&[2], vec![f32::NAN, -0.0]).unwrap(),
            Tensor::from_vec(&[0], Vec::<f64>::new()).unwrap(),
            Tensor::from_strings(&[2], &[&b"\xff"[..], b""]).unwrap(),
            half(DType::Fp16),
            half(DType::Bf16),
        ];
        for tensor in tensors {
            let shape: Vec<i64> = tensor.shape().dims().iter().map(|&dim| dim as i64).collect();
            let named = Named { name: "A".into(), tensor };
            let name = named.tensor.dtype().name();
            let raw = vec![Bytes::copy_from_slice(named.tensor.as_bytes())];
            let back = inputs(vec![one(name, &shape, None)], raw).unwrap();
            assert_eq!(back, std::slice::from_ref(&named), "{name}");
            if have_typed_form(std::slice::from_ref(&named)) {
                let contents = contents(&named.tensor);
                let back = inputs(vec![one(name, &shape, Some(contents))], vec![]).unwrap();
                assert_eq!(back, [named], "{name}");
            }
        }
    }

    #[test]
    fn raw_bytes_stay_where_they_are() {
        let raw = Bytes::from(vec![0; 64]);
        let back = inputs(vec![one("FP32", &[1, 16], None)], vec![raw.clone()]).unwrap();
        assert_eq!(back[0].tensor.as_bytes().as_ptr(), raw.as_ptr());
    }

    #[test]
    fn mistakes_are_named() {
        let ints = |numbers: &[i32]| {
            Some(InferTensorContents { int_contents: numbers.to_vec(), ..Default::default() })
        };
        let nothing = || Some(InferTensorContents::default());
        let four = || Bytes::from_static(&[0; 4]);
        let cases = [
            (
                one("INT8", &[1], ints(&[128])),
                vec![],
                "inputs[0].contents.int_contents[0]: 128 does not fit INT8",
            ),
            (
                one("INT32", &[2], ints(&[1])),
                vec![],
                "inputs[0].contents.int_contents: shape [2] takes 2 elements, got 1",
            ),
            (
                one("FP32", &[1], ints(&[1])),
                vec![],
                "inputs[0].contents.int_contents: FP32 elements go into fp32_contents",
            ),
            (
                one("FP32", &[1], None),
                vec![],
                "inputs[0].contents.fp32_contents: shape [1] takes 1 elements, got 0",
            ),
            (
                one("FP16", &[1], nothing()),
                vec![],
                "inputs[0].contents: FP16 has no typed form; use raw_input_contents",
            ),
            (
                one("BF16", &[1], None),
                vec![],
                "inputs[0].contents: BF16 has no typed form; use raw_input_contents",
            ),
            (
                one("FP32", &[1], nothing()),
                vec![four()],
                "inputs[0].contents: must be left out where raw_input_contents is used",
            ),
            (
                one("FP32", &[1], None),
                vec![four(), four()],
                "raw_input_contents: 2 for 1 inputs; send one for each, in their order, or none",
            ),
            (
                one("FP32", &[2], None),
                vec![four()],
                "inputs[0].raw_input_contents: a FP32 tensor of shape [2] takes 8 bytes, got 4",
            ),
            (
                one("BOOL", &[4], None),
                vec![Bytes::from_static(&[0, 1, 2, 0])],
                "inputs[0].raw_input_contents: BOOL element 2 is 2; it must be 0 or 1",
            ),
            (
                one("FP32", &[-1], None),
                vec![four()],
                "inputs[0].shape: dimension 0 is -1; sizes are not negative",
            ),
        ];
        for (input, raw, wanted) in cases {
            assert_eq!(inputs(vec![input], raw).unwrap_err().to_string(), wanted);
        }
        let unknown = inputs(vec![one("float", &[1], None)], vec![]).unwrap_err().to_string();
        assert!(unknown.starts_with("inputs[0].datatype: unknown datatype"), "{unknown}");
    }
}
