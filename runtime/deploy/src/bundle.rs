//! A bundle: one file with a model's manifest, component and assets.
//!
//! It is a plain tar: `manifest.json` first, then `component.wasm`, then `assets/<name>` sorted by name. The manifest
//! names every part with its digest and size; an asset that the host already has may be left out of the tar. The same
//! parts always give the same bytes.

mod device;
mod error;
mod manifest;
mod pack;
mod plugin;
mod read;
mod ustar;

pub use device::{Device, DeviceError};
pub use error::BundleError;
pub use manifest::{AssetRef, BlobRef, FORMAT, Lineage, Manifest};
pub use pack::{PackError, Packed, pack, pack_to_vec};
pub use plugin::{PluginAsset, PluginToml};

use bytes::Bytes;
use innkeeper_catalog::Digest;

/// The name of the manifest's entry.
pub const MANIFEST_ENTRY: &str = "manifest.json";
/// The name of the component's entry.
pub const COMPONENT_ENTRY: &str = "component.wasm";
/// What the name of an asset's entry begins with.
pub const ASSETS_PREFIX: &str = "assets/";
/// The most assets that a bundle may have.
pub const ASSETS_MAX: usize = 1024;
/// The most bytes in a manifest.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// The most bytes in a description, which is always in memory.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;

/// What a bundle may hold, beside the fixed [`ASSETS_MAX`], [`MANIFEST_BYTES_MAX`] and
/// [`DESCRIPTION_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleLimits {
    /// Bytes of the component.
    pub component_bytes_max: u64,
    /// Bytes of one asset.
    pub asset_bytes_max: u64,
}

impl Default for BundleLimits {
    fn default() -> BundleLimits {
        BundleLimits { component_bytes_max: 64 << 20, asset_bytes_max: 2 << 30 }
    }
}

/// A bundle that was read and is known to hold together: every part that is in it has the digest and the size that the
/// manifest says. Its parts share the bytes that it was read from.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// What it holds.
    pub manifest: Manifest,
    /// The manifest's text, as it came. Its digest is the version's identity.
    pub manifest_bytes: Bytes,
    /// The component.
    pub component: Bytes,
    /// For each asset of the manifest, in order, its bytes; `None` when they were left out.
    pub assets: Vec<Option<Bytes>>,
}

impl Bundle {
    /// Reads a bundle without copying its parts. Hashes all of it: not for a thread that must not wait.
    ///
    /// # Errors
    /// Everything that is not a bundle as the module's text says, see [`BundleError`].
    pub fn read(bytes: &Bytes, limits: &BundleLimits) -> Result<Bundle, BundleError> {
        read::read(bytes, limits)
    }

    /// A bundle around a component and assets that came without a manifest, with the one that goes without saying.
    ///
    /// # Errors
    /// [`BundleError::TooLarge`], and the errors about the number and names of assets.
    pub fn bare(
        name: &str,
        component: Bytes,
        assets: Vec<(String, Bytes)>,
        limits: &BundleLimits,
    ) -> Result<Bundle, BundleError> {
        read::bare(name, component, assets, limits)
    }

    /// A bundle of a manifest that names these parts. Its component and assets are described anew; assets are put in the
    /// order of their names, and of two with one name the later stays.
    ///
    /// # Errors
    /// What [`Manifest::parse`] says of the manifest that comes out.
    pub fn of(
        mut manifest: Manifest,
        component: Bytes,
        assets: Vec<(String, Bytes)>,
    ) -> Result<Bundle, BundleError> {
        let assets: std::collections::BTreeMap<String, Bytes> = assets.into_iter().collect();
        manifest.component =
            BlobRef { digest: Digest::of(&component), size: component.len() as u64 };
        let describe = |(name, bytes): (&String, &Bytes)| AssetRef {
            name: name.clone(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        };
        manifest.assets = assets.iter().map(describe).collect();
        let manifest_bytes = Bytes::from(manifest.to_text());
        let manifest = Manifest::parse(&manifest_bytes)?;
        let assets = assets.into_values().map(Some).collect();
        Ok(Bundle { manifest, manifest_bytes, component, assets })
    }

    /// What identifies this bundle: the digest of its manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest_bytes)
    }

    /// The bundle's bytes; assets that are `None` are left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.chunks().concat()
    }

    /// The same bytes in pieces, the parts being those of this bundle and no copies.
    pub fn chunks(&self) -> Vec<Bytes> {
        let mut out = Vec::new();
        ustar::append(&mut out, MANIFEST_ENTRY, &self.manifest_bytes);
        ustar::append(&mut out, COMPONENT_ENTRY, &self.component);
        for (asset, bytes) in self.manifest.assets.iter().zip(&self.assets) {
            if let Some(bytes) = bytes {
                ustar::append(&mut out, &format!("{ASSETS_PREFIX}{}", asset.name), bytes);
            }
        }
        out.push(Bytes::from_static(&ustar::END));
        out
    }
}

#[cfg(test)]
mod tests;
