//! The assets that a test gives.

use std::collections::BTreeMap;

use innkeeper_tensor::{Buffer, DType, Shape, Tensor};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};

use super::Handle;
use crate::{AssetInfo, Error, Result};

/// Assets in memory, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assets(pub(crate) BTreeMap<String, Vec<u8>>);

impl Assets {
    pub(crate) fn list(&self) -> Vec<AssetInfo> {
        let info = |(name, bytes): (&String, &Vec<u8>)| AssetInfo {
            name: name.clone(),
            size: bytes.len() as u64,
            digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))),
        };
        self.0.iter().map(info).collect()
    }

    pub(crate) fn read(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        let bytes = self.bytes(name)?;
        let inside =
            |position: u64| bytes.len().min(usize::try_from(position).unwrap_or(usize::MAX));
        Ok(bytes[inside(offset)..inside(offset.saturating_add(length))].to_vec())
    }

    pub(crate) fn tensor_names(&self, name: &str) -> Result<Vec<String>> {
        let file = self.safetensors(name)?;
        let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) fn open_tensor(&self, name: &str, tensor: &str) -> Result<Handle> {
        let file = self.safetensors(name)?;
        let view = file.tensor(tensor).map_err(|error| match error {
            SafeTensorError::TensorNotFound(_) => {
                Error::not_found(format!("asset {name:?} has no tensor {tensor:?}"))
            }
            error => Error::invalid_argument(format!("asset {name:?}: {error}")),
        })?;
        let dtype = dtype(view.dtype()).ok_or_else(|| {
            Error::unsupported(format!("tensor {tensor:?} of asset {name:?} is {}", view.dtype()))
        })?;
        let data = Buffer::aligned_copy(view.data());
        Shape::new(view.shape())
            .map_err(Into::into)
            .and_then(|shape| Tensor::new(dtype, shape, data))
            .map(Handle)
            .map_err(|error| Error::invalid_argument(format!("tensor {tensor:?}: {error}")))
    }

    fn bytes(&self, name: &str) -> Result<&[u8]> {
        self.0.get(name).map(Vec::as_slice).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            Error::not_found(format!("no asset {name:?}; there are: {}", known.join(", ")))
        })
    }

    fn safetensors(&self, name: &str) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(self.bytes(name)?).map_err(|error| {
            Error::invalid_argument(format!("asset {name:?} is no safetensors file: {error}"))
        })
    }
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
