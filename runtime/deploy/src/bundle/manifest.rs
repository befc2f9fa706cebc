//! The manifest: what a bundle holds and how the model wants to be run.

use innkeeper_catalog::Digest;
use innkeeper_predict::{Batching, Caching, Instances, Isolation, LimitOverrides, Sequencing};
use serde::{Deserialize, Serialize};

use super::error::short;
use super::{ASSETS_MAX, ASSETS_PREFIX, BundleError, DESCRIPTION_BYTES_MAX, Device, ustar};

/// The format of manifests that this host reads and writes.
pub const FORMAT: u64 = 1;

/// What a bundle holds, as `manifest.json` says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The manifest's format, [`FORMAT`].
    pub innkeeper: u64,
    /// What the author calls the model. It is published under the name that the publisher says.
    pub name: String,
    /// What the author calls this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The code.
    pub component: BlobRef,
    /// The files that the code reads, sorted by name.
    #[serde(default)]
    pub assets: Vec<AssetRef>,
    /// How far one prediction is kept apart from the next.
    #[serde(default = "Manifest::default_isolation")]
    pub isolation: Isolation,
    /// What its tensor operations are computed on.
    #[serde(default, skip_serializing_if = "Device::is_auto")]
    pub device: Device,
    /// Limits that this model lowers for itself.
    #[serde(default)]
    pub limits: LimitOverrides,
    /// How its requests are put together, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batching: Option<Batching>,
    /// Whether its answers are kept to be given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Caching>,
    /// How it keeps sequences, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequences: Option<Sequencing>,
    /// How many instances it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<Instances>,
    /// How it came about, where another version was trained or compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
}

/// How a version came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// What made it: "train" or "compress".
    pub kind: String,
    /// The digest of the version that it was made of.
    pub parent: Digest,
    /// Everything else, such as settings and what was reached, for people and programs. The host does not read it.
    #[serde(flatten)]
    pub facts: serde_json::Map<String, serde_json::Value>,
}

/// Bytes, named by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// What the bytes hash to.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
}

/// An asset, named by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetRef {
    /// The name that the code knows it by.
    pub name: String,
    /// What its bytes hash to.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
}

/// The one key that every format has.
#[derive(Deserialize)]
struct AnyFormat {
    innkeeper: u64,
}

impl Manifest {
    /// Reads a manifest and checks what it says about itself.
    ///
    /// # Errors
    /// [`BundleError::Manifest`], [`BundleError::Format`], [`BundleError::Description`], and the errors about assets' names and order.
    pub fn parse(text: &[u8]) -> Result<Manifest, BundleError> {
        let wrong = |error: serde_json::Error| BundleError::Manifest(error.to_string());
        // The format first: a later one will have keys that this one does not know.
        let AnyFormat { innkeeper: got } = serde_json::from_slice(text).map_err(wrong)?;
        if got != FORMAT {
            return Err(BundleError::Format { got });
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(wrong)?;
        if let Some(limit) = manifest.limits.not_a_models() {
            return Err(BundleError::Manifest(format!(
                "{limit} is a limit of the tenant, which a model cannot set"
            )));
        }
        check_description(&manifest.description)?;
        check_batching(manifest.batching.as_ref(), manifest.isolation)?;
        let is_batched = manifest.batching.is_some();
        check_sequences(manifest.sequences.as_ref(), manifest.isolation, is_batched)?;
        check_cache(manifest.cache.as_ref(), manifest.sequences.is_some())?;
        let keeps_sequences = manifest.sequences.is_some();
        check_instances(manifest.instances.as_ref(), manifest.isolation, keeps_sequences)?;
        manifest.check_assets()?;
        Ok(manifest)
    }

    /// The manifest's text; the same manifest always gives the same.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self)
            .expect("a manifest has no maps with odd keys and no numbers that JSON lacks");
        text.push(b'\n');
        text
    }

    /// The isolation of a model that says nothing.
    pub fn default_isolation() -> Isolation {
        Isolation::Tenant
    }

    fn check_assets(&self) -> Result<(), BundleError> {
        if self.assets.len() > ASSETS_MAX {
            return Err(BundleError::TooManyAssets { got: self.assets.len() });
        }
        for asset in &self.assets {
            check_asset_name(&asset.name)?;
        }
        for pair in self.assets.windows(2) {
            let problem = match pair[0].name.cmp(&pair[1].name) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => "twice",
                std::cmp::Ordering::Greater => "out of order",
            };
            return Err(BundleError::AssetOrder { name: pair[1].name.clone(), problem });
        }
        Ok(())
    }
}

/// Whether a model may have this description.
pub(super) fn check_description(text: &str) -> Result<(), BundleError> {
    match text.len() {
        0..=DESCRIPTION_BYTES_MAX => Ok(()),
        got => Err(BundleError::Description { got }),
    }
}

/// Whether a model that is isolated and batched like this may keep sequences like that.
pub(super) fn check_sequences(
    sequences: Option<&Sequencing>,
    isolation: Isolation,
    is_batched: bool,
) -> Result<(), BundleError> {
    let Some(sequences) = sequences else { return Ok(()) };
    sequences.check().map_err(BundleError::Manifest)?;
    let problem = match isolation {
        Isolation::Request => {
            "sequences keep an instance from one request to the next; isolation = \"request\" forbids that"
        }
        Isolation::Tenant if is_batched => {
            "requests of a sequence run alone, in an instance of its own; leave out either batching or sequences"
        }
        Isolation::Tenant => return Ok(()),
    };
    Err(BundleError::Manifest(problem.into()))
}

/// Whether the answers of a model that keeps sequences or none may be kept.
pub(super) fn check_cache(
    cache: Option<&Caching>,
    keeps_sequences: bool,
) -> Result<(), BundleError> {
    match cache {
        Some(Caching { enabled: true }) if keeps_sequences => Err(BundleError::Manifest(
            "the same request is answered anew in each sequence; leave out either cache or sequences".into(),
        )),
        _ => Ok(()),
    }
}

/// Whether a model that is isolated like this and keeps sequences or none may have instances like that.
pub(super) fn check_instances(
    instances: Option<&Instances>,
    isolation: Isolation,
    keeps_sequences: bool,
) -> Result<(), BundleError> {
    let Some(instances) = instances else { return Ok(()) };
    if keeps_sequences {
        let problem =
            "each sequence has an instance of its own; leave out either instances or sequences";
        return Err(BundleError::Manifest(problem.into()));
    }
    instances.check(isolation).map_err(BundleError::Manifest)
}

/// Whether a model that is isolated like this may be batched like that.
pub(super) fn check_batching(
    batching: Option<&Batching>,
    isolation: Isolation,
) -> Result<(), BundleError> {
    let Some(batching) = batching else { return Ok(()) };
    batching.check().map_err(|error| BundleError::Manifest(error.to_string()))?;
    match isolation {
        Isolation::Tenant => Ok(()),
        Isolation::Request => Err(BundleError::Manifest(
            "batching puts several requests into one instance; isolation = \"request\" forbids that"
                .into(),
        )),
    }
}

/// Whether an asset may have this name.
pub(super) fn check_asset_name(name: &str) -> Result<(), BundleError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = ASSETS_PREFIX.len() + name.len() <= ustar::NAME_BYTES_MAX;
    let begins = name.as_bytes().first().is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_');
    if fits && begins && name.bytes().all(good) {
        return Ok(());
    }
    Err(BundleError::AssetName { name: short(name) })
}
