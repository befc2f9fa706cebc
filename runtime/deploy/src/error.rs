//! What can go wrong on the way of a version, and whose fault it is.

use std::fmt;

use innkeeper_catalog::{CatalogError, Digest, ModelKey, TenantName, VersionName};
use innkeeper_formats::safetensors::SafetensorsError;
use innkeeper_predict::Fault;
use innkeeper_sandbox::{CompileError, GuestError, NetworkError, Rejected};
use innkeeper_tensor::{Mismatch, SignatureError};

use crate::bundle::{BundleError, Device};
use crate::{Breaks, Difference};

/// Why a version is not served, or a change to a model was not made.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The bytes are no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The version exists with other bytes.
    #[error(
        "version {version} of model {model} is published as {published}, and this is {got}; a version never changes, choose another name"
    )]
    Conflict {
        /// The model.
        model: ModelKey,
        /// Its version.
        version: VersionName,
        /// What is published.
        published: Digest,
        /// What came.
        got: Digest,
    },
    /// The model asks for a device that this host does not have.
    #[error(
        "the model asks for the device {wanted}, and this host has {have}; ask for one of these, or for auto"
    )]
    Device {
        /// What the manifest says.
        wanted: Device,
        /// What there is.
        have: &'static str,
    },
    /// The component may not run here.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The component fits no world that the host offers.
    #[error("{0}")]
    World(String),
    /// An asset is neither in the bundle nor stored.
    #[error(
        "the asset {name:?} ({digest}) is neither in the bundle nor uploaded before; put it into the bundle, or upload it with /api/v1/uploads"
    )]
    AssetMissing {
        /// Which asset.
        name: String,
        /// What the manifest says its bytes hash to.
        digest: Digest,
    },
    /// An asset's stored bytes have another size than the manifest says.
    #[error(
        "the asset {name:?} has {got} bytes, the manifest says {wanted}; build the bundle again"
    )]
    AssetSize {
        /// Which asset.
        name: String,
        /// What the manifest says.
        wanted: u64,
        /// What is stored.
        got: u64,
    },
    /// An asset cannot be read as what its name says.
    #[error("the asset {name:?} cannot be used: {source}")]
    Asset {
        /// Which asset.
        name: String,
        /// What is wrong with it.
        source: Box<SafetensorsError>,
    },
    /// An ONNX file that this host cannot run.
    #[error("the asset {name:?} cannot be used: {source}")]
    Network {
        /// Which asset.
        name: String,
        /// What is wrong with it.
        source: Box<NetworkError>,
    },
    /// The owner's assets in memory leave no room for this one.
    #[error(
        "the asset {name:?} of {bytes} bytes does not fit under the limit asset_memory_bytes_max of {max}, of which {used} are in use"
    )]
    AssetMemory {
        /// Which asset.
        name: String,
        /// Its size.
        bytes: u64,
        /// The limit's value.
        max: u64,
        /// What is in use.
        used: u64,
    },
    /// There is no machine code.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The model did not come through its first steps.
    #[error("the model did not come through {stage}: {error}{log}")]
    Guest {
        /// Which step.
        stage: Stage,
        /// How it failed.
        error: GuestError,
        /// The last of what it logged, for the text.
        log: String,
    },
    /// The model says a signature that no model may have.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The model's first answer does not fit its own signature.
    #[error("the model does not keep to its signature: given inputs of zeros, {0}")]
    BadAnswer(Mismatch),
    /// Those who call by an alias could not go on calling as they do.
    #[error("{}", breaks(.0))]
    Breaks(Box<Breaks>),
    /// The tenant publishes too much at once.
    #[error("{limit} versions of tenant {tenant} are being published; retry when one is done")]
    Busy {
        /// Who.
        tenant: TenantName,
        /// How many may be at once.
        limit: usize,
    },
    /// The catalog said no, or failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The host's own fault.
    #[error("the host failed: {0}")]
    Host(String),
}

/// A step of a model's warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its `load`.
    Load,
    /// Its `describe`.
    Describe,
    /// Its first `predict`, on zeros.
    Predict,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Load => "load",
            Stage::Describe => "describe",
            Stage::Predict => "a first predict on zeros",
        })
    }
}

impl DeployError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            DeployError::Bundle(_)
            | DeployError::Conflict { .. }
            | DeployError::Breaks(_)
            | DeployError::Device { .. }
            | DeployError::Rejected(_)
            | DeployError::World(_)
            | DeployError::AssetMissing { .. }
            | DeployError::AssetSize { .. }
            | DeployError::Asset { .. }
            | DeployError::Network { .. } => Fault::Caller,
            DeployError::Signature(_) | DeployError::BadAnswer(_) => Fault::Plugin,
            DeployError::Guest { error, .. } => match error {
                GuestError::Busy => Fault::Load,
                GuestError::Host(_) => Fault::Host,
                GuestError::Cancelled => Fault::Caller,
                _ => Fault::Plugin,
            },
            DeployError::AssetMemory { .. } => Fault::Load,
            DeployError::Compile(CompileError::Host(_)) => Fault::Host,
            DeployError::Compile(_) => Fault::Plugin,
            DeployError::Busy { .. } => Fault::Load,
            DeployError::Catalog(error) => catalog_fault(error),
            DeployError::Host(_) => Fault::Host,
        }
    }
}

fn breaks(breaks: &Breaks) -> String {
    let Breaks { model, alias, from, to, differences } = breaks;
    let told: Vec<String> = differences
        .iter()
        .map(|Difference { kind, name, problem, .. }| format!("{kind} {name:?} {problem}"))
        .collect();
    format!(
        "version {to} of model {model} breaks those who call by the alias {alias}, which stands for {from}: {}; force it if they know",
        told.join(", ")
    )
}

fn catalog_fault(error: &CatalogError) -> Fault {
    match error {
        CatalogError::NotFound { .. }
        | CatalogError::Conflict { .. }
        | CatalogError::LimitExceeded { .. }
        | CatalogError::WrongOffset { .. }
        | CatalogError::WrongDigest { .. } => Fault::Caller,
        _ => Fault::Host,
    }
}
