//! The way of a prediction.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use innkeeper_catalog::{ModelKey, TenantName};
use innkeeper_sandbox::{
    ByteBudget, Call, Cancel, Engine, GuestError, Instance, Level, LogSink, Setup,
};
use innkeeper_tensor::{Named, Signature};

use crate::admission::InFlight;
use crate::deployment::{Breaker, Loaded};
use crate::stats::{self, Laps, Watch};
use crate::tenant::{Tenant, Usage};
use crate::{
    Deployment, Endpoint, Isolation, LimitOverrides, Limits, LogLevels, Logs, NotFound,
    PredictError, Registry,
};

/// How predictions are made.
#[derive(Clone, Debug, Default)]
pub struct PredictorConfig {
    /// The limits of every tenant that has none of its own.
    pub limits: Limits,
    /// When a failing model is left alone.
    pub breaker: Breaker,
}

/// One prediction, decoded.
pub struct Request {
    /// Who asks.
    pub caller: TenantName,
    /// What is asked.
    pub deployment: Arc<Deployment>,
    /// The caller's id of the request, or the gateway's.
    pub id: String,
    /// The request's parameters, each as JSON text.
    pub parameters: Vec<(String, String)>,
    /// The tensors.
    pub inputs: Vec<Named>,
    /// The outputs that are wanted, in order; all when empty.
    pub outputs: Vec<String>,
}

/// The answer to one prediction.
#[derive(Debug)]
pub struct Prediction {
    /// The outputs, in the order of the request or else of the signature.
    pub outputs: Vec<Named>,
}

/// Makes predictions. A clone is the same predictor.
#[derive(Clone)]
pub struct Predictor(Arc<Inner>);

struct Inner {
    config: PredictorConfig,
    engine: Engine,
    registry: Registry,
    tenants: RwLock<HashMap<TenantName, Arc<Tenant>>>,
    logs: RwLock<HashMap<ModelKey, Arc<Logs>>>,
    draining: AtomicBool,
}

impl Predictor {
    /// The way of a prediction, station by station. Dropping the future cancels it: the guest stops at the next tick
    /// of the epoch.
    ///
    /// # Errors
    /// [`PredictError`], whose [`fault`](PredictError::fault) says whose fault it is.
    pub async fn predict(&self, request: Request) -> Result<Prediction, PredictError> {
        let Request { caller, deployment, id, parameters, inputs, outputs } = request;
        let mut watch = Watch::begin(deployment.stats(&caller));
        watch.noting(check_request(&deployment.signature, &inputs, &outputs))?;

        let tenant = self.tenant(&caller);
        let limits = tenant.limits().lowered(&deployment.limits);
        let place = watch.noting(self.admit(&tenant, &deployment, &caller, &limits).await)?;

        let began = Instant::now();
        watch.admitted(began);
        let rows = stats::rows(&deployment.signature, &inputs);
        let cancel = Cancel::default();
        let _cancel_if_dropped = cancel.on_drop();
        let outputs = Arc::new(outputs);
        let call = Call {
            id,
            parameters: Arc::new(parameters),
            inputs,
            outputs: Arc::clone(&outputs),
            deadline: began + Duration::from_millis(limits.deadline_ms_max),
            deadline_ms_max: limits.deadline_ms_max,
            cancel,
        };
        let predictor = self.clone();
        let run = Run { predictor, tenant, deployment, caller, limits, place, watch, rows };
        let inline = run.deployment.is_quick();
        let answer = self.0.engine.run(run.finish(call), inline).await;
        let answer = answer.ok_or_else(|| GuestError::Host("a host function panicked".into()))?;
        let (deployment, answer) = answer?;
        Ok(Prediction { outputs: arrange(&deployment.signature, answer, &outputs) })
    }

    async fn admit(
        &self,
        tenant: &Tenant,
        deployment: &Deployment,
        caller: &TenantName,
        limits: &Limits,
    ) -> Result<[Option<InFlight>; 2], PredictError> {
        if self.is_draining() {
            return Err(PredictError::Draining);
        }
        let now = Instant::now();
        deployment.check_breaker(caller, now)?;
        tenant.check_rate(now)?;
        let bounds = deployment.start(caller, now)?;
        // The model's own bound first: a request that waits for a slow model must not hold one of the tenant's places.
        let in_model = match bounds.as_ref().and_then(|bounds| bounds.gate.as_ref()) {
            Some(gate) => Some(gate.enter(limits).await?),
            None => None,
        };
        Ok([in_model, Some(tenant.admit(limits).await?)])
    }
}

/// One admitted prediction on its way through an instance. It goes to its end even if the caller leaves, so that the
/// instance and the places are given back properly.
struct Run {
    predictor: Predictor,
    tenant: Arc<Tenant>,
    deployment: Arc<Deployment>,
    caller: TenantName,
    limits: Limits,
    place: [Option<InFlight>; 2],
    watch: Watch,
    /// How many requests of one row this one stands for.
    rows: u64,
}

impl Run {
    async fn finish(mut self, call: Call) -> Result<(Arc<Deployment>, Vec<Named>), PredictError> {
        let began = Instant::now();
        let mut laps = Laps::default();
        let outputs = Arc::clone(&call.outputs);
        let answer = self.guest(call, &mut laps).await;
        let answered = Instant::now();
        let answer = answer.and_then(|answer| {
            let wanted = |name: &str| outputs.is_empty() || outputs.iter().any(|o| o == name);
            let kept = self.deployment.signature.check_outputs(&answer, wanted);
            kept.map(|()| answer).map_err(PredictError::BadAnswer)
        });
        laps.output = answered.elapsed();
        self.account(began, &answer, &laps);
        drop(self.place);
        Ok((self.deployment, answer?))
    }

    async fn guest(&self, call: Call, laps: &mut Laps) -> Result<Vec<Named>, PredictError> {
        let began = Instant::now();
        let warm = match self.deployment.isolation {
            Isolation::Tenant => self.deployment.take_warm(&self.caller, &self.limits, began),
            Isolation::Request => None,
        };
        let mut instance = match warm {
            Some(instance) => instance,
            None => self.fresh_instance(&call).await?,
        };
        let ready = Instant::now();
        laps.input = ready - began;
        let answer = instance.predict(call).await;
        laps.infer = ready.elapsed();
        let usable = answer.as_ref().err().is_none_or(GuestError::leaves_instance_usable);
        // A guest of another tenant's must not hold on to this caller's budget between its calls.
        let lent = self.caller != self.deployment.model.owner && instance.holds_tensors();
        let worn = lent || instance.is_worn();
        if usable && self.deployment.isolation == Isolation::Tenant && !worn {
            let kept = &self.tenant.warm_instances;
            self.deployment.keep_warm(&self.caller, instance, &self.limits, kept);
        }
        answer.map_err(PredictError::from)
    }

    async fn fresh_instance(&self, call: &Call) -> Result<Instance, PredictError> {
        let loaded = self.deployment.loaded().await?;
        match loaded.program.instantiate(self.setup(&loaded, call)).await {
            Err(GuestError::Busy) => {}
            instance => return Ok(instance?),
        }
        // Instances that wait for somebody's next request make room for one that is needed now.
        self.predictor.let_go_of_warm_instances();
        Ok(loaded.program.instantiate(self.setup(&loaded, call)).await?)
    }

    fn setup(&self, loaded: &Loaded, call: &Call) -> Setup {
        let load_ms_max = self.limits.load_ms_max.min(self.limits.deadline_ms_max);
        Setup {
            assets: Arc::clone(&loaded.assets),
            limits: self.limits.instance(),
            tensor_bytes: self.deployment.tensor_bytes(&self.caller, &self.tenant.tensor_bytes),
            log: self.predictor.log_sink(&self.deployment),
            deadline: call.deadline.min(Instant::now() + Duration::from_millis(load_ms_max)),
            load_ms_max,
            cancel: call.cancel.clone(),
        }
    }

    fn account(&mut self, began: Instant, answer: &Result<Vec<Named>, PredictError>, laps: &Laps) {
        match answer {
            Ok(_) => {
                self.watch.stats().executed(self.rows, laps);
                self.watch.succeeded(laps);
            }
            Err(error) => self.watch.failed(error),
        }
        let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (tenant, deployment) = (&self.tenant, &self.deployment);
        tenant.requests.fetch_add(1, Ordering::Relaxed);
        tenant.compute_us.fetch_add(us, Ordering::Relaxed);
        deployment.note_duration(us);
        let error = answer.as_ref().err();
        if error.is_some() {
            tenant.failures.fetch_add(1, Ordering::Relaxed);
        }
        let failed = error.is_some_and(|error| error.fault() == crate::Fault::Plugin);
        deployment.note(&self.caller, failed, Instant::now(), &self.predictor.0.config.breaker);
        if failed && let Some(error) = error {
            let logs = self.predictor.logs(&deployment.model);
            let version = deployment.version.as_str();
            let bytes_max = self.predictor.log_bytes_max(&self.deployment);
            logs.push(version, "", "error", &error.to_string(), bytes_max);
        }
    }
}

fn check_request(
    signature: &Signature,
    inputs: &[Named],
    outputs: &[String],
) -> Result<(), PredictError> {
    signature.check_inputs(inputs)?;
    for (i, output) in outputs.iter().enumerate() {
        signature.output(output)?;
        if outputs[..i].contains(output) {
            let name = output.clone();
            return Err(innkeeper_tensor::Mismatch::Twice { kind: "output", name }.into());
        }
    }
    Ok(())
}

/// The wanted outputs in the order in which they are wanted.
fn arrange(signature: &Signature, mut answer: Vec<Named>, wanted: &[String]) -> Vec<Named> {
    let mut take = |name: &str| {
        let at = answer.iter().position(|named| named.name == name)?;
        Some(answer.swap_remove(at))
    };
    if wanted.is_empty() {
        signature.outputs.iter().filter_map(|spec| take(&spec.name)).collect()
    } else {
        wanted.iter().filter_map(|name| take(name)).collect()
    }
}

/// Everything around the journey: what is served, by whom, under which limits.
impl Predictor {
    /// A predictor that serves nothing yet.
    pub fn new(config: PredictorConfig, engine: Engine) -> Predictor {
        Predictor(Arc::new(Inner {
            config,
            engine,
            registry: Registry::default(),
            tenants: RwLock::default(),
            logs: RwLock::default(),
            draining: AtomicBool::new(false),
        }))
    }

    /// The engine that guests run on.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The model that `caller` means by `model` in the namespace of `owner`.
    ///
    /// # Errors
    /// [`NotFound`], the same for a private model as for none.
    pub fn endpoint(
        &self,
        caller: &TenantName,
        owner: &str,
        model: &str,
    ) -> Result<Arc<Endpoint>, NotFound> {
        self.0.registry.find(caller, owner, model)
    }

    /// What `caller` may see in the namespace of `owner`, sorted by name.
    pub fn endpoints(&self, caller: &TenantName, owner: &str) -> Vec<Arc<Endpoint>> {
        self.0.registry.list(caller, owner)
    }

    /// Every endpoint, in no order.
    pub fn all_endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.0.registry.all()
    }

    /// Serves an endpoint in the place of what was served under its key.
    pub fn install(&self, endpoint: Endpoint) {
        self.0.registry.install(endpoint);
    }

    /// Serves a model no more. Predictions that run go to their end.
    pub fn remove(&self, key: &ModelKey) {
        if let Ok(endpoint) = self.endpoint(&key.owner, key.owner.as_str(), key.name.as_str()) {
            endpoint.versions.iter().for_each(|deployment| deployment.retire());
        }
        self.0.registry.remove(key);
        self.0.logs.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The limits of a tenant.
    pub fn limits(&self, tenant: &TenantName) -> Arc<Limits> {
        self.tenant(tenant).limits()
    }

    /// The limits of every tenant that has none of its own.
    pub fn default_limits(&self) -> &Limits {
        &self.0.config.limits
    }

    /// Gives a tenant limits of its own.
    pub fn set_limits(&self, tenant: &TenantName, overrides: &LimitOverrides) {
        self.tenant(tenant).set_limits(self.0.config.limits.overridden(overrides));
    }

    /// What the files of a tenant's versions count against.
    pub fn asset_memory(&self, tenant: &TenantName) -> Arc<ByteBudget> {
        Arc::clone(&self.tenant(tenant).asset_memory)
    }

    /// What a tenant uses.
    pub fn usage(&self, name: &TenantName) -> Usage {
        let deployments = self.0.registry.all();
        let deployments = deployments.iter().flat_map(|endpoint| &endpoint.versions);
        let warm_instances = deployments.map(|d| d.warm_instances(Some(name))).sum();
        Usage { warm_instances, ..self.tenant(name).usage() }
    }

    /// What each tenant uses that has called or been called since the process began, in no order; warm instances are
    /// not counted.
    pub fn usages(&self) -> Vec<(TenantName, Usage)> {
        let tenants = self.0.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.iter().map(|(name, tenant)| (name.clone(), tenant.usage())).collect()
    }

    /// What a model has written.
    pub fn logs(&self, key: &ModelKey) -> Arc<Logs> {
        let logs = self.0.logs.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(logs) = logs.get(key) {
            return Arc::clone(logs);
        }
        drop(logs);
        let mut logs = self.0.logs.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(logs.entry(key.clone()).or_default())
    }

    /// Which messages of its models a tenant keeps.
    pub fn log_levels(&self, tenant: &TenantName) -> LogLevels {
        **self.tenant(tenant).log_levels.load()
    }

    /// Says which messages of its models a tenant keeps from now on, also those of instances that run.
    pub fn set_log_levels(&self, tenant: &TenantName, kept: LogLevels) {
        self.tenant(tenant).log_levels.store(Arc::new(kept));
    }

    /// Where the guests of a deployment write.
    pub fn log_sink(&self, deployment: &Deployment) -> Arc<dyn LogSink> {
        let version = deployment.version.to_string();
        let bytes_max = self.log_bytes_max(deployment);
        let owner = self.tenant(&deployment.model.owner);
        Arc::new(Sink { logs: self.logs(&deployment.model), owner, version, bytes_max })
    }

    /// Lets go of the code and instances of every version that was not used for `idle`. Gives back how many.
    pub fn cool(&self, idle: Duration, now: Instant) -> usize {
        let Some(before) = now.checked_sub(idle) else { return 0 };
        let endpoints = self.0.registry.all();
        let deployments = endpoints.iter().flat_map(|endpoint| &endpoint.versions);
        deployments.filter(|deployment| deployment.cool(before)).count()
    }

    fn let_go_of_warm_instances(&self) {
        let endpoints = self.0.registry.all();
        endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.versions)
            .for_each(|version| version.let_go());
    }

    /// Takes no more predictions; those that run go to their end.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether predictions are no longer taken.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// How much is kept of a model's log. It is the owner's log, whoever calls.
    fn log_bytes_max(&self, deployment: &Deployment) -> u64 {
        self.limits(&deployment.model.owner).lowered(&deployment.limits).log_bytes_max
    }

    fn tenant(&self, name: &TenantName) -> Arc<Tenant> {
        let tenants = self.0.tenants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(name) {
            return Arc::clone(tenant);
        }
        drop(tenants);
        let mut tenants = self.0.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Tenant::new(self.0.config.limits.clone(), Instant::now()));
        Arc::clone(tenants.entry(name.clone()).or_insert_with(new))
    }
}

struct Sink {
    logs: Arc<Logs>,
    owner: Arc<Tenant>,
    version: String,
    bytes_max: u64,
}

impl LogSink for Sink {
    fn write(&self, level: Level, request_id: &str, message: &str) {
        let kept = self.owner.log_levels.load();
        let (level, is_kept) = match level {
            Level::Debug => ("debug", kept.debug),
            Level::Info => ("info", kept.info),
            Level::Warn => ("warn", kept.warn),
            Level::Error => ("error", kept.error),
        };
        if !is_kept {
            return;
        }
        self.logs.push(&self.version, request_id, level, message, self.bytes_max);
    }

    fn dropped(&self, request_id: &str, bytes: u64) {
        let message = format!("{bytes} bytes of log are over log_bytes_per_request_max and lost");
        self.logs.push(&self.version, request_id, "warn", &message, self.bytes_max);
    }
}
