//! Programs and assets, brought up from the disk when they are wanted and shared while they are used.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use innkeeper_catalog::{Catalog, Digest, TenantName};
use innkeeper_formats::safetensors;
use innkeeper_predict::{LoadError, Loaded, Loader};
use innkeeper_sandbox::{
    Asset, AssetMemory, Assets, ByteBudget, Compiler, Engine, Network, OpenError, OverBudget,
    Program,
};
use innkeeper_tensor::{Buffer, Tensor};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::DeployError;
use crate::artefacts::Artefacts;
use crate::bundle::{AssetRef, Manifest};
use crate::shared::Shared;
use crate::turns::Turns;

/// What the names of ONNX files end in.
pub(crate) const ONNX_SUFFIX: &str = ".onnx";
/// A network that takes longer to be read and brought into order is refused.
const NETWORK_LOAD_MAX: Duration = Duration::from_secs(120);

/// Brings up programs and assets.
pub(crate) struct Stock {
    pub(crate) catalog: Catalog,
    pub(crate) engine: Engine,
    pub(crate) compiler: Compiler,
    /// Where versions are brought up: the threads of guests, which may ask for it, cannot start processes.
    pub(crate) runtime: Handle,
    pub(crate) artefacts: Arc<Artefacts>,
    /// How many compilers may run at once.
    pub(crate) compiles: Semaphore,
    /// One compiler for each tenant, so that nobody's queue stands before another's.
    pub(crate) compiling: Turns<TenantName>,
    pub(crate) programs: Shared<Program>,
    pub(crate) blobs: Shared<Blob>,
    /// What blobs hold as files of tensors. One blob may stand under many names and in many versions.
    pub(crate) tensors: Shared<BTreeMap<String, Tensor>>,
    /// What blobs hold as ONNX files.
    pub(crate) networks: Shared<Network>,
    /// What each owner's files count: once for each file, whatever holds it.
    pub(crate) memory: Shared<AssetMemory, (TenantName, Digest)>,
}

/// Whom files count against.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) tenant: TenantName,
    pub(crate) memory: Arc<ByteBudget>,
}

/// A stored blob in memory. Everything made of it holds it, so that it is read once however many use it.
pub(crate) struct Blob(Bytes);

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Stock {
    /// The program of a component, whose bytes are fetched only when it must be compiled.
    pub(crate) async fn program(
        &self,
        tenant: &TenantName,
        digest: Digest,
        component: impl Future<Output = Result<Bytes, DeployError>>,
    ) -> Result<Arc<Program>, DeployError> {
        let make = async {
            if let Some(program) = self.kept(digest).await? {
                return Ok(program);
            }
            let component = component.await?;
            let code = self.compile(tenant, component).await?;
            let artefacts = Arc::clone(&self.artefacts);
            let sealed = blocking(move || artefacts.store(&digest, &code)).await?;
            self.open(digest, sealed).await?.map_err(open_error)
        };
        self.programs.get(digest, make).await
    }

    /// The program of compiled code that was kept. Code that somebody changed is not run but thrown away.
    async fn kept(&self, digest: Digest) -> Result<Option<Program>, DeployError> {
        let artefacts = Arc::clone(&self.artefacts);
        let Some(sealed) = blocking(move || artefacts.load(&digest)).await? else {
            return Ok(None);
        };
        match self.open(digest, sealed).await? {
            Ok(program) => Ok(Some(program)),
            Err(OpenError::Seal) => {
                tracing::warn!(component = %digest, "compiled code was changed on disk; compiling again");
                let artefacts = Arc::clone(&self.artefacts);
                blocking(move || artefacts.remove(&digest)).await?;
                Ok(None)
            }
            Err(error) => Err(open_error(error)),
        }
    }

    async fn open(
        &self,
        digest: Digest,
        sealed: Vec<u8>,
    ) -> Result<Result<Program, OpenError>, DeployError> {
        let (engine, artefacts) = (self.engine.clone(), Arc::clone(&self.artefacts));
        blocking(move || Program::open(&engine, artefacts.seal(), digest.as_bytes(), &sealed)).await
    }

    async fn compile(&self, tenant: &TenantName, component: Bytes) -> Result<Vec<u8>, DeployError> {
        let _turn = self.compiling.take(tenant.clone()).await;
        let _permit = self.compiles.acquire().await.expect("the semaphore is never closed");
        Ok(self.compiler.compile(&self.engine, component).await?)
    }

    /// A version's assets. `inline` holds the bytes of those that came along; the others are stored.
    pub(crate) async fn assets(
        &self,
        owner: &Owner,
        assets: &[AssetRef],
        inline: &[Option<Bytes>],
    ) -> Result<Arc<Assets>, DeployError> {
        let mut ready = Vec::with_capacity(assets.len());
        for (i, asset) in assets.iter().enumerate() {
            let bytes = inline.get(i).cloned().flatten();
            ready.push(self.asset(owner, asset, bytes).await?);
        }
        Ok(Arc::new(Assets::new(ready)))
    }

    async fn asset(
        &self,
        owner: &Owner,
        asset: &AssetRef,
        inline: Option<Bytes>,
    ) -> Result<Asset, DeployError> {
        let digest = asset.digest;
        let bytes = async {
            match inline {
                Some(bytes) => Ok(Blob(bytes)),
                None => Ok::<_, DeployError>(Blob(self.catalog.blob(&digest).await?)),
            }
        };
        let bytes = Buffer::shared(self.blobs.get(digest, bytes).await?);
        let name = asset.name.clone();
        let tensors = if name.ends_with(safetensors::SUFFIX) {
            let file = bytes.clone();
            let parsed = async {
                let parsed = blocking(move || safetensors::tensors(&file)).await?;
                let name = name.clone();
                parsed.map_err(|source| DeployError::Asset { name, source: Box::new(source) })
            };
            self.tensors.get(digest, parsed).await?
        } else {
            Arc::default()
        };
        let network = self.network(owner, asset, &bytes).await?;
        let memory = self.count(owner, asset, &tensors, network.as_deref()).await?;
        Ok(Asset { name, digest: digest.to_string(), bytes, tensors, network, memory })
    }

    /// The network in an ONNX file. What the host cannot run of it is found here, when it is published.
    async fn network(
        &self,
        owner: &Owner,
        asset: &AssetRef,
        bytes: &Buffer,
    ) -> Result<Option<Arc<Network>>, DeployError> {
        if !asset.name.ends_with(ONNX_SUFFIX) {
            return Ok(None);
        }
        let (name, bytes) = (asset.name.clone(), bytes.clone());
        let weight_bytes_max = owner.memory.max();
        let load = async {
            let load = move || {
                Network::load_before(&bytes, weight_bytes_max, Instant::now() + NETWORK_LOAD_MAX)
            };
            let loaded = blocking(load).await?;
            loaded.map_err(|source| DeployError::Network { name, source: Box::new(source) })
        };
        self.networks.get(asset.digest, load).await.map(Some)
    }

    async fn count(
        &self,
        owner: &Owner,
        asset: &AssetRef,
        tensors: &BTreeMap<String, Tensor>,
        network: Option<&Network>,
    ) -> Result<Arc<AssetMemory>, DeployError> {
        let key = (owner.tenant.clone(), asset.digest);
        let over = |over: OverBudget| {
            let (max, used) = (over.max, over.used);
            DeployError::AssetMemory { name: asset.name.clone(), bytes: asset.size, max, used }
        };
        let count = async { AssetMemory::new(&owner.memory, asset.size, tensors).map_err(over) };
        let memory = self.memory.get(key, count).await?;
        if let Some(network) = network {
            memory.count_network(network).map_err(over)?;
        }
        Ok(memory)
    }
}

fn open_error(error: OpenError) -> DeployError {
    match error {
        OpenError::World(_) => DeployError::World(error.to_string()),
        OpenError::Seal => DeployError::Host("code was compiled that does not open".into()),
    }
}

/// Runs what takes long without waiting on a thread that serves.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeployError> {
    let panicked = |_| DeployError::Host("a step panicked; the host's log says where".into());
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}

/// Brings one version up, from what the catalog holds.
#[derive(Clone)]
pub(crate) struct VersionLoader {
    pub(crate) stock: Arc<Stock>,
    pub(crate) owner: Owner,
    pub(crate) component: Digest,
    pub(crate) assets: Arc<[AssetRef]>,
}

impl VersionLoader {
    pub(crate) fn new(stock: Arc<Stock>, owner: Owner, manifest: &Manifest) -> VersionLoader {
        let (component, assets) = (manifest.component.digest, manifest.assets.as_slice().into());
        VersionLoader { stock, owner, component, assets }
    }

    async fn bring_up(&self) -> Result<Loaded, DeployError> {
        let stock = &self.stock;
        let component = async { Ok(stock.catalog.blob(&self.component).await?) };
        let program = stock.program(&self.owner.tenant, self.component, component).await?;
        let assets = stock.assets(&self.owner, &self.assets, &[]).await?;
        Ok(Loaded { program, assets })
    }
}

impl Loader for VersionLoader {
    fn load(&self) -> Pin<Box<dyn Future<Output = Result<Loaded, LoadError>> + Send + '_>> {
        let this = self.clone();
        // Once begun it goes on: the next request wants it too.
        let load = self.stock.runtime.spawn(async move { this.bring_up().await });
        Box::pin(async move {
            let panicked = |_| LoadError::Broken("the host panicked while loading it".into());
            load.await.map_err(panicked)?.map_err(|error| match error {
                DeployError::AssetMemory { .. } => LoadError::NoRoom(error.to_string()),
                error => LoadError::Broken(error.to_string()),
            })
        })
    }
}
