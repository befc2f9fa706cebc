//! Tensors written as a file.

use std::borrow::Cow;
use std::collections::HashMap;

use innkeeper_tensor::{DType, Named};
use safetensors::tensor::{Dtype, View};

/// Why tensors cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A tensor of text, for which the format has no dtype.
    #[error("tensor {name:?} is BYTES, which a safetensors file cannot hold")]
    Text {
        /// Which.
        name: String,
    },
    /// Two tensors of one name.
    #[error("there are two tensors {name:?}")]
    Twice {
        /// Which.
        name: String,
    },
    /// The writer's own fault.
    #[error("a safetensors file was not written: {0}")]
    Failed(String),
}

struct Written<'a>(&'a Named, Dtype);

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        self.1
    }

    fn shape(&self) -> &[usize] {
        self.0.tensor.shape().dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.tensor.as_bytes().into()
    }

    fn data_len(&self) -> usize {
        self.0.tensor.as_bytes().len()
    }
}

/// A safetensors file of these tensors. The same tensors and metadata always give the same bytes.
///
/// # Errors
/// See [`WriteError`].
pub fn to_bytes(tensors: &[Named], metadata: &[(&str, &str)]) -> Result<Vec<u8>, WriteError> {
    let mut names = std::collections::BTreeSet::new();
    let mut views = Vec::with_capacity(tensors.len());
    for named in tensors {
        let name = &named.name;
        if !names.insert(name.as_str()) {
            return Err(WriteError::Twice { name: name.clone() });
        }
        let dtype =
            dtype(named.tensor.dtype()).ok_or_else(|| WriteError::Text { name: name.clone() })?;
        views.push((name.as_str(), Written(named, dtype)));
    }
    // More than one key would come in an order that is another each time.
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let metadata = (!metadata.is_empty()).then_some(metadata);
    safetensors::serialize(views, metadata).map_err(|error| WriteError::Failed(error.to_string()))
}

/// As the format calls it, which has no text.
pub(crate) fn dtype(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::Bool => Dtype::BOOL,
        DType::Uint8 => Dtype::U8,
        DType::Uint16 => Dtype::U16,
        DType::Uint32 => Dtype::U32,
        DType::Uint64 => Dtype::U64,
        DType::Int8 => Dtype::I8,
        DType::Int16 => Dtype::I16,
        DType::Int32 => Dtype::I32,
        DType::Int64 => Dtype::I64,
        DType::Fp16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::Fp32 => Dtype::F32,
        DType::Fp64 => Dtype::F64,
        DType::Bytes => return None,
    })
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::{Buffer, Tensor};

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let named = |name: &str, tensor: Tensor| Named { name: name.into(), tensor };
        let tensors = [
            named("b", Tensor::from_vec(&[2, 2], vec![1f32, 2.0, 3.0, f32::NAN]).unwrap()),
            named("a", Tensor::from_vec(&[], vec![-7i64]).unwrap()),
            named("empty", Tensor::from_vec(&[0, 3], Vec::<u8>::new()).unwrap()),
            named("flags", Tensor::from_bools(&[3], &[true, false, true]).unwrap()),
        ];
        let bytes = to_bytes(&tensors, &[("progress", "{}")]).unwrap();
        assert_eq!(bytes, to_bytes(&tensors, &[("progress", "{}")]).unwrap());
        let read = crate::safetensors::tensors(&Buffer::from_vec(bytes)).unwrap();
        assert_eq!(read.len(), tensors.len());
        for Named { name, tensor } in &tensors {
            assert_eq!(read[name].as_bytes(), tensor.as_bytes(), "{name}");
            assert_eq!(read[name].shape(), tensor.shape(), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let text = Named { name: "t".into(), tensor: Tensor::from_strings(&[1], &["x"]).unwrap() };
        assert_eq!(to_bytes(&[text], &[]), Err(WriteError::Text { name: "t".into() }));
        let one = Named { name: "x".into(), tensor: Tensor::from_vec(&[], vec![1u8]).unwrap() };
        assert_eq!(to_bytes(&[one.clone(), one], &[]), Err(WriteError::Twice { name: "x".into() }));
    }
}
