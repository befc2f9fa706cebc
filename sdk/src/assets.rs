//! The version's read-only files.

use crate::{Error, Graph, Result, Tensor, host};

/// How much of an asset is asked for at once, so that one large asset is not one large host call.
const READ_BYTES_MAX: u64 = 1 << 20;

/// The files that came with this version: weights, labels, tokenizers. [`Model::load`](crate::Model::load) is given
/// them.
///
/// ```
/// use innkeeper_sdk::{Assets, Result};
///
/// fn labels(assets: &Assets) -> Result<Vec<String>> {
///     let text = assets.read_to_string("labels.txt")?;
///     Ok(text.lines().map(str::to_owned).collect())
/// }
/// ```
#[derive(Debug)]
pub struct Assets(pub(crate) host::Assets);

/// One asset of this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetInfo {
    /// The name in the bundle's manifest.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// "sha256:" and 64 lower-case hexadecimal digits.
    pub digest: String,
}

/// The tensors in a safetensors asset. Their bytes stay in the host, once, whoever opens them.
#[derive(Debug)]
pub struct Weights<'a> {
    assets: &'a Assets,
    name: String,
}

impl Assets {
    /// What this version has, sorted by name.
    pub fn list(&self) -> Vec<AssetInfo> {
        self.0.list()
    }

    /// A whole asset, copied into the guest's memory.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let part = self.0.read(name, bytes.len() as u64, READ_BYTES_MAX)?;
            if part.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&part);
        }
    }

    /// `length` bytes of an asset from `offset` on; fewer at its end.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn read_at(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        Ok(self.0.read(name, offset, length)?)
    }

    /// A whole asset as text.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidArgument`] if it is not UTF-8.
    pub fn read_to_string(&self, name: &str) -> Result<String> {
        String::from_utf8(self.read(name)?)
            .map_err(|error| Error::invalid_argument(format!("asset {name:?} is no text: {error}")))
    }

    /// The network in an ONNX asset, which is loaded once for everyone who has it.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such asset. [`Error::InvalidArgument`]: its name does not end in `.onnx`. What the host
    /// cannot run of a file is found when the version is published.
    pub fn graph(&self, name: &str) -> Result<Graph> {
        Ok(Graph(self.0.graph(name)?))
    }

    /// The tensors in a safetensors asset. Nothing is opened yet.
    ///
    /// ```
    /// use innkeeper_sdk::{Assets, Result, Tensor};
    ///
    /// fn layer(assets: &Assets) -> Result<(Tensor, Tensor)> {
    ///     let weights = assets.weights("weights.safetensors");
    ///     Ok((weights.tensor("dense.weight")?, weights.tensor("dense.bias")?))
    /// }
    /// ```
    pub fn weights(&self, name: &str) -> Weights<'_> {
        Weights { assets: self, name: name.to_owned() }
    }
}

impl Weights<'_> {
    /// The names of the tensors, sorted.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such asset. [`Error::InvalidArgument`]: it is no safetensors file.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.assets.0.tensor_names(&self.name)?)
    }

    /// One of the tensors, with the dtype and the shape that the file says.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such asset, or no such tensor in it. [`Error::InvalidArgument`]: it is no safetensors
    /// file. [`Error::Unsupported`]: a dtype that tensors here do not have.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(Tensor(self.assets.0.open_tensor(&self.name, name)?))
    }
}
