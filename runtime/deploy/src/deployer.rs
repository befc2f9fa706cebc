//! The journey of a version.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use innkeeper_catalog::{
    AliasName, Catalog, CatalogError, ModelKey, ModelName, NewVersion, PublishLimits, Published,
    TenantName, VersionName, VersionRecord,
};
use innkeeper_predict::{Limits, Predictor};
use innkeeper_sandbox::{Assets, Compiler, ComponentLimits, Engine, Program, inspect};
use innkeeper_tensor::Signature;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::artefacts::Artefacts;
use crate::bundle::{Bundle, BundleLimits, Device, Manifest};
use crate::endpoint::check_fits;
use crate::facts::Facts;
use crate::shared::Shared;
use crate::stock::{Owner, Stock, blocking};
use crate::turns::{Slot, Slots, Turn, Turns};
use crate::warm_up::warm_up;
use crate::{Compatibility, DeployError};

/// How versions are deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployConfig {
    /// A folder for compiled code and the key that seals it. What is lost from it is made again.
    pub dir: PathBuf,
    /// What a component may be made of.
    pub component: ComponentLimits,
    /// Compilers that may run at once, each in a process of its own.
    pub compiles_max: usize,
    /// Versions that one tenant may be publishing at once.
    pub publishes_max: usize,
    /// Bytes of compiled code that are kept; the oldest goes when there is more.
    pub artefact_bytes_max: u64,
}

impl DeployConfig {
    /// The defaults, with compiled code kept in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> DeployConfig {
        DeployConfig {
            dir: dir.into(),
            component: ComponentLimits::default(),
            compiles_max: 2,
            publishes_max: 16,
            artefact_bytes_max: 16 << 30,
        }
    }
}

/// Deploys versions and changes what is deployed. A clone is the same.
#[derive(Clone)]
pub struct Deployer(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    component: ComponentLimits,
    predictor: Predictor,
    stock: Arc<Stock>,
    publishing: Turns<(ModelKey, VersionName)>,
    publishers: Slots<TenantName>,
    /// One first run for each tenant: together they may hold no more than its limits say.
    trying: Turns<TenantName>,
    changing: Turns<ModelKey>,
}

/// What is to be deployed.
#[derive(Clone, Debug)]
pub enum Source {
    /// A bundle, see [`bundle`](crate::bundle).
    Bundle(Bytes),
    /// A component, with the assets that go with it by name.
    Component(Bytes, Vec<(String, Bytes)>),
}

/// A version to deploy.
#[derive(Clone, Debug)]
pub struct DeployRequest {
    /// Who publishes it, and owns it from then on.
    pub tenant: TenantName,
    /// The model.
    pub model: ModelName,
    /// The version's name.
    pub version: VersionName,
    /// Aliases that will stand for it.
    pub aliases: Vec<AliasName>,
    /// Whether it may break those who call by these aliases.
    pub compatibility: Compatibility,
    /// Its bytes.
    pub source: Source,
}

/// A version that is served.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// What the catalog holds of it.
    pub record: VersionRecord,
    /// What it takes and gives.
    pub signature: Signature,
    /// Whether it is new.
    pub outcome: Published,
}

impl Deployer {
    /// Opens the folder of compiled code, and makes this host's key at the first start. Nothing is served before
    /// [`Deployer::restore`].
    ///
    /// To be called inside a tokio runtime that has IO; versions are brought up on it.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(
        config: DeployConfig,
        catalog: Catalog,
        predictor: Predictor,
        engine: Engine,
        compiler: Compiler,
    ) -> io::Result<Deployer> {
        let fingerprint = engine.fingerprint();
        let artefacts = Artefacts::open(&config.dir, &fingerprint, config.artefact_bytes_max)?;
        let stock = Arc::new(Stock {
            catalog,
            engine,
            compiler,
            runtime: Handle::try_current().map_err(io::Error::other)?,
            artefacts: Arc::new(artefacts),
            compiles: Semaphore::new(config.compiles_max.max(1)),
            compiling: Turns::new(),
            programs: Shared::new(),
            blobs: Shared::new(),
            tensors: Shared::new(),
            networks: Shared::new(),
            memory: Shared::new(),
        });
        let deployer = Deployer(Arc::new(Inner {
            component: config.component,
            predictor,
            stock,
            publishing: Turns::new(),
            publishers: Slots::new(config.publishes_max),
            trying: Turns::new(),
            changing: Turns::new(),
        }));
        deployer.guard();
        Ok(deployer)
    }

    /// The way of a version, from bytes to a served endpoint. What is published already is not looked at again: the
    /// same bytes only set the aliases, other bytes are refused.
    ///
    /// # Errors
    /// See [`DeployError`]. Whatever happens, and whenever the process dies, the version is there whole or not at all.
    pub async fn deploy(&self, request: DeployRequest) -> Result<Deployed, DeployError> {
        let DeployRequest { tenant, model, version, aliases, compatibility, source } = request;
        let _slot = self.slot(&tenant)?;
        let limits = self.predictor().limits(&tenant);
        let key = ModelKey::new(tenant, model);

        let bundle = self.unpack(&key, source, &limits).await?;
        self.require_device(bundle.manifest.device)?;
        let _turn = self.turn(&key, &version).await;
        let facts = match self.published(&key, &version, &bundle).await? {
            Some(facts) => facts,
            None => {
                self.require_assets(&key, &bundle).await?;
                self.validate(&bundle).await?;
                let program = self.compile(&key, &bundle).await?;
                let assets = self.assets(&key, &bundle).await?;
                let signature = self.warm_up(&key, program, assets, &bundle, &limits).await?;
                check_fits(&bundle.manifest, &signature)?;
                Facts::new(&signature).to_text()
            }
        };
        let signature = Facts::signature(&facts).map_err(DeployError::Host)?;

        self.store(&key, &bundle, &limits).await?;
        let new = new_version(&key, version, aliases, &bundle, facts, &limits)?;
        let (record, outcome) =
            self.publish_and_install(new, compatibility, signature.clone()).await?;
        Ok(Deployed { record, signature, outcome })
    }

    /// One of the publisher's slots: a bundle is large, and each holds one in memory.
    fn slot(&self, tenant: &TenantName) -> Result<Slot, DeployError> {
        let limit = self.0.publishers.max();
        let busy = || DeployError::Busy { tenant: tenant.clone(), limit };
        self.0.publishers.take(tenant.clone()).ok_or_else(busy)
    }

    async fn unpack(
        &self,
        key: &ModelKey,
        source: Source,
        limits: &Limits,
    ) -> Result<Bundle, DeployError> {
        let limits = BundleLimits {
            component_bytes_max: self.0.component.component_bytes_max as u64,
            asset_bytes_max: limits.upload_bytes_max,
        };
        let name = key.name.clone();
        let bundle = blocking(move || match source {
            Source::Bundle(bytes) => Bundle::read(&bytes, &limits),
            Source::Component(bytes, assets) => Bundle::bare(name.as_str(), bytes, assets, &limits),
        });
        Ok(bundle.await??)
    }

    /// Two publishers of one version come one after the other, so that the second finds what the first did.
    async fn turn(&self, key: &ModelKey, version: &VersionName) -> Turn {
        self.0.publishing.take((key.clone(), version.clone())).await
    }

    /// The facts of the version if it is published with these bytes already.
    /// A published version's bundle, the very bytes that were published; its parts are mapped, not read.
    ///
    /// # Errors
    /// [`DeployError::Catalog`]: a blob is gone, or was changed.
    pub async fn bundle(&self, record: &VersionRecord) -> Result<Bundle, DeployError> {
        let catalog = &self.stock().catalog;
        let manifest_bytes = Bytes::from(record.manifest.clone());
        let manifest = Manifest::parse(&manifest_bytes)?;
        let component = catalog.blob(&manifest.component.digest).await?;
        let mut assets = Vec::with_capacity(manifest.assets.len());
        for asset in &manifest.assets {
            assets.push(Some(catalog.blob(&asset.digest).await?));
        }
        Ok(Bundle { manifest, manifest_bytes, component, assets })
    }

    async fn published(
        &self,
        key: &ModelKey,
        version: &VersionName,
        bundle: &Bundle,
    ) -> Result<Option<String>, DeployError> {
        let record = match self.stock().catalog.version(key, version).await {
            Ok(record) => record,
            Err(CatalogError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (published, got) = (record.digest, bundle.digest());
        if published != got {
            let (model, version) = (key.clone(), version.clone());
            return Err(DeployError::Conflict { model, version, published, got });
        }
        Ok(Some(record.facts))
    }

    /// A model is served on what it asks for, or not at all.
    pub(crate) fn require_device(&self, wanted: Device) -> Result<(), DeployError> {
        match wanted {
            Device::Auto | Device::Cpu => Ok(()),
            Device::Cuda(_) => Err(DeployError::Device { wanted, have: "cpu" }),
        }
    }

    /// Assets that did not come along must be the tenant's own: another's must not be had by naming their digest.
    async fn require_assets(&self, key: &ModelKey, bundle: &Bundle) -> Result<(), DeployError> {
        for (asset, inline) in bundle.manifest.assets.iter().zip(&bundle.assets) {
            if inline.is_some() {
                continue;
            }
            let (name, digest, wanted) = (asset.name.clone(), asset.digest, asset.size);
            match self.stock().catalog.has_blob(&key.owner, &digest).await? {
                None => return Err(DeployError::AssetMissing { name, digest }),
                Some(got) if got != wanted => {
                    return Err(DeployError::AssetSize { name, wanted, got });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn validate(&self, bundle: &Bundle) -> Result<(), DeployError> {
        let (component, limits) = (bundle.component.clone(), self.0.component.clone());
        Ok(blocking(move || inspect(&component, &limits)).await??)
    }

    pub(crate) async fn compile(
        &self,
        key: &ModelKey,
        bundle: &Bundle,
    ) -> Result<Arc<Program>, DeployError> {
        let component = bundle.component.clone();
        let digest = bundle.manifest.component.digest;
        self.stock().program(&key.owner, digest, async { Ok(component) }).await
    }

    pub(crate) async fn assets(
        &self,
        key: &ModelKey,
        bundle: &Bundle,
    ) -> Result<Arc<Assets>, DeployError> {
        let owner = self.owner(&key.owner);
        loop {
            let assets = self.stock().assets(&owner, &bundle.manifest.assets, &bundle.assets).await;
            // The tenant's own versions that nobody uses now make room.
            match assets {
                Err(DeployError::AssetMemory { .. }) if self.predictor().make_room(&key.owner) => {}
                assets => return assets,
            }
        }
    }

    /// Whom the files of a version count against.
    pub(crate) fn owner(&self, tenant: &TenantName) -> Owner {
        Owner { tenant: tenant.clone(), memory: self.predictor().asset_memory(tenant) }
    }

    pub(crate) async fn warm_up(
        &self,
        key: &ModelKey,
        program: Arc<Program>,
        assets: Arc<Assets>,
        bundle: &Bundle,
        limits: &Limits,
    ) -> Result<Signature, DeployError> {
        let _turn = self.0.trying.take(key.owner.clone()).await;
        let share = self.predictor().share(&key.owner);
        warm_up(program, assets, limits.lowered(&bundle.manifest.limits), &share).await
    }

    /// Makes every part durable. A part that is stored already is not written again, or is mended.
    pub(crate) async fn store(
        &self,
        key: &ModelKey,
        bundle: &Bundle,
        limits: &Limits,
    ) -> Result<(), DeployError> {
        let assets = bundle.assets.iter().flatten();
        for blob in std::iter::once(&bundle.component).chain(assets) {
            let (blob, max) = (blob.clone(), limits.stored_bytes_max);
            self.stock().catalog.put_blob(&key.owner, blob, max).await?;
        }
        Ok(())
    }

    /// The version becomes durable and then visible, both even if the publisher goes away in between.
    async fn publish_and_install(
        &self,
        new: NewVersion,
        compatibility: Compatibility,
        signature: Signature,
    ) -> Result<(VersionRecord, Published), DeployError> {
        let key = new.model.clone();
        self.change(&key, move |catalog, key| async move {
            match catalog.model(&key).await {
                Ok(model) => {
                    compatibility.require_new(&model, &new.aliases, &new.version, &signature)?;
                }
                Err(CatalogError::NotFound { .. }) => {}
                Err(error) => return Err(DeployError::from(error)),
            }
            let outcome = catalog.publish(&new).await?;
            Ok((catalog.version(&key, &new.version).await?, outcome))
        })
        .await
    }

    pub(crate) fn stock(&self) -> &Arc<Stock> {
        &self.0.stock
    }

    pub(crate) fn predictor(&self) -> &Predictor {
        &self.0.predictor
    }

    pub(crate) fn changing(&self) -> &Turns<ModelKey> {
        &self.0.changing
    }
}

pub(crate) fn new_version(
    key: &ModelKey,
    version: VersionName,
    aliases: Vec<AliasName>,
    bundle: &Bundle,
    facts: String,
    limits: &Limits,
) -> Result<NewVersion, DeployError> {
    let manifest = String::from_utf8(bundle.manifest_bytes.to_vec())
        .map_err(|_| DeployError::Host("a manifest was read that is not UTF-8".into()))?;
    let mut blobs = vec![bundle.manifest.component.digest];
    for asset in &bundle.manifest.assets {
        if !blobs.contains(&asset.digest) {
            blobs.push(asset.digest);
        }
    }
    let limits = PublishLimits {
        versions_max: limits.versions_max,
        models_max: limits.models_max,
        stored_bytes_max: limits.stored_bytes_max,
    };
    let (model, digest) = (key.clone(), bundle.digest());
    Ok(NewVersion { model, version, digest, manifest, facts, blobs, aliases, limits })
}
