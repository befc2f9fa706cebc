//! A host in a temporary folder.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use innkeeper_catalog::{Catalog, Digest, ModelKey, Published, TenantName};
use innkeeper_predict::{
    Deployment, Endpoint, Isolation, LimitOverrides, Limits, Predictor, PredictorConfig, Request,
    Schedule,
};
use innkeeper_sandbox::{Compiler, Engine, EngineConfig};
use innkeeper_tensor::{Named, Tensor};
use tempfile::TempDir;

use crate::bundle::{AssetRef, BlobRef, Bundle, Device, Manifest};
use crate::{Compatibility, DeployConfig, DeployError, DeployRequest, Deployed, Deployer, Source};

pub(crate) struct Host {
    pub(crate) catalog: Catalog,
    pub(crate) predictor: Predictor,
    pub(crate) deployer: Deployer,
}

impl Host {
    /// A fresh host with the tenants `a` and `b`.
    pub(crate) async fn fresh() -> (TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(dir.path(), Compiler::in_process()).await;
        for tenant in ["a", "b"] {
            host.catalog.create_tenant(&name(tenant)).await.unwrap();
        }
        (dir, host)
    }

    /// A host as it starts on this folder.
    pub(crate) async fn open(dir: &Path, compiler: Compiler) -> Host {
        let max = PredictorConfig::default().asset_memory_total_bytes_max;
        Host::with(dir, compiler, max).await
    }

    /// The same, with so much memory for the assets of all tenants.
    pub(crate) async fn within(dir: &Path, asset_memory_total_bytes_max: u64) -> Host {
        Host::with(dir, Compiler::in_process(), asset_memory_total_bytes_max).await
    }

    async fn with(dir: &Path, compiler: Compiler, asset_memory_total_bytes_max: u64) -> Host {
        let config = DeployConfig { publishes_max: 4, ..DeployConfig::new(dir.join("artefacts")) };
        let catalog = Catalog::open(dir).await.unwrap();
        let limits = Limits { load_ms_max: 200, deadline_ms_max: 200, ..Limits::default() };
        let config_of_predictor =
            PredictorConfig { limits, asset_memory_total_bytes_max, ..PredictorConfig::default() };
        let predictor = Predictor::new(config_of_predictor, engine());
        let (c, p) = (catalog.clone(), predictor.clone());
        let deployer = Deployer::open(config, c, p, engine(), compiler).unwrap();
        let restored = deployer.restore().await.unwrap();
        assert!(restored.failed.is_empty(), "{restored:?}");
        Host { catalog, predictor, deployer }
    }

    /// Ends this host and starts one on the same folder.
    pub(crate) async fn restart(self, dir: &Path, compiler: Compiler) -> Host {
        let Host { catalog, deployer, predictor } = self;
        drop((deployer, predictor));
        catalog.close().await;
        drop(catalog);
        Host::open(dir, compiler).await
    }

    /// Publishes version `version` of `a/m`.
    pub(crate) async fn publish(
        &self,
        version: &str,
        aliases: &[&str],
        bundle: &Bundle,
    ) -> Result<Published, DeployError> {
        self.deploy(version, aliases, bundle).await.map(|deployed| deployed.outcome)
    }

    pub(crate) async fn deploy(
        &self,
        version: &str,
        aliases: &[&str],
        bundle: &Bundle,
    ) -> Result<Deployed, DeployError> {
        let request = DeployRequest {
            tenant: name("a"),
            model: name("m"),
            version: name(version),
            aliases: aliases.iter().map(|alias| name(alias)).collect(),
            compatibility: Compatibility::Required,
            source: Source::Bundle(bundle.to_bytes().into()),
        };
        self.deployer.deploy(request).await
    }

    pub(crate) fn endpoint(&self) -> Option<Arc<Endpoint>> {
        self.predictor.endpoint(&name("a"), "a", "m").ok()
    }

    pub(crate) fn resolve(&self, slot: Option<&str>) -> Arc<Deployment> {
        Arc::clone(self.endpoint().expect("the model is served").resolve(slot).unwrap())
    }

    /// What the model answers to [1, 2].
    pub(crate) async fn predict(&self, slot: Option<&str>) -> Result<Vec<f32>, String> {
        let input = Tensor::from_vec(&[1, 2], vec![1f32, 2.0]).unwrap();
        let request = Request {
            caller: name("a"),
            deployment: self.resolve(slot),
            via: None,
            id: String::new(),
            parameters: vec![],
            inputs: vec![Named { name: "INPUT0".into(), tensor: input }],
            outputs: vec![],
            schedule: Schedule::default(),
            timeline: None,
        };
        let answer = self.predictor.predict(request).await.map_err(|error| error.to_string())?;
        Ok(answer.outputs[0].tensor.elements::<f32>().unwrap().to_vec())
    }
}

/// `a/m`.
pub(crate) fn key() -> ModelKey {
    ModelKey::new(name("a"), name("m"))
}

pub(crate) fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

/// A bundle of these parts.
pub(crate) fn bundle(component: Vec<u8>, assets: &[(&str, &[u8])]) -> Bundle {
    let refs = assets.iter().map(|(name, data)| {
        let (digest, size) = (Digest::of(data), data.len() as u64);
        AssetRef { name: (*name).to_owned(), digest, size }
    });
    let manifest = Manifest {
        innkeeper: crate::bundle::FORMAT,
        name: "m".into(),
        version: None,
        description: "an echo".into(),
        component: BlobRef { digest: Digest::of(&component), size: component.len() as u64 },
        assets: refs.collect(),
        isolation: Isolation::Tenant,
        device: Device::Auto,
        limits: LimitOverrides::default(),
        batching: None,
        cache: None,
        sequences: None,
        instances: None,
        lineage: None,
    };
    let assets = assets.iter().map(|(_, data)| Some(Bytes::copy_from_slice(data))).collect();
    let manifest_bytes = manifest.to_text().into();
    Bundle { manifest, manifest_bytes, component: component.into(), assets }
}

/// One engine for all tests: each takes much address space.
fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let config = EngineConfig { instances_max: 50, ..EngineConfig::default() };
    ENGINE.get_or_init(|| Engine::new(&config).unwrap()).clone()
}

/// Copies a data folder, as a crash at this moment would leave it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &to);
        } else {
            std::fs::copy(file.path(), to).unwrap();
        }
    }
}

/// The one file below `dir` whose path contains all of these.
pub(crate) fn file(dir: &Path, parts: &[&str]) -> std::path::PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let text = path.to_str().unwrap().to_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if parts.iter().all(|part| text.contains(part)) => found.push(path),
                false => {}
            }
        }
    }
    assert_eq!(found.len(), 1, "{parts:?} in {found:?}");
    found.remove(0)
}

/// Changes one bit in the middle of a file.
pub(crate) fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Blobs of tenants, for tests that upload them apart.
pub(crate) async fn upload(host: &Host, tenant: &str, data: &[u8]) {
    let tenant: TenantName = name(tenant);
    host.catalog.put_blob(&tenant, Bytes::copy_from_slice(data), u64::MAX).await.unwrap();
}
