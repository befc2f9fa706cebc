//! The imports `assets`, `request` and `log`.

use std::time::Instant;

use wasmtime::component::Resource;

use super::{HostError, HostTensor, Level, State};
use crate::assets::Asset;
use crate::bindings::innkeeper::model::types::Error;
use crate::bindings::innkeeper::model::{assets, log, request};

impl State {
    fn asset(&self, name: &str) -> Result<&Asset, HostError> {
        self.asset_for(name).map_err(HostError::not_found)
    }

    /// The asset of this name, or a text that says which there are.
    pub(super) fn asset_for(&self, name: &str) -> Result<&Asset, String> {
        self.assets.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.assets.iter().map(|asset| asset.name.as_str()).collect();
            format!(
                "there is no asset {name:?}; this version has {}",
                if known.is_empty() { "none".into() } else { known.join(", ") }
            )
        })
    }
}

impl assets::Host for State {
    fn list(&mut self) -> wasmtime::Result<Vec<assets::AssetInfo>> {
        let info = |asset: &Asset| assets::AssetInfo {
            name: asset.name.clone(),
            size: asset.bytes.len() as u64,
            digest: asset.digest.clone(),
        };
        Ok(self.assets.iter().map(info).collect())
    }

    fn read(&mut self, name: String, offset: u64, length: u64) -> Result<Vec<u8>, HostError> {
        let bytes = self.asset(&name)?.bytes.as_bytes();
        let start = usize::try_from(offset).ok().filter(|&start| start <= bytes.len());
        let Some(start) = start else {
            let len = bytes.len();
            return Err(HostError::invalid(format!(
                "offset {offset} is past the end of asset {name:?}, which has {len} bytes"
            )));
        };
        let rest = &bytes[start..];
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        if length as u64 > self.limits.guest_memory_bytes_max {
            let max = self.limits.guest_memory_bytes_max;
            return Err(HostError::Told(Error::ResourceExhausted(format!(
                "{length} bytes would pass the limit guest_memory_bytes_max of {max}; read less at once"
            ))));
        }
        Ok(rest[..length].to_vec())
    }

    fn tensor_names(&mut self, name: String) -> Result<Vec<String>, HostError> {
        Ok(self.asset(&name)?.tensors.keys().cloned().collect())
    }

    fn open_tensor(
        &mut self,
        name: String,
        tensor: String,
    ) -> Result<Resource<HostTensor>, HostError> {
        let asset = self.asset(&name)?;
        let Some(found) = asset.tensors.get(&tensor).cloned() else {
            return Err(HostError::not_found(format!(
                "there is no tensor {tensor:?} in asset {name:?}, which has {} tensors{}",
                asset.tensors.len(),
                if asset.tensors.is_empty() { "; only .safetensors files have any" } else { "" }
            )));
        };
        let derived = asset.memory.of(&tensor);
        self.push_weight(found, None, derived)
    }
}

impl request::Host for State {
    fn id(&mut self) -> wasmtime::Result<String> {
        Ok(self.current.id.clone())
    }

    fn parameter(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let found = self.current.parameters.iter().find(|(key, _)| *key == name);
        Ok(found.map(|(_, value)| value.clone()))
    }

    fn wants_output(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.current.outputs.is_empty() || self.current.outputs.contains(&name))
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        let left = self.current.deadline.saturating_duration_since(Instant::now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let bytes = message.len() as u64;
        if self.log_bytes.saturating_add(bytes) > self.limits.log_bytes_max {
            self.log_bytes_lost = self.log_bytes_lost.saturating_add(bytes);
            return Ok(());
        }
        self.log_bytes += bytes;
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log.write(level, self.request_id(), &message);
        Ok(())
    }
}
