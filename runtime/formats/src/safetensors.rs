//! Weights: a safetensors file as named tensors over its own bytes.

pub mod compressed;
mod write;

pub(crate) use write::dtype as written_dtype;
pub use write::{WriteError, to_bytes};

use std::collections::BTreeMap;

use innkeeper_tensor::{Buffer, DType, Shape, ShapeError, Tensor, TensorError};
use safetensors::tensor::{Dtype, SafeTensors, TensorInfo};

/// What the names of such files end in.
pub const SUFFIX: &str = ".safetensors";
/// The most bytes in a header, so that parsing it stays cheap.
pub const HEADER_BYTES_MAX: u64 = 8 << 20;
/// The most tensors in a file: each costs the host memory, however few bytes it has.
pub const TENSORS_MAX: usize = 65_536;

const LENGTH_BYTES: usize = 8;
const ALIGN: usize = 8;

/// Why a file is no safetensors file that this host can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SafetensorsError {
    /// The file is not in the format.
    #[error("it is not a safetensors file: {0}")]
    Malformed(String),
    /// The header is longer than may be.
    #[error("its header has {got} bytes, over the limit of {HEADER_BYTES_MAX}; split the file")]
    Header {
        /// What the file says.
        got: u64,
    },
    /// More tensors than may be.
    #[error("it has {got} tensors, over the limit of {TENSORS_MAX}; split the file")]
    TooMany {
        /// How many there are.
        got: usize,
    },
    /// A tensor of a dtype that the host does not have.
    #[error(
        "its tensor {name:?} is {dtype}; store it as BOOL, U8 to U64, I8 to I64, F16, BF16, F32 or F64"
    )]
    DType {
        /// Which tensor.
        name: String,
        /// What it is.
        dtype: String,
    },
    /// A tensor of a shape that the host does not have.
    #[error("its tensor {name:?}: {source}")]
    Shape {
        /// Which tensor.
        name: String,
        /// What is wrong.
        source: ShapeError,
    },
    /// What the file says of compressed tensors does not read.
    #[error("what it says of compressed tensors (the key {key:?} of its metadata) cannot be used: {0}", key = compressed::KEY)]
    Compression(String),
    /// A compressed tensor whose parts do not make one.
    #[error("its compressed tensor {name:?}: {problem}")]
    Compressed {
        /// Which tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor whose bytes are no elements of its dtype.
    #[error("its tensor {name:?}: {source}")]
    Elements {
        /// Which tensor.
        name: String,
        /// What is wrong.
        source: TensorError,
    },
}

/// What a file says of itself: the strings of its header's `__metadata__`.
///
/// # Errors
/// See [`SafetensorsError`].
pub fn metadata(file: &Buffer) -> Result<BTreeMap<String, String>, SafetensorsError> {
    check_header(file.as_bytes())?;
    let (_, metadata) = SafeTensors::read_metadata(file.as_bytes())
        .map_err(|error| SafetensorsError::Malformed(error.to_string()))?;
    Ok(metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// The tensors of a file, by name, as constants. They are views of `file`, so they cost no memory of their own; only where its data
/// lies so that elements would straddle their alignment is it copied, once. Tensors that the file keeps in parts, see
/// [`compressed`], are there under the names that they had, and their parts are not.
///
/// # Errors
/// See [`SafetensorsError`].
pub fn tensors(file: &Buffer) -> Result<BTreeMap<String, Tensor>, SafetensorsError> {
    check_header(file.as_bytes())?;
    let (header, metadata) = SafeTensors::read_metadata(file.as_bytes())
        .map_err(|error| SafetensorsError::Malformed(error.to_string()))?;
    let infos = metadata.tensors();
    if infos.len() > TENSORS_MAX {
        return Err(SafetensorsError::TooMany { got: infos.len() });
    }
    let data = aligned(file, LENGTH_BYTES + header)?;
    let parts = infos.into_iter().map(|(name, info)| tensor(&data, name, info));
    let mut tensors = parts.collect::<Result<_, _>>()?;
    if let Some(text) = metadata.metadata().as_ref().and_then(|said| said.get(compressed::KEY)) {
        compressed::open(text, &mut tensors)?;
    }
    Ok(tensors)
}

/// The length comes first, so that a huge header is refused before it is parsed.
fn check_header(bytes: &[u8]) -> Result<(), SafetensorsError> {
    match bytes.first_chunk::<LENGTH_BYTES>().map(|length| u64::from_le_bytes(*length)) {
        Some(got) if got > HEADER_BYTES_MAX && got < bytes.len() as u64 => {
            Err(SafetensorsError::Header { got })
        }
        _ => Ok(()),
    }
}

/// The data that follows the header, where it lies or as an aligned copy.
fn aligned(file: &Buffer, start: usize) -> Result<Buffer, SafetensorsError> {
    let data = file
        .slice(start..file.len())
        .ok_or_else(|| SafetensorsError::Malformed("its header runs past its end".into()))?;
    let at = data.as_bytes().as_ptr() as usize;
    Ok(if at.is_multiple_of(ALIGN) { data } else { Buffer::aligned_copy(data.as_bytes()) })
}

fn tensor(
    data: &Buffer,
    name: String,
    info: &TensorInfo,
) -> Result<(String, Tensor), SafetensorsError> {
    let short = || name.chars().take(64).collect::<String>();
    let Some(dtype) = dtype(info.dtype) else {
        return Err(SafetensorsError::DType { name: short(), dtype: info.dtype.to_string() });
    };
    let shape = Shape::new(&info.shape)
        .map_err(|source| SafetensorsError::Shape { name: short(), source })?;
    let (start, end) = info.data_offsets;
    let bytes = data
        .slice(start..end)
        .ok_or_else(|| SafetensorsError::Malformed(format!("{:?} runs past its end", short())))?;
    // Writers that do not sort by size of element leave some tensors askew however the data lies.
    let size = dtype.size().unwrap_or(1);
    let straight = (bytes.as_bytes().as_ptr() as usize).is_multiple_of(size);
    let bytes = if straight { bytes } else { Buffer::aligned_copy(bytes.as_bytes()) };
    let tensor = Tensor::new(dtype, shape, bytes)
        .map_err(|source| SafetensorsError::Elements { name: short(), source })?;
    Ok((name, tensor.constant()))
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::Uint8,
        Dtype::U16 => DType::Uint16,
        Dtype::U32 => DType::Uint32,
        Dtype::U64 => DType::Uint64,
        Dtype::I8 => DType::Int8,
        Dtype::I16 => DType::Int16,
        Dtype::I32 => DType::Int32,
        Dtype::I64 => DType::Int64,
        Dtype::F16 => DType::Fp16,
        Dtype::BF16 => DType::Bf16,
        Dtype::F32 => DType::Fp32,
        Dtype::F64 => DType::Fp64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
