//! The assets that a test gives.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use innkeeper_formats::safetensors;
use innkeeper_tensor::{Buffer, Tensor};
use sha2::{Digest, Sha256};

use super::{Graph, Handle};
use crate::{AssetInfo, Error, Result};

/// Assets in memory, by name.
#[derive(Debug)]
pub(crate) struct Assets(BTreeMap<String, Asset>);

/// Bytes, and the tensors in them, which share them, once somebody asked for one.
#[derive(Debug)]
struct Asset {
    bytes: Buffer,
    tensors: OnceLock<BTreeMap<String, Tensor>>,
}

impl Assets {
    pub(crate) fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Assets {
        let asset = |bytes: Vec<u8>| Asset {
            bytes: Buffer::aligned_copy(&bytes),
            tensors: OnceLock::new(),
        };
        Assets(files.into_iter().map(|(name, bytes)| (name, asset(bytes))).collect())
    }

    pub(crate) fn list(&self) -> Vec<AssetInfo> {
        let info = |(name, asset): (&String, &Asset)| AssetInfo {
            name: name.clone(),
            size: asset.bytes.len() as u64,
            digest: format!("sha256:{}", hex::encode(Sha256::digest(asset.bytes.as_bytes()))),
        };
        self.0.iter().map(info).collect()
    }

    pub(crate) fn read(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        let bytes = self.asset(name)?.bytes.as_bytes();
        let inside =
            |position: u64| bytes.len().min(usize::try_from(position).unwrap_or(usize::MAX));
        Ok(bytes[inside(offset)..inside(offset.saturating_add(length))].to_vec())
    }

    pub(crate) fn tensor_names(&self, name: &str) -> Result<Vec<String>> {
        Ok(self.tensors(name)?.keys().cloned().collect())
    }

    pub(crate) fn open_tensor(&self, name: &str, tensor: &str) -> Result<Handle> {
        self.tensors(name)?
            .get(tensor)
            .map(|found| Handle(found.clone()))
            .ok_or_else(|| Error::not_found(format!("asset {name:?} has no tensor {tensor:?}")))
    }

    pub(crate) fn graph(&self, name: &str) -> Result<Graph> {
        let asset = self.asset(name)?;
        if !name.ends_with(".onnx") {
            return Err(Error::invalid_argument(format!(
                "the asset {name:?} is no graph: an ONNX file is one whose name ends in .onnx"
            )));
        }
        Graph::from_bytes(asset.bytes.as_bytes())
    }

    fn asset(&self, name: &str) -> Result<&Asset> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            Error::not_found(format!("no asset {name:?}; there are: {}", known.join(", ")))
        })
    }

    fn tensors(&self, name: &str) -> Result<&BTreeMap<String, Tensor>> {
        let asset = self.asset(name)?;
        if let Some(tensors) = asset.tensors.get() {
            return Ok(tensors);
        }
        let tensors = safetensors::tensors(&asset.bytes).map_err(|error| {
            Error::invalid_argument(format!("the asset {name:?} cannot be used: {error}"))
        })?;
        let constant = |(name, tensor): (String, Tensor)| (name, tensor.constant());
        Ok(asset.tensors.get_or_init(|| tensors.into_iter().map(constant).collect()))
    }
}
