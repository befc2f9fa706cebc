//! A version's weights in fewer bytes.
//!
//! [`compress`] makes a new bundle of another: the component stays the same bytes, and each file of weights is written
//! anew as the [`Plan`] says. What it cost is in the [`Report`]. Nothing here touches a server.

mod code;
mod file;
mod gptq;
mod low_rank;
mod onnx;
mod plan;
mod prune;
mod report;

pub use gptq::Calibration;
pub use plan::{BadPlan, GROUPS, Plan, Prune, Target};
pub use report::{Report, TensorReport, Total};

use bytes::Bytes;
use innkeeper_catalog::Digest;
use innkeeper_formats::safetensors::{self, SafetensorsError};
use serde_json::Value;

use crate::bundle::{Bundle, BundleError, Lineage, Manifest};
use crate::stock::ONNX_SUFFIX;

/// What the lineage of a compressed version says that it is.
pub const KIND: &str = "compress";

/// Why nothing was compressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The bundle has no weights that can be compressed.
    #[error(
        "the bundle has no file of weights; wanted an asset whose name ends in .safetensors or .onnx"
    )]
    NoWeights,
    /// The plan leaves every tensor as it is.
    #[error("no tensor can be compressed so: {0}")]
    NothingDone(String),
    /// An asset is not in the bundle.
    #[error("the asset {name:?} is not in the bundle; build it whole")]
    Missing {
        /// Which asset.
        name: String,
    },
    /// An asset that cannot be read.
    #[error("the asset {name:?} cannot be used: {source}")]
    Asset {
        /// Which asset.
        name: String,
        /// What is wrong with it.
        source: Box<SafetensorsError>,
    },
    /// An ONNX file that cannot be rewritten.
    #[error("the asset {name:?} cannot be rewritten: {problem}")]
    Onnx {
        /// Which asset.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The new bundle is none.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The program's own fault.
    #[error("compressing failed: {0}")]
    Failed(String),
}

/// The bundle with its weights compressed, as version `version`, and what that cost. Products of ONNX files whose inputs
/// were seen, see [`observed`], are rounded to 4 bits with regard to them.
///
/// # Errors
/// See [`CompressError`]; weights that cannot be compressed are no error but stay, and the report says why.
pub fn compress(
    bundle: &Bundle,
    plan: &Plan,
    calibration: &Calibration,
    version: &str,
) -> Result<(Bundle, Report), CompressError> {
    let mut assets = bundle.assets.clone();
    let mut manifest = bundle.manifest.clone();
    let mut tensors = Vec::new();
    let mut files = 0;
    for (asset, bytes) in manifest.assets.iter_mut().zip(&mut assets) {
        let name = asset.name.clone();
        let is_onnx = name.ends_with(ONNX_SUFFIX);
        if !is_onnx && !name.ends_with(safetensors::SUFFIX) {
            continue;
        }
        let missing = || CompressError::Missing { name: name.clone() };
        let from = bytes.as_ref().ok_or_else(missing)?;
        files += 1;
        let (written, of_file) = match is_onnx {
            true => onnx::compress(&name, from, plan, calibration)?,
            false => file::compress(&name, from, plan)?,
        };
        tensors.extend(of_file);
        let written = Bytes::from(written);
        (asset.digest, asset.size) = (Digest::of(&written), written.len() as u64);
        *bytes = Some(written);
    }
    if files == 0 {
        return Err(CompressError::NoWeights);
    }
    let report = Report::new(plan, bundle, &manifest, tensors);
    if report.total.compressed == 0 {
        let first = report.tensors.iter().find_map(|tensor| {
            let why = tensor.note.as_ref().or(tensor.remark.as_ref())?;
            Some(format!("{:?}: {why}", tensor.name))
        });
        return Err(CompressError::NothingDone(first.unwrap_or("there is none".into())));
    }
    manifest.version = Some(version.to_owned());
    manifest.lineage = Some(lineage(bundle, &report)?);
    let manifest_bytes: Bytes = manifest.to_text().into();
    // What was written is held to what a manifest that was sent is held to.
    let manifest = Manifest::parse(&manifest_bytes)?;
    let component = bundle.component.clone();
    Ok((Bundle { manifest, manifest_bytes, component, assets }, report))
}

/// The bundle with ONNX files that answer, as more outputs, the inputs of their products too, and the names of these;
/// `None` where it has none. A [`Calibration`] is made of what it answers.
///
/// # Errors
/// An ONNX file that cannot be read, or that is not there.
pub fn observed(bundle: &Bundle) -> Result<Option<(Bundle, Vec<String>)>, CompressError> {
    let mut observed = bundle.clone();
    let mut names = Vec::new();
    for (asset, bytes) in observed.manifest.assets.iter_mut().zip(&mut observed.assets) {
        if !asset.name.ends_with(ONNX_SUFFIX) {
            continue;
        }
        let missing = || CompressError::Missing { name: asset.name.clone() };
        let from = bytes.as_ref().ok_or_else(missing)?;
        let (written, of_file) = onnx::observed(&asset.name, from)?;
        names.extend(of_file);
        let written = Bytes::from(written);
        (asset.digest, asset.size) = (Digest::of(&written), written.len() as u64);
        *bytes = Some(written);
    }
    observed.manifest_bytes = observed.manifest.to_text().into();
    Ok((!names.is_empty()).then_some((observed, names)))
}

/// The plan and the sums of the report; tensor by tensor it would be too long for a manifest.
fn lineage(bundle: &Bundle, report: &Report) -> Result<Lineage, CompressError> {
    let value = |value: Result<Value, serde_json::Error>| {
        value.map_err(|error| CompressError::Failed(error.to_string()))
    };
    let mut facts = serde_json::Map::new();
    facts.insert("plan".into(), value(serde_json::to_value(&report.plan))?);
    facts.insert("total".into(), value(serde_json::to_value(&report.total))?);
    Ok(Lineage { kind: KIND.into(), parent: bundle.digest(), facts })
}

#[cfg(test)]
mod tests;
