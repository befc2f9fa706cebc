//! The tensors that a file holds.

use innkeeper_tensor::{Buffer, DType, Shape, Tensor};

use crate::proto::TensorProto;

/// The dtype that stands for an `onnx.TensorProto.DataType`. What has 4 bits is held in 8.
pub(crate) fn dtype(data_type: i64) -> Result<DType, String> {
    Ok(match data_type {
        1 => DType::Fp32,
        2 | 21 => DType::Uint8,
        3 | 22 => DType::Int8,
        4 => DType::Uint16,
        5 => DType::Int16,
        6 => DType::Int32,
        7 => DType::Int64,
        8 => DType::Bytes,
        9 => DType::Bool,
        10 => DType::Fp16,
        11 => DType::Fp64,
        12 => DType::Uint32,
        13 => DType::Uint64,
        16 => DType::Bf16,
        0 => return Err("no element type is given".into()),
        14 | 15 => return Err("complex numbers are not supported".into()),
        17..=20 | 24 => return Err("8-bit floats are not supported".into()),
        23 => return Err("4-bit floats are not supported".into()),
        other => return Err(format!("element type {other} is none of ONNX's")),
    })
}

/// The tensor, with bytes of its own. Nothing is allocated before its size was held against the bytes in the file.
pub(crate) fn tensor(proto: &TensorProto<'_>) -> Result<Tensor, String> {
    let fail = |text: String| format!("tensor {:?}: {text}", short(proto.name));
    if proto.external {
        return Err(fail(
            "its data is in another file; save the model with everything in one file".into(),
        ));
    }
    let dtype = dtype(proto.data_type).map_err(fail)?;
    let shape = Shape::from_i64(&proto.dims).map_err(|error| fail(error.to_string()))?;
    let data = match (proto.raw, dtype) {
        (_, DType::Bytes) => return strings(proto, &shape).map_err(fail),
        (Some(raw), _) if matches!(proto.data_type, 21 | 22) => {
            Buffer::from_vec(nibbles(raw.bytes, &shape, proto.data_type == 22).map_err(fail)?)
        }
        (Some(raw), dtype) => {
            let wanted = shape.elements() * dtype.size().unwrap_or(1);
            if raw.bytes.len() != wanted {
                let got = raw.bytes.len();
                return Err(fail(format!(
                    "{dtype} {shape} takes {wanted} bytes, the file has {got}"
                )));
            }
            Buffer::aligned_copy(raw.bytes)
        }
        (None, _) => typed(proto, dtype, &shape).map_err(fail)?,
    };
    Tensor::new(dtype, shape, data).map_err(|error| fail(error.to_string()))
}

/// The elements where they are fields and not bytes.
fn typed(proto: &TensorProto<'_>, dtype: DType, shape: &Shape) -> Result<Buffer, String> {
    let count = |got: usize| {
        let wanted = shape.elements();
        if got == wanted {
            return Ok(());
        }
        Err(format!("{dtype} {shape} takes {wanted} elements, the file has {got}"))
    };
    if matches!(proto.data_type, 21 | 22) {
        let bytes: Vec<u8> = proto.ints.iter().map(|&pair| pair as u8).collect();
        return nibbles(&bytes, shape, proto.data_type == 22).map(Buffer::from_vec);
    }
    macro_rules! narrowed {
        ($T:ty) => {{
            count(proto.ints.len())?;
            Buffer::from_vec(proto.ints.iter().map(|&value| value as $T).collect::<Vec<$T>>())
        }};
    }
    Ok(match dtype {
        DType::Fp32 => {
            count(proto.floats.len())?;
            Buffer::from_vec(proto.floats.clone())
        }
        DType::Fp64 => {
            count(proto.doubles.len())?;
            Buffer::from_vec(proto.doubles.clone())
        }
        DType::Bool | DType::Uint8 => narrowed!(u8),
        DType::Int8 => narrowed!(i8),
        DType::Int16 => narrowed!(i16),
        // The 16-bit floats are their bits here.
        DType::Uint16 | DType::Fp16 | DType::Bf16 => narrowed!(u16),
        DType::Int32 => narrowed!(i32),
        DType::Uint32 => narrowed!(u32),
        DType::Int64 => narrowed!(i64),
        DType::Uint64 => narrowed!(u64),
        DType::Bytes => Buffer::from_vec(Vec::<u8>::new()),
    })
}

/// One byte for each half, the lower half first.
fn nibbles(bytes: &[u8], shape: &Shape, signed: bool) -> Result<Vec<u8>, String> {
    let (wanted, got) = (shape.elements(), bytes.len());
    if got != wanted.div_ceil(2) {
        let bytes = wanted.div_ceil(2);
        return Err(format!("4-bit {shape} takes {bytes} bytes, the file has {got}"));
    }
    let halves = bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).take(wanted);
    Ok(halves
        .map(|half| match signed {
            true => (((half << 4) as i8) >> 4) as u8,
            false => half,
        })
        .collect())
}

fn strings(proto: &TensorProto<'_>, shape: &Shape) -> Result<Tensor, String> {
    if proto.strings.len() != shape.elements() {
        let (wanted, got) = (shape.elements(), proto.strings.len());
        return Err(format!("strings of shape {shape} are {wanted}, the file has {got}"));
    }
    Tensor::from_strings(shape.dims(), &proto.strings).map_err(|error| error.to_string())
}

/// What of a name goes into an error's text.
pub(crate) fn short(name: &str) -> String {
    name.chars().take(128).collect()
}
