//! `innkeeper push`: publishes a bundle. What the server has already is not sent again.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use innkeeper_deploy::bundle::{Bundle, BundleLimits};
use serde_json::Value;
use ureq::http::Method;

use super::args::{Host, Push};
use super::client::{Client, segment};
use super::{build, output, upload};
use crate::failure::Failure;

/// An asset from this size on goes up by itself, in pieces.
const LARGE_BYTES: usize = 8 << 20;
/// The server has limits of its own, and says so.
const LIMITS: BundleLimits =
    BundleLimits { component_bytes_max: u64::MAX, asset_bytes_max: u64::MAX };

pub(super) fn run(host: &Host, args: &Push) -> Result<()> {
    bundle(host, read(&args.bundle)?, args)
}

/// Publishes a bundle that was read.
pub(super) fn bundle(host: &Host, mut bundle: Bundle, args: &Push) -> Result<()> {
    let client = Client::new(host)?;
    let model = args.model.clone().unwrap_or_else(|| bundle.manifest.name.clone());
    let Some(version) = args.version.clone().or_else(|| bundle.manifest.version.clone()) else {
        let text =
            "the bundle names no version; say one by --version, or in the plugin's innkeeper.toml";
        return Err(Failure::usage(text).into());
    };
    send_assets(&client, &mut bundle)?;
    let published = publish(&client, &model, &version, args, bundle.to_bytes())?;
    let already = if published["outcome"] == "unchanged" { " already" } else { "" };
    let alias = match &args.alias[..] {
        [] => String::new(),
        aliases => format!(" and stands behind {}", aliases.join(", ")),
    };
    output::line(&format!("{model}@{version} is served{already}{alias}"));
    output::line(&client.url(&format!("/v2/models/{}/infer", segment(&model))));
    Ok(())
}

/// The bundle in a file.
pub(super) fn read(path: &Path) -> Result<Bundle> {
    let doing = || format!("cannot read {}", path.display());
    let bytes = std::fs::read(path).with_context(doing)?;
    of_bytes(bytes)
        .with_context(|| format!("{} is no bundle; `innkeeper build` makes one", path.display()))
}

pub(super) fn of_bytes(bytes: Vec<u8>) -> Result<Bundle> {
    Ok(Bundle::read(&Bytes::from(bytes), &LIMITS)?)
}

/// Writes a bundle to a file, whole or not at all, and says so.
pub(super) fn write(bundle: &Bundle, out: &Path) -> Result<()> {
    let doing = || format!("cannot write {}", out.display());
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let bytes = bundle.to_bytes();
    let partial = tempfile::Builder::new().permissions(build::readable()).tempfile_in(folder);
    let mut partial = partial.with_context(doing)?;
    partial.write_all(&bytes).with_context(doing)?;
    partial.persist(out).with_context(doing)?;
    let size = output::size(bytes.len() as u64);
    output::line(&format!("{} ({size}, {})", out.display(), bundle.digest()));
    Ok(())
}

/// Leaves out of the bundle what the server has, and what is large, once that has gone up by itself.
fn send_assets(client: &Client, bundle: &mut Bundle) -> Result<()> {
    let mut large = Vec::new();
    for (asset, slot) in bundle.manifest.assets.iter().zip(&mut bundle.assets) {
        if upload::has(client, &asset.digest)? {
            *slot = None;
        } else if slot.as_ref().is_some_and(|bytes| bytes.len() >= LARGE_BYTES) {
            large.extend(slot.take().map(|bytes| (asset.digest, bytes)));
        }
    }
    // The same bytes under two names go up once.
    large.sort_by_key(|(digest, _)| *digest.as_bytes());
    large.dedup_by_key(|(digest, _)| *digest);
    if large.is_empty() {
        return Ok(());
    }
    let total = large.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let bar = output::bar("sending assets", total);
    for (digest, bytes) in &large {
        upload::send(client, digest, bytes, &bar)?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn publish(
    client: &Client,
    model: &str,
    version: &str,
    args: &Push,
    bundle: Vec<u8>,
) -> Result<Value> {
    let mut path = format!("/api/v1/models/{}/versions/{}", segment(model), segment(version));
    let mut query: Vec<String> =
        args.alias.iter().map(|alias| format!("alias={}", segment(alias))).collect();
    if args.force {
        query.push("force=true".into());
    }
    if !query.is_empty() {
        path += &format!("?{}", query.join("&"));
    }
    let doing = format!("publishing {model}@{version}, {}", output::size(bundle.len() as u64));
    let spinner = output::spinner(&doing);
    let answer =
        client.send(Method::POST, &path, &[("content-type", "application/x-tar")], &bundle[..]);
    spinner.finish_and_clear();
    answer?.success()?.json()
}
