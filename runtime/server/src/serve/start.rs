//! Puts the parts together, brings back what was deployed, serves, and stops in order.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use innkeeper_catalog::{AuditLimits, Catalog, CatalogConfig, SystemClock, TenantName};
use innkeeper_deploy::{DeployConfig, Deployer};
use innkeeper_gateway::{Cors, Gateway, GatewayConfig, Listener, Speaks, Tls};
use innkeeper_predict::{Breaker, LimitOverrides, Predictor, PredictorConfig};
use innkeeper_sandbox::{CompileLimits, Compiler, ComponentLimits, Engine, EngineConfig};
use innkeeper_train::{Importer, Jobs, JobsConfig};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::config::Addresses;
use super::data::{DataFolder, ensure_tenant};
use super::telemetry::{self, Telemetry};
use super::{Config, housekeeping, issuer, tls};
use crate::failure::{Code, Failure};

/// The tenant of everyone when keys are switched off.
const DEV_TENANT: &str = "dev";

/// For how much longer than it may the gateway may take to end.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// What a server needs that no configuration file says.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The command that becomes the compiler's process.
    pub compiler: Vec<OsString>,
    /// The command that becomes the process which reads data.
    pub importer: Vec<OsString>,
}

impl StartOptions {
    /// The compiler, and what reads data, is this very program.
    ///
    /// # Errors
    /// The system does not say where the program lies.
    pub fn of_this_program() -> Result<StartOptions> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let worker = |name: &str| vec![program.clone().into(), name.into()];
        Ok(StartOptions { compiler: worker("compile-worker"), importer: worker("import-worker") })
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request in flight was finished.
    Whole,
    /// Some took longer than `drain_ms` and were cut off.
    Cut,
}

/// A server that runs.
pub struct Server {
    addresses: Addresses,
    scheme: &'static str,
    admin_key: Option<PathBuf>,
    drain_ms: u64,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
    housekeeping: JoinHandle<()>,
    renewing: Option<JoinHandle<()>>,
    jobs: Jobs,
    catalog: Catalog,
    telemetry: Option<Telemetry>,
    // Last, so that nobody else takes the folder before all else is gone.
    _data: DataFolder,
}

/// The runtime that a server runs on.
///
/// # Errors
/// The system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("innkeeper").build().context("cannot start threads")
}

impl Server {
    /// Opens the data folder, brings back what is deployed there, and listens.
    ///
    /// # Errors
    /// The configuration cannot be followed, the folder is in use or damaged, the address is taken.
    pub async fn start(config: Config, options: StartOptions) -> Result<Server> {
        let addresses = config.check()?;
        let tls = tls::open(&config.tls)?;
        let data = DataFolder::take(Path::new(&config.server.data))?;
        // Before anything that takes long, so that a wrong address is told at once.
        let (listeners, addresses) = listen_all(addresses, tls.as_ref()).await?;

        let catalog = open_catalog(&config, &data).await?;
        let admin_key = first_tenant(&config, &catalog, &data).await?;
        let engine = Engine::new(&engine_config(&config))?;
        let predictor = Predictor::new(predictor_config(&config), engine.clone());
        predictor.count_by(catalog.meters().clone());
        let StartOptions { compiler, importer } = options;
        let deployer = open_deployer(&config, compiler, &data, &catalog, &predictor, engine)?;
        restore(&deployer, &catalog, &predictor).await?;
        let jobs = open_jobs(&config, importer, &data, &catalog, &predictor, &deployer)?;
        jobs.restore().await?;

        let telemetry = telemetry::open(&config.telemetry)?;
        let housekeeping = housekeeping::run(config.clone(), predictor.clone(), catalog.clone());
        let gateway = Gateway::new(
            gateway_config(&config, telemetry.as_ref())?,
            predictor,
            deployer,
            jobs.clone(),
            catalog.clone(),
        )
        .await?;
        let (stop, stopped) = oneshot::channel();
        let until = async { drop(stopped.await) };
        Ok(Server {
            addresses,
            scheme: if tls.is_some() { "https" } else { "http" },
            admin_key,
            drain_ms: config.server.drain_ms.saturating_add(config.server.drain_idle_ms),
            stop,
            serving: tokio::spawn(gateway.serve(listeners, until)),
            housekeeping: tokio::spawn(housekeeping),
            renewing: tls.map(|tls| tokio::spawn(tls::renew(config.tls, tls))),
            jobs,
            catalog,
            telemetry,
            _data: data,
        })
    }

    /// Where it listens for every protocol.
    pub fn address(&self) -> SocketAddr {
        self.addresses.http
    }

    /// The file with the administrator's key, if this start made one.
    pub fn admin_key(&self) -> Option<&Path> {
        self.admin_key.as_deref()
    }

    /// Says on standard output where the server is, and where a new key lies.
    pub fn announce(&self) {
        let mut out = std::io::stdout().lock();
        if let Some(path) = &self.admin_key {
            let _ = writeln!(out, "the administrator's key is in {}", path.display());
        }
        if let Some(grpc) = self.addresses.grpc {
            let _ = writeln!(out, "listening on grpc://{grpc}");
        }
        let _ = writeln!(out, "listening on {}://{}", self.scheme, self.addresses.http);
        let _ = out.flush();
        tracing::info!(http = %self.addresses.http, grpc = ?self.addresses.grpc, "listening");
    }

    /// Serves until `stop` is done or the server cannot go on, then stops.
    ///
    /// # Errors
    /// What the listener says when it breaks.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<Drained> {
        tokio::select! {
            ended = &mut self.serving => {
                ended.context("the server broke down")?.context("the server cannot listen on")?;
                anyhow::bail!("the server ended by itself");
            }
            () = stop => self.stop().await,
        }
    }

    /// Takes no new connections, waits for requests in flight, and closes everything.
    ///
    /// # Errors
    /// What the listener says when it breaks.
    pub async fn stop(mut self) -> Result<Drained> {
        let _ = self.stop.send(());
        // The gateway keeps to its own time; this is for the case that it does not.
        let patience = Duration::from_millis(self.drain_ms) + DRAIN_GRACE;
        let ended = tokio::time::timeout(patience, &mut self.serving).await;
        self.housekeeping.abort();
        if let Some(renewing) = &self.renewing {
            renewing.abort();
        }
        let drained = match ended {
            Ok(ended) => {
                ended.context("the server broke down")?.context("the server cannot listen on")?;
                Drained::Whole
            }
            Err(_) => {
                self.serving.abort();
                tracing::warn!(drain_ms = self.drain_ms, "requests were cut off");
                Drained::Cut
            }
        };
        self.jobs.stop().await;
        if let Some(telemetry) = self.telemetry.take() {
            telemetry.stop().await;
        }
        self.catalog.close().await;
        tracing::info!("stopped");
        Ok(drained)
    }
}

async fn listen_all(wanted: Addresses, tls: Option<&Tls>) -> Result<(Vec<Listener>, Addresses)> {
    let http = listen(wanted.http, "--http").await?;
    let mut bound = Addresses { http: http.local_addr()?, grpc: None };
    let mut listeners = vec![Listener { socket: http, speaks: Speaks::All, tls: tls.cloned() }];
    if let Some(address) = wanted.grpc {
        let socket = listen(address, "--grpc").await?;
        bound.grpc = Some(socket.local_addr()?);
        listeners.push(Listener { socket, speaks: Speaks::Grpc, tls: tls.cloned() });
    }
    Ok((listeners, bound))
}

async fn listen(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::AddrInUse => Code::Conflict,
            std::io::ErrorKind::PermissionDenied => Code::Denied,
            _ => Code::Failed,
        };
        let text = format!("cannot listen on {address}: {error}; give another address by {option}");
        Failure::new(code, text).into()
    })
}

async fn open_catalog(config: &Config, data: &DataFolder) -> Result<Catalog> {
    let housekeeping = CatalogConfig {
        unreferenced_blob_ttl_ms: config.catalog.unreferenced_blob_ttl_ms,
        stale_upload_ttl_ms: config.catalog.stale_upload_ttl_ms,
        audit: AuditLimits {
            ttl_ms: config.catalog.audit_ttl_ms,
            entries_max: config.catalog.audit_entries_max,
        },
    };
    Ok(Catalog::open_with(data.path(), housekeeping, Arc::new(SystemClock)).await?)
}

/// Someone must be able to call: the tenant of a development server, or the holder of the first key.
async fn first_tenant(
    config: &Config,
    catalog: &Catalog,
    data: &DataFolder,
) -> Result<Option<PathBuf>> {
    if config.server.dev {
        ensure_tenant(catalog, &dev_tenant()?).await?;
        return Ok(None);
    }
    let path = data.first_key(catalog).await?;
    if let Some(path) = &path {
        tracing::info!(path = %path.display(), "a key for the administrator is made");
    }
    Ok(path)
}

fn open_deployer(
    config: &Config,
    compiler: Vec<OsString>,
    data: &DataFolder,
    catalog: &Catalog,
    predictor: &Predictor,
    engine: Engine,
) -> Result<Deployer> {
    let limits = CompileLimits {
        compile_ms_max: config.deploy.compile_ms_max,
        compile_memory_bytes_max: config.deploy.compile_memory_bytes_max,
    };
    let compiler = Compiler::child(compiler, limits);
    let deploy = DeployConfig {
        dir: data.path().join("artefacts"),
        component: component_limits(config),
        compiles_max: config.deploy.compiles_max,
        publishes_max: config.deploy.publishes_max,
        artefact_bytes_max: config.deploy.artefact_bytes_max,
    };
    Deployer::open(deploy, catalog.clone(), predictor.clone(), engine, compiler)
        .context("cannot open the folder of compiled code")
}

fn open_jobs(
    config: &Config,
    command: Vec<OsString>,
    data: &DataFolder,
    catalog: &Catalog,
    predictor: &Predictor,
    deployer: &Deployer,
) -> Result<Jobs> {
    let jobs = JobsConfig {
        dir: data.path().join("jobs"),
        running_max: config.deploy.jobs_running_max,
        importer: Importer {
            command,
            import_ms_max: config.deploy.import_ms_max,
            import_memory_bytes_max: config.deploy.import_memory_bytes_max,
            imports_max: config.deploy.imports_max,
        },
    };
    Jobs::open(jobs, catalog.clone(), predictor.clone(), deployer.clone())
        .context("cannot open the folder of jobs")
}

/// Everything that was acknowledged is served again before the first request comes in.
async fn restore(deployer: &Deployer, catalog: &Catalog, predictor: &Predictor) -> Result<()> {
    for tenant in catalog.list_tenants().await? {
        if let Some(text) = catalog.tenant_limits(&tenant).await? {
            let limits: LimitOverrides = serde_json::from_str(&text)
                .with_context(|| format!("the limits of tenant {tenant} cannot be read"))?;
            predictor.set_limits(&tenant, &limits);
        }
    }
    let restored = deployer.restore().await?;
    for (model, version, why) in &restored.failed {
        tracing::error!(%model, %version, why, "a version cannot be served");
    }
    tracing::info!(versions = restored.deployed, failed = restored.failed.len(), "restored");
    Ok(())
}

fn dev_tenant() -> Result<TenantName> {
    Ok(DEV_TENANT.parse()?)
}

fn engine_config(config: &Config) -> EngineConfig {
    let all = EngineConfig::default();
    let or = |threads: usize, cores: usize| if threads == 0 { cores } else { threads };
    EngineConfig {
        instances_max: config.engine.instances_max,
        guest_memory_bytes_max: config.engine.guest_memory_bytes_max,
        stack_bytes_max: config.engine.stack_bytes_max,
        epoch_us: config.engine.epoch_us,
        threads: or(config.engine.threads, all.threads),
        kernel_threads: or(config.engine.kernel_threads, all.kernel_threads),
    }
}

fn predictor_config(config: &Config) -> PredictorConfig {
    let (failures_max, rest_ms) =
        (config.predict.breaker_failures_max, config.predict.breaker_rest_ms);
    let breaker = Breaker { failures_max, rest_ms };
    let asset_memory_total_bytes_max = config.predict.asset_memory_total_bytes_max;
    PredictorConfig { limits: config.limits.clone(), breaker, asset_memory_total_bytes_max }
}

fn component_limits(config: &Config) -> ComponentLimits {
    ComponentLimits {
        component_bytes_max: config.component.component_bytes_max,
        functions_max: config.component.functions_max,
        function_bytes_max: config.component.function_bytes_max,
        locals_max: config.component.locals_max,
        nested_max: config.component.nested_max,
    }
}

fn gateway_config(config: &Config, telemetry: Option<&Telemetry>) -> Result<GatewayConfig> {
    let dev_tenant = if config.server.dev { Some(dev_tenant()?) } else { None };
    let server = &config.server;
    Ok(GatewayConfig {
        connections_max: server.connections_max,
        header_read_ms: server.header_read_ms,
        body_idle_ms: server.body_idle_ms,
        headers_max: server.headers_max,
        header_bytes_max: server.header_bytes_max,
        http2_streams_max: server.http2_streams_max,
        bodies_bytes_max: server.bodies_bytes_max,
        bundle_bytes_max: server.bundle_bytes_max,
        uploads_max: server.uploads_max,
        drain_idle_ms: server.drain_idle_ms,
        drain_ms: server.drain_ms,
        tokens: issuer::open(&config.jwt),
        cors: Cors {
            origins: config.cors.origins.clone(),
            credentials: config.cors.credentials,
            max_age_s: config.cors.max_age_s,
        },
        traces: telemetry.map(Telemetry::traces),
        dev_tenant,
        ..GatewayConfig::default()
    })
}
