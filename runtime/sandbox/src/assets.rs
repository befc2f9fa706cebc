//! A version's read-only files, as its guests see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use innkeeper_tensor::{Buffer, Tensor};

/// One read-only file.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Its name in the manifest.
    pub name: String,
    /// "sha256:" and 64 hexadecimal digits.
    pub digest: String,
    /// Its bytes.
    pub bytes: Buffer,
    /// The tensors in it, when it is a file of tensors: views of `bytes`. Files of the same bytes share them.
    pub tensors: Arc<BTreeMap<String, Tensor>>,
}

/// The files of one version, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Assets(BTreeMap<String, Asset>);

impl Assets {
    /// These files. Of two with one name the later stays.
    pub fn new(assets: impl IntoIterator<Item = Asset>) -> Assets {
        Assets(assets.into_iter().map(|asset| (asset.name.clone(), asset)).collect())
    }

    /// The file of this name.
    pub fn get(&self, name: &str) -> Option<&Asset> {
        self.0.get(name)
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Asset> {
        self.0.values()
    }

    /// Bytes of all of them.
    pub fn byte_length(&self) -> u64 {
        self.iter().map(|asset| asset.bytes.len() as u64).sum()
    }
}
