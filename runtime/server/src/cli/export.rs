//! `innkeeper export`: a bundle's model as a file of other software.

use std::fs;

use anyhow::{Context, Result};
use innkeeper_deploy::bundle::Bundle;
use innkeeper_formats::keras::{self, CONFIG_ASSET, OPTIMIZER_ASSET, WEIGHTS_ASSET};
use innkeeper_formats::safetensors;

use super::args::{Export, ExportFormat, Host};
use super::output;
use super::pull::{self, Origin};
use crate::failure::{Code, Failure};
use crate::guest::onnx;

pub(super) fn run(host: &Host, args: &Export) -> Result<()> {
    let Origin { bundle, .. } = pull::origin(host, &args.source)?;
    let refused =
        |problem: String| Failure::new(Code::Failed, format!("{} has {problem}", args.source));
    let bytes = match args.to {
        ExportFormat::Onnx => by_suffix(&bundle, onnx::SUFFIX).map_err(refused)?,
        ExportFormat::Safetensors => match by_name(&bundle, WEIGHTS_ASSET) {
            Some(weights) => weights,
            None => by_suffix(&bundle, safetensors::SUFFIX).map_err(refused)?,
        },
        ExportFormat::Keras => {
            let parts = by_name(&bundle, CONFIG_ASSET).zip(by_name(&bundle, WEIGHTS_ASSET));
            let (config, weights) = parts.ok_or_else(|| {
                refused("no model of Keras's; `innkeeper import` makes bundles of those".into())
            })?;
            let optimizer = by_name(&bundle, OPTIMIZER_ASSET);
            keras::keras_of_assets(&config, weights, optimizer)
                .map_err(|error| refused(format!("no model that can be exported: {error}")))?
        }
    };
    let doing = || format!("cannot write {}", args.out.display());
    fs::write(&args.out, &bytes).with_context(doing)?;
    output::line(&format!("{} ({})", args.out.display(), output::size(bytes.len() as u64)));
    Ok(())
}

fn by_name(bundle: &Bundle, name: &str) -> Option<Vec<u8>> {
    let place = bundle.manifest.assets.iter().position(|asset| asset.name == name)?;
    Some(bundle.assets.get(place)?.as_ref()?.to_vec())
}

/// The one asset whose name ends so, or what there is instead.
fn by_suffix(bundle: &Bundle, suffix: &str) -> std::result::Result<Vec<u8>, String> {
    let names = bundle.manifest.assets.iter().map(|asset| &*asset.name);
    let found: Vec<&str> = names.filter(|name| name.ends_with(suffix)).collect();
    match found[..] {
        [name] => by_name(bundle, name).ok_or_else(|| format!("left {name} out")),
        [] => Err(format!("no asset whose name ends in {suffix}")),
        _ => Err(format!("several such assets: {}", found.join(", "))),
    }
}
