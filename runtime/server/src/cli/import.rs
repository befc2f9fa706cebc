//! `innkeeper import`: an ONNX file becomes a bundle.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use innkeeper_catalog::ModelName;
use innkeeper_deploy::bundle::{PluginAsset, PluginToml};
use innkeeper_sandbox::Network;
use innkeeper_tensor::Buffer;

use super::args::Import;
use super::{build, output};
use crate::failure::{Code, Failure};
use crate::guest::onnx;

/// What the file is called in the bundle.
const ASSET: &str = "model.onnx";

pub(super) fn run(args: &Import) -> Result<()> {
    let file = &args.file;
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let network = Network::load(&Buffer::from_vec(bytes), u64::MAX).map_err(|error| {
        let text = format!("{} cannot be served: {error}", file.display());
        Failure::new(Code::Failed, text)
    })?;
    let name = name(args)?;
    let out = match &args.out {
        Some(path) => path.clone(),
        None => format!("{name}.bundle").into(),
    };
    let (folder, path) = place(file)?;
    let plugin = PluginToml {
        version: Some(args.version.clone()),
        description: args.description.clone(),
        assets: vec![PluginAsset { name: ASSET.into(), path }],
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
