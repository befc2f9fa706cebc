//! `innkeeper build`: a plugin's folder becomes a bundle.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use innkeeper_deploy::bundle::{Packed, PluginToml, pack};

use super::args::Build;
use super::output;
use crate::guest::{self, BuildOptions, Built};

pub(super) fn run(args: &Build) -> Result<()> {
    let (plugin, built) = compile(&args.dir)?;
    let out = match &args.out {
        Some(path) => path.clone(),
        None => args.dir.join(format!("{}.bundle", plugin.name)),
    };
    let packed = write(&args.dir, &plugin, &built.component, &out)?;
    output::line(&format!("{} ({}, {})", out.display(), output::size(packed.bytes), packed.digest));
    Ok(())
}

/// Builds the plugin in `dir`. One that has an ONNX file among its assets and no code is served as it is.
pub(super) fn compile(dir: &Path) -> Result<(PluginToml, Built)> {
    if let Some(built) = without_code(dir)? {
        return Ok(built);
    }
    let spinner = output::spinner(&format!("building {}", dir.display()));
    let built = guest::build(dir, &BuildOptions::from_env());
    spinner.finish_and_clear();
    let built = built?;
    let text = fs::read_to_string(&built.manifest)
        .with_context(|| format!("cannot read {}", built.manifest.display()))?;
    Ok((PluginToml::parse(&text)?, built))
}

fn without_code(dir: &Path) -> Result<Option<(PluginToml, Built)>> {
    let manifest = dir.join(guest::MANIFEST_FILE);
    if dir.join("Cargo.toml").exists() || !manifest.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let plugin = PluginToml::parse(&text)?;
    if !plugin.assets.iter().any(|asset| asset.name.ends_with(guest::onnx::SUFFIX)) {
        return Ok(None);
    }
    Ok(Some((plugin, Built { component: guest::onnx::component()?, manifest })))
}

/// Writes the bundle beside its place and moves it there, so that a half one is never found.
pub(super) fn write(
    dir: &Path,
    plugin: &PluginToml,
    component: &[u8],
    out: &Path,
) -> Result<Packed> {
    let doing = || format!("cannot write {}", out.display());
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let partial = tempfile::Builder::new().permissions(readable()).tempfile_in(folder);
    let mut partial = partial.with_context(doing)?;
    let mut file = BufWriter::new(partial.as_file_mut());
    let packed = pack(dir, plugin, component, &mut file)?;
    file.flush().with_context(doing)?;
    drop(file);
    partial.persist(out).with_context(doing)?;
    Ok(packed)
}

/// A bundle is no secret, as other temporary files are.
pub(super) fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o644)
}
