//! The assets that a test gives.

use std::collections::BTreeMap;

use innkeeper_formats::safetensors;
use innkeeper_tensor::{Buffer, Tensor};
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
        Ok(self.tensors(name)?.into_keys().collect())
    }

    pub(crate) fn open_tensor(&self, name: &str, tensor: &str) -> Result<Handle> {
        self.tensors(name)?
            .remove(tensor)
            .map(|found| Handle(found.constant()))
            .ok_or_else(|| Error::not_found(format!("asset {name:?} has no tensor {tensor:?}")))
    }

    fn bytes(&self, name: &str) -> Result<&[u8]> {
        self.0.get(name).map(Vec::as_slice).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            Error::not_found(format!("no asset {name:?}; there are: {}", known.join(", ")))
        })
    }

    fn tensors(&self, name: &str) -> Result<BTreeMap<String, Tensor>> {
        safetensors::tensors(&Buffer::aligned_copy(self.bytes(name)?)).map_err(|error| {
            Error::invalid_argument(format!("the asset {name:?} cannot be used: {error}"))
        })
    }
}
