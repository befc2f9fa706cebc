//! `innkeeper import`: an ONNX file, or a model of Keras, becomes a bundle.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use innkeeper_catalog::ModelName;
use innkeeper_deploy::bundle::{PluginAsset, PluginToml};
use innkeeper_formats::keras;
use innkeeper_sandbox::Network;
use innkeeper_tensor::Buffer;

use super::args::Import;
use super::{build, output};
use crate::failure::{Code, Failure};
use crate::guest::onnx;

pub(super) fn run(args: &Import) -> Result<()> {
    let file = &args.file;
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = name(args)?;
    let out = match &args.out {
        Some(path) => path.clone(),
        None => format!("{name}.bundle").into(),
    };
    let refused = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Failed, format!("{} cannot be served: {error}", file.display()))
    };
    // The assets of a Keras model lie here until they are packed.
    let scratch;
    let (folder, assets, network) = if is_keras(file) {
        let model = keras::read(&bytes).map_err(|error| refused(&error))?;
        let assets = model.to_assets().map_err(|error| refused(&error))?;
        scratch = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        for (name, bytes) in &assets {
            fs::write(scratch.path().join(name), bytes)
                .with_context(|| format!("cannot write {name}"))?;
        }
        let asset = |(name, _): &(&str, Vec<u8>)| PluginAsset {
            name: (*name).into(),
            path: (*name).into(),
        };
        (scratch.path(), assets.iter().map(asset).collect(), model.onnx)
    } else {
        let (folder, path) = place(file)?;
        (folder, vec![PluginAsset { name: keras::ONNX_ASSET.into(), path }], bytes)
    };
    let network = Network::load(&Buffer::from_vec(network), u64::MAX);
    let network = network.map_err(|error| refused(&error))?;
    let plugin = PluginToml {
        version: Some(args.version.clone()),
        description: args.description.clone(),
        assets,
        ..PluginToml::named(name.as_str())
    };
    let packed = build::write(folder, &plugin, &onnx::component()?, &out)?;
    for (kind, specs) in [("input", network.inputs()), ("output", network.outputs())] {
        for spec in specs {
            output::line(&format!("{kind} {} {spec}", output::one_line(&spec.name)));
        }
    }
    output::line(&format!("{} ({}, {})", out.display(), output::size(packed.bytes), packed.digest));
    Ok(())
}

/// Whether a file's name says that it is Keras's.
fn is_keras(file: &Path) -> bool {
    let suffix = file.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
    ["h5", "hdf5", "keras"].contains(&&*suffix.to_ascii_lowercase())
}

/// The model's name: what was said, else what the file is called, with a hyphen for what no name may have.
fn name(args: &Import) -> Result<ModelName> {
    let wrong = |name: &str, error: &dyn std::fmt::Display| {
        Failure::usage(format!("{name:?} is no name for a model: {error}; say one by --name"))
    };
    if let Some(name) = &args.name {
        return name.parse().map_err(|error| wrong(name, &error).into());
    }
    let stem = args.file.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    name.trim_matches('-').parse().map_err(|error| wrong(&stem, &error).into())
}

/// The folder of a file, and its name in it.
fn place(file: &Path) -> Result<(&Path, String)> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("the name of {} is no text", file.display()))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")), name.to_owned()))
}
