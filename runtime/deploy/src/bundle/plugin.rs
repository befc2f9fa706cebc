//! `innkeeper.toml`: a plugin's own description, which a bundle is made from.

use innkeeper_predict::{Batching, Caching, Instances, Isolation, LimitOverrides, Sequencing};
use serde::Deserialize;

use super::error::short;
use super::manifest::{
    check_asset_name, check_batching, check_cache, check_description, check_instances,
    check_sequences,
};
use super::{ASSETS_MAX, Device, Manifest, PackError};

/// What a plugin's folder says about itself in `innkeeper.toml`.
///
/// ```
/// let text = r#"
///     name = "digits"
///     version = "1.0.0"
///     description = "Handwritten digits, 8x8 pixels"
///     isolation = "tenant"
///
///     [limits]
///     deadline_ms_max = 500
///
///     [batching]
///     preferred = [4, 8]
///     max = 32
///     delay_us = 500
///
///     [[assets]]
///     name = "weights.safetensors"
///     path = "assets/weights.safetensors"
/// "#;
/// let plugin = innkeeper_deploy::bundle::PluginToml::parse(text).unwrap();
/// assert_eq!(plugin.assets[0].path, "assets/weights.safetensors");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginToml {
    /// What to call the model.
    pub name: String,
    /// What to call this version.
    #[serde(default)]
    pub version: Option<String>,
    /// A sentence for people.
    #[serde(default)]
    pub description: String,
    /// How far one prediction is kept apart from the next.
    #[serde(default = "Manifest::default_isolation")]
    pub isolation: Isolation,
    /// What its tensor operations are computed on.
    #[serde(default)]
    pub device: Device,
    /// Limits that the model lowers for itself.
    #[serde(default)]
    pub limits: LimitOverrides,
    /// How its requests are put together, if they are.
    #[serde(default)]
    pub batching: Option<Batching>,
    /// Whether its answers are kept to be given again.
    #[serde(default)]
    pub cache: Option<Caching>,
    /// How it keeps sequences, if it does.
    #[serde(default)]
    pub sequences: Option<Sequencing>,
    /// How many instances it has.
    #[serde(default)]
    pub instances: Option<Instances>,
    /// The files that go with the code, in any order.
    #[serde(default)]
    pub assets: Vec<PluginAsset>,
}

/// A file that goes with the code.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginAsset {
    /// The name that the code knows it by.
    pub name: String,
    /// Where it lies, from the plugin's folder on.
    pub path: String,
}

impl PluginToml {
    /// A plugin of this name, of which nothing else is said.
    pub fn named(name: &str) -> PluginToml {
        PluginToml {
            name: name.to_owned(),
            version: None,
            description: String::new(),
            isolation: Manifest::default_isolation(),
            device: Device::Auto,
            limits: LimitOverrides::default(),
            batching: None,
            cache: None,
            sequences: None,
            instances: None,
            assets: Vec::new(),
        }
    }

    /// Reads the text of an `innkeeper.toml`.
    ///
    /// # Errors
    /// [`PackError::Toml`] with the line for what does not read and for unknown keys, [`PackError::Bundle`] for the
    /// description and for names and numbers of assets, [`PackError::AssetTwice`], [`PackError::AssetPath`].
    pub fn parse(text: &str) -> Result<PluginToml, PackError> {
        let plugin: PluginToml =
            toml::from_str(text).map_err(|error| PackError::Toml(error.to_string()))?;
        plugin.check()?;
        Ok(plugin)
    }

    /// Also what was made by hand must keep to the rules before it is packed.
    pub(super) fn check(&self) -> Result<(), PackError> {
        check_description(&self.description)?;
        check_batching(self.batching.as_ref(), self.isolation)?;
        check_sequences(self.sequences.as_ref(), self.isolation, self.batching.is_some())?;
        check_cache(self.cache.as_ref(), self.sequences.is_some())?;
        check_instances(self.instances.as_ref(), self.isolation, self.sequences.is_some())?;
        if self.assets.len() > ASSETS_MAX {
            return Err(super::BundleError::TooManyAssets { got: self.assets.len() }.into());
        }
        for (i, asset) in self.assets.iter().enumerate() {
            check_asset_name(&asset.name)?;
            if self.assets[..i].iter().any(|other| other.name == asset.name) {
                return Err(PackError::AssetTwice { name: asset.name.clone() });
            }
            if !stays_inside(&asset.path) {
                return Err(PackError::AssetPath { path: short(&asset.path) });
            }
        }
        Ok(())
    }
}

/// A plugin that somebody else wrote must not pick up files from around its folder when it is built.
fn stays_inside(path: &str) -> bool {
    use std::path::{Component, Path};
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    !path.is_empty() && Path::new(path).components().all(plain)
}
