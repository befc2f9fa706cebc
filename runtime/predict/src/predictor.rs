//! The way of a prediction.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use innkeeper_catalog::{Meters, ModelKey, TenantName, Used};
use innkeeper_sandbox::{ByteBudget, Cancel, Engine, GuestError, Level, LogSink, Share};
use innkeeper_tensor::{Named, Signature};
use tokio::sync::{mpsc, oneshot};

use crate::admission::{InFlight, Patience};
use crate::batch::{self, Batcher, Clock};
use crate::cache::Question;
use crate::deployment::Breaker;
use crate::run::{Answer, Batch, Job, bytes_of};
use crate::shadow::{SHADOWS_MAX, SHADOWS_TOTAL_MAX, SHADOWS_WEIGHT, Shown};
use crate::stats::Watch;
use crate::tenant::{Tenant, Usage};
use crate::{
    Batching, Breach, Deployment, Endpoint, LimitOverrides, Limits, LogLevels, Logs, NotFound,
    PredictError, Registry, Schedule, Timeline, Traffic, Via,
};

/// How predictions are made.
#[derive(Clone, Debug)]
pub struct PredictorConfig {
    /// The limits of every tenant that has none of its own.
    pub limits: Limits,
    /// When a failing model is left alone.
    pub breaker: Breaker,
    /// Bytes of all tenants' assets that stay in memory while nobody uses them, with what is derived from them.
    pub asset_memory_total_bytes_max: u64,
}

impl Default for PredictorConfig {
    fn default() -> PredictorConfig {
        PredictorConfig {
            limits: Limits::default(),
            breaker: Breaker::default(),
            asset_memory_total_bytes_max: 32 << 30,
        }
    }
}

/// One prediction, decoded.
pub struct Request {
    /// Who asks.
    pub caller: TenantName,
    /// What is asked.
    pub deployment: Arc<Deployment>,
    /// How the request came to that version, see [`Endpoint::choose`]; none when it was named itself.
    pub via: Option<Via>,
    /// The caller's id of the request, or the gateway's.
    pub id: String,
    /// The request's parameters, each as JSON text.
    pub parameters: Vec<(String, String)>,
    /// The tensors.
    pub inputs: Vec<Named>,
    /// The outputs that are wanted, in order; all when empty.
    pub outputs: Vec<String>,
    /// What it says about its turn.
    pub schedule: Schedule,
    /// Where it leaves when it passed its stations, where it is traced.
    pub timeline: Option<Timeline>,
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
    clock: OnceLock<Arc<Clock>>,
    draining: AtomicBool,
    meters: OnceLock<Meters>,
    /// Counts requests, not bytes: those that candidates are shown now.
    shadows: Arc<ByteBudget>,
    /// The part of the guests' processors that those have together.
    shadows_share: Arc<Share>,
    breaches: (mpsc::Sender<Breach>, Mutex<Option<mpsc::Receiver<Breach>>>),
}

/// Candidates that have failed and of which nobody has heard yet.
const BREACHES_MAX: usize = 64;

impl Predictor {
    /// The way of a prediction, station by station. Dropping the future cancels it: it leaves its batch, or the guest
    /// stops at the next tick of the epoch.
    ///
    /// # Errors
    /// [`PredictError`], whose [`fault`](PredictError::fault) says whose fault it is.
    pub async fn predict(&self, mut request: Request) -> Result<Prediction, PredictError> {
        let Some(via) = request.via.take() else { return self.one(request).await };
        let (model, began) = (request.deployment.model.clone(), Instant::now());
        let shown = via.shown_to.as_ref().and_then(|candidate| Shown::new(&request, candidate));
        let answer = self.one(request).await;
        if let (Some(shown), Ok(answer)) = (shown, &answer) {
            self.show(shown, &via.traffic, answer);
        }
        if let Some(why) = via.traffic.note(via.side, began.elapsed(), &answer) {
            self.tell(&via.traffic, model, why);
        }
        answer
    }

    /// Tells whoever listens that a candidate has failed. With many told at once the next bad answer tells it again.
    fn tell(&self, traffic: &Traffic, model: ModelKey, why: String) {
        let breach = Breach { model, rollout: traffic.id(), why };
        if self.0.breaches.0.try_send(breach).is_err() {
            traffic.rearm();
        }
    }

    async fn one(&self, request: Request) -> Result<Prediction, PredictError> {
        let mut watch = Watch::begin(request.deployment.stats(&request.caller));
        let turn = watch.noting(check_request(&request))?;
        let began = Instant::now();
        let Some(question) = Question::of(&request) else {
            return self.asked(request, turn, watch).await;
        };
        let tenant = self.tenant(&request.caller);
        if let Some(outputs) = tenant.cache.get(&question) {
            watch.noting(self.again(&tenant, &request, &outputs, began))?;
            watch.cached(began.elapsed());
            return Ok(Prediction { outputs });
        }
        let (looked, stats) = (began.elapsed(), request.deployment.stats(&request.caller));
        let prediction = self.asked(request, turn, watch).await?;
        let keeps = Instant::now();
        tenant.cache.put(question, &prediction.outputs, tenant.limits().cache_bytes_max);
        stats.missed(looked + keeps.elapsed());
        Ok(prediction)
    }

    /// Lets a request in whose answer is kept, and accounts for it.
    fn again(
        &self,
        tenant: &Tenant,
        request: &Request,
        outputs: &[Named],
        now: Instant,
    ) -> Result<(), PredictError> {
        if self.is_draining() {
            return Err(PredictError::Draining);
        }
        tenant.check_rate(now)?;
        request.deployment.start(&request.caller, now)?;
        tenant.count(&Used {
            requests: 1,
            bytes_in: bytes_of(&request.inputs),
            bytes_out: bytes_of(outputs),
            ..Used::default()
        });
        Ok(())
    }

    /// Asks the guest.
    async fn asked(
        &self,
        request: Request,
        turn: Turn,
        watch: Watch,
    ) -> Result<Prediction, PredictError> {
        let deployment = Arc::clone(&request.deployment);
        let (job, answer) = self.admit(request, turn, watch).await?;

        let outputs = Arc::clone(&job.outputs);
        let _cancels = job.cancel.on_drop();
        let _leaves = match self.batcher(&job)? {
            Some(batcher) => Some(batcher.join(job).await),
            None => {
                self.run(Batch::new(vec![job])).await;
                None
            }
        };
        let answer = answer.await;
        let answer = answer.map_err(|_| GuestError::Host("a host function panicked".into()))??;
        Ok(Prediction { outputs: arrange(&deployment.signature, answer, &outputs) })
    }

    /// Lets a request in, now or when it is its turn.
    async fn admit(
        &self,
        request: Request,
        turn: Turn,
        mut watch: Watch,
    ) -> Result<(Job, oneshot::Receiver<Answer>), PredictError> {
        let Request { caller, deployment, id, parameters, inputs, outputs, schedule, .. } = request;
        let (tenant, now) = (self.tenant(&caller), Instant::now());
        let limits = tenant.limits().lowered(&deployment.limits);
        let patience = Patience::new(now, &limits, schedule.timeout_us);
        let sequence = match (deployment.sequences(), &schedule.sequence_id) {
            (Some(sequences), Some(id)) => {
                let turn = sequences.turn((&caller, id), &schedule, &patience, &tenant.sequences);
                Some(watch.noting(turn.await)?)
            }
            _ => None,
        };
        let places = self.places(&tenant, &deployment, &caller, &limits, &patience, now);
        let places = watch.noting(places.await)?;

        let (answer, answered) = oneshot::channel();
        let job = Job {
            predictor: self.clone(),
            deadline: Instant::now() + Duration::from_millis(limits.deadline_ms_max),
            deployment,
            caller,
            tenant,
            limits,
            id,
            parameters: Arc::new(parameters),
            bytes_in: bytes_of(&inputs),
            inputs,
            outputs: Arc::new(outputs),
            rows: turn.rows,
            priority: turn.priority,
            patience,
            cancel: Cancel::default(),
            places,
            sequence,
            timeline: request.timeline,
            watch,
            answer,
        };
        Ok((job, answered))
    }

    /// The places among the predictions that run, at once or after waiting for them.
    async fn places(
        &self,
        tenant: &Tenant,
        deployment: &Deployment,
        caller: &TenantName,
        limits: &Limits,
        patience: &Patience,
        now: Instant,
    ) -> Result<[Option<InFlight>; 2], PredictError> {
        if self.is_draining() {
            return Err(PredictError::Draining);
        }
        deployment.check_breaker(caller, now)?;
        tenant.check_rate(now)?;
        let bounds = deployment.start(caller, now)?;
        // The model's own bound first: a request that waits for a slow model must not hold one of the tenant's places.
        let in_model = match bounds.as_ref().and_then(|bounds| bounds.gate.as_ref()) {
            Some(gate) => Some(gate.enter(limits, patience).await?),
            None => None,
        };
        Ok([in_model, Some(tenant.admit(limits, patience).await?)])
    }

    /// Where a request meets others that it may run together with.
    fn batcher(&self, job: &Job) -> Result<Option<Arc<Batcher>>, PredictError> {
        let deployment = &job.deployment;
        let Some(batchers) = deployment.batchers().filter(|_| !job.inputs.is_empty()) else {
            return Ok(None);
        };
        let caller = (!deployment.shares_batches()).then_some(&job.caller);
        Ok(Some(batchers.of(caller, &self.0.engine, &self.clock()?)))
    }

    async fn run(&self, batch: Batch) {
        let (share, inline) = (batch.share(), batch.is_quick());
        self.0.engine.run(batch.run(), &share, inline).await;
    }
}

/// What a request's turn depends on.
struct Turn {
    priority: u64,
    /// 0 where the model is not batched.
    rows: u64,
}

fn check_request(request: &Request) -> Result<Turn, PredictError> {
    let Request { deployment, inputs, outputs, schedule, .. } = request;
    let signature = &deployment.signature;
    signature.check_inputs(inputs)?;
    for (i, output) in outputs.iter().enumerate() {
        signature.output(output)?;
        if outputs[..i].contains(output) {
            let name = output.clone();
            return Err(innkeeper_tensor::Mismatch::Twice { kind: "output", name }.into());
        }
    }
    let batching = deployment.batching();
    let (rows, priority) = (rows(request, batching)?, schedule.priority(batching)?);
    schedule.check_sequence(deployment.sequencing().is_some())?;
    Ok(Turn { priority, rows })
}

fn rows(request: &Request, batching: Option<&Batching>) -> Result<u64, PredictError> {
    let Some(Batching { max, .. }) = batching else { return Ok(0) };
    match batch::rows(&request.deployment.signature, &request.inputs)? {
        Some(rows) if rows > *max => Err(PredictError::TooManyRows { rows, max: *max }),
        rows => Ok(rows.unwrap_or(0)),
    }
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
        let (breach, breaches) = mpsc::channel(BREACHES_MAX);
        let shadows_share = engine.share(SHADOWS_WEIGHT);
        Predictor(Arc::new(Inner {
            config,
            engine,
            shadows: ByteBudget::new(SHADOWS_TOTAL_MAX),
            shadows_share,
            registry: Registry::default(),
            tenants: RwLock::default(),
            logs: RwLock::default(),
            clock: OnceLock::new(),
            draining: AtomicBool::new(false),
            meters: OnceLock::new(),
            breaches: (breach, Mutex::new(Some(breaches))),
        }))
    }

    /// The candidates that fail from now on, for the one who rolls back. `None` for whoever asks second.
    pub fn breaches(&self) -> Option<mpsc::Receiver<Breach>> {
        self.0.breaches.1.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Counts what tenants use by these meters too, which outlive the process. To be called before the first request.
    pub fn count_by(&self, meters: Meters) {
        // A second time changes nothing: tenants have their meters already.
        let _ = self.0.meters.set(meters);
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

    /// A tenant's part of the guests' processors, for what else runs for it than predictions.
    pub fn share(&self, tenant: &TenantName) -> Arc<Share> {
        Arc::clone(&self.tenant(tenant).share)
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

    /// Lets go of the code and instances of every version that was not used for `idle`, and of the sequences that are
    /// over. Gives back how many versions.
    pub fn cool(&self, idle: Duration, now: Instant) -> usize {
        let Some(before) = now.checked_sub(idle) else { return 0 };
        let mut cooled = 0;
        for endpoint in self.0.registry.all() {
            for deployment in &endpoint.versions {
                deployment.expire_sequences(now);
                deployment.shrink(now);
                let leaves = !endpoint.keeps_ready(deployment) && deployment.cool(before);
                cooled += usize::from(leaves);
            }
        }
        self.keep_within_memory();
        cooled
    }

    pub(crate) fn let_go_of_warm_instances(&self) {
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

    pub(crate) fn asset_memory_total_max(&self) -> u64 {
        self.0.config.asset_memory_total_bytes_max
    }

    /// Bytes of all tenants' assets that are in memory.
    pub(crate) fn asset_memory_used(&self) -> u64 {
        let tenants = self.0.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.values().map(|tenant| tenant.asset_memory.used()).sum()
    }

    pub(crate) fn shadows_share(&self) -> Arc<Share> {
        Arc::clone(&self.0.shadows_share)
    }

    pub(crate) fn breaker(&self) -> &Breaker {
        &self.0.config.breaker
    }

    /// Writes what went wrong to the model's log.
    pub(crate) fn log_error(&self, deployment: &Deployment, message: &str) {
        let bytes_max = self.log_bytes_max(deployment);
        let logs = self.logs(&deployment.model);
        logs.push(deployment.version.as_str(), "", "error", message, bytes_max);
    }

    /// What wakes batches whose delay is over, started when the first is to be.
    fn clock(&self) -> Result<Arc<Clock>, PredictError> {
        if let Some(clock) = self.0.clock.get() {
            return Ok(Arc::clone(clock));
        }
        let clock = Clock::start().map_err(|error| {
            PredictError::from(GuestError::Host(format!("no thread for the batches: {error}")))
        })?;
        Ok(Arc::clone(self.0.clock.get_or_init(|| Arc::new(clock))))
    }

    pub(crate) fn tenant(&self, name: &TenantName) -> Arc<Tenant> {
        let tenants = self.0.tenants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(name) {
            return Arc::clone(tenant);
        }
        drop(tenants);
        let mut tenants = self.0.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let meter = self.0.meters.get().and_then(|meters| meters.of(name));
        let new = || {
            let limits = self.0.config.limits.clone();
            let share = self.0.engine.share(limits.compute_weight);
            let shadows = self.0.shadows.part(SHADOWS_MAX);
            Arc::new(Tenant::new(limits, share, shadows, meter, Instant::now()))
        };
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
