//! Jobs: taken, given their turns, told what to do, and brought back after a restart.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use innkeeper_catalog::{
    Catalog, CatalogError, DatasetName, DatasetRecord, JobChange, JobEvent, JobRecord, JobState,
    ModelKey, ModelName, NewJob, TenantName, Used, VersionName,
};
use innkeeper_deploy::Deployer;
use innkeeper_predict::Predictor;
use innkeeper_sandbox::Hyperparameter;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::checkpoint::Folder;
use crate::data::{self, Received};
use crate::import::Importer;
use crate::learn::Told;
use crate::progress::Progress;
use crate::queue::{Entry, Queue};
use crate::request::{self, AliasBar, Into, Request, TrainRequest};
use crate::run::{Ended, Host};
use crate::{CompressRequest, DatasetOptions, TrainError};

/// Numbers that are tried for the name of a version.
const VERSIONS_TRIED_MAX: u64 = 1_000;
/// For how long a stop waits for jobs to become safe.
const REST_MAX: Duration = Duration::from_secs(20);

/// How jobs are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobsConfig {
    /// A folder for checkpoints, and for files while they are written.
    pub dir: PathBuf,
    /// Jobs that run at once, of all tenants.
    pub running_max: u64,
    /// What reads files of rows.
    pub importer: Importer,
}

/// Takes jobs and does them. A clone is the same.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    host: Host,
    running_max: u64,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: Queue,
    running: HashMap<String, Arc<Told>>,
    /// For each job that somebody looks at: counts up when something happens.
    watched: HashMap<String, watch::Sender<u64>>,
    /// Set when the host stops: nothing is begun any more.
    stopping: bool,
}

/// Tells when something happens to a job.
pub struct Watch(watch::Receiver<u64>);

impl Watch {
    /// Waits for the next thing to happen.
    pub async fn changed(&mut self) {
        // The sender lives as long as the jobs do.
        let _ = self.0.changed().await;
    }
}

/// What the catalog holds of what was asked for.
fn parsed(record: &JobRecord) -> Result<Request, TrainError> {
    serde_json::from_str(&record.request)
        .map_err(|error| TrainError::Host(format!("a job's request: {error}")))
}

impl Jobs {
    /// Opens the folder. Nothing is begun before [`Jobs::restore`].
    ///
    /// To be called inside a tokio runtime that has IO.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(
        config: JobsConfig,
        catalog: Catalog,
        predictor: Predictor,
        deployer: Deployer,
    ) -> std::io::Result<Jobs> {
        fs::create_dir_all(&config.dir)?;
        let runtime = Handle::try_current().map_err(std::io::Error::other)?;
        let (running_max, state) = (config.running_max.max(1), Mutex::default());
        let JobsConfig { dir, importer, .. } = config;
        let imports = Semaphore::new(importer.imports_max.max(1));
        let host = Host { catalog, predictor, deployer, dir, importer, imports };
        Ok(Jobs(Arc::new(Inner { host, running_max, runtime, state })))
    }

    /// Takes up what had not ended when the process did.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn restore(&self) -> Result<(), TrainError> {
        let open = self.catalog().open_jobs().await?;
        let known: Vec<&str> = open.iter().map(|job| job.id.as_str()).collect();
        self.forget_folders(&known);
        for job in &open {
            if job.state == JobState::Running {
                let change = event("requeued", json!({}));
                let from = [JobState::Running];
                self.catalog().change_job(&job.id, &from, JobState::Queued, &change).await?;
            }
            if job.state != JobState::Paused {
                self.enqueue(job);
            }
        }
        self.begin_next();
        Ok(())
    }

    /// Takes a job, to be done when it is its tenant's turn. What can be known to be wrong is refused here.
    ///
    /// # Errors
    /// See [`TrainError`].
    pub async fn submit(
        &self,
        tenant: &TenantName,
        request: Request,
    ) -> Result<JobRecord, TrainError> {
        let record = match request {
            Request::Train(train) => self.submit_training(tenant, train).await?,
            Request::Compress(request) => self.submit_compression(tenant, request).await?,
        };
        self.enqueue(&record);
        self.begin_next();
        Ok(record)
    }

    async fn submit_training(
        &self,
        tenant: &TenantName,
        mut train: TrainRequest,
    ) -> Result<JobRecord, TrainError> {
        train.check()?;
        let parent_key = ModelKey::new(tenant.clone(), train.model.clone());
        let parent = self.0.host.parent(&parent_key, train.version.as_deref()).await?;
        self.catalog().dataset(tenant, &train.dataset).await?;
        if let Some(name) = &train.validation_dataset {
            self.catalog().dataset(tenant, name).await?;
        }
        let known = self.0.host.hyperparameters(&parent).await?;
        request::settings(&known, &train.hyperparameters)?;
        // The version is pinned: an alias may stand for another one when the job's turn comes.
        train.version = Some(parent.deployment.version.to_string());
        let (into, model) = (train.into.clone(), train.model.clone());
        self.create(tenant, model, into, &Request::Train(train)).await
    }

    async fn submit_compression(
        &self,
        tenant: &TenantName,
        mut request: CompressRequest,
    ) -> Result<JobRecord, TrainError> {
        request.plan()?;
        request.alias.as_ref().map_or(Ok(()), AliasBar::check)?;
        let key = ModelKey::new(tenant.clone(), request.model.clone());
        let parent = self.0.host.version(&key, request.version.as_deref()).await?;
        // Pinned as a version that is trained.
        request.version = Some(parent.deployment.version.to_string());
        let (into, model) = (request.into.clone(), request.model.clone());
        self.create(tenant, model, into, &Request::Compress(request)).await
    }

    /// A job that makes a version of `into`'s model, or else of `model`.
    async fn create(
        &self,
        tenant: &TenantName,
        model: ModelName,
        into: Into,
        request: &Request,
    ) -> Result<JobRecord, TrainError> {
        let model = ModelKey::new(tenant.clone(), into.model.unwrap_or(model));
        let asked = into.version;
        let limits = self.0.host.predictor.limits(&model.owner);
        let request =
            serde_json::to_string(request).map_err(|error| TrainError::Host(error.to_string()))?;
        let mut number = match asked {
            Some(_) => 0,
            None => self.next_number(&model).await?,
        };
        for _ in 0..VERSIONS_TRIED_MAX {
            let version = match &asked {
                Some(version) => version.clone(),
                None => number
                    .to_string()
                    .parse::<VersionName>()
                    .map_err(|error| TrainError::Host(error.to_string()))?,
            };
            let new = NewJob {
                id: new_id()?,
                model: model.clone(),
                version,
                request: request.clone(),
                jobs_max: limits.jobs_max,
            };
            match self.catalog().create_job(&new).await {
                Err(CatalogError::Conflict { .. }) if asked.is_none() => number += 1,
                created => return Ok(created?),
            }
        }
        Err(TrainError::Invalid("say which version it makes: into.version".into()))
    }

    /// One more than the largest number that a version has for a name.
    async fn next_number(&self, model: &ModelKey) -> Result<u64, TrainError> {
        match self.catalog().model(model).await {
            Ok(record) => {
                let numbers =
                    record.versions.iter().filter_map(|v| v.version.as_str().parse().ok());
                Ok(numbers.max().map_or(1, |number: u64| number.saturating_add(1)))
            }
            Err(CatalogError::NotFound { .. }) => Ok(1),
            Err(error) => Err(error.into()),
        }
    }

    /// The hyper-parameters of one of a tenant's versions.
    ///
    /// # Errors
    /// See [`TrainError`].
    pub async fn hyperparameters(
        &self,
        key: &ModelKey,
        slot: Option<&str>,
    ) -> Result<Vec<Value>, TrainError> {
        let parent = self.0.host.parent(key, slot).await?;
        let known = self.0.host.hyperparameters(&parent).await?;
        Ok(known.iter().map(described).collect())
    }

    /// Lets a job rest: a running one after its next step, when it is safe.
    ///
    /// # Errors
    /// [`TrainError::State`] for a job that has ended or rests.
    pub async fn pause(&self, tenant: &TenantName, id: &str) -> Result<JobRecord, TrainError> {
        let job = self.catalog().job(tenant, id).await?;
        if let Some(told) = self.told(id) {
            told.rest.store(true, Ordering::Relaxed);
            return Ok(job);
        }
        let change = event("paused", json!({}));
        let from = [JobState::Queued];
        if !self.change(id, &from, JobState::Paused, &change).await? {
            return Err(self.wrong_state(tenant, id, "queued or running", "paused").await);
        }
        self.state().queue.remove(id);
        Ok(self.catalog().job(tenant, id).await?)
    }

    /// Lets a job that rests go on.
    ///
    /// # Errors
    /// [`TrainError::State`] for a job that does not rest.
    pub async fn resume(&self, tenant: &TenantName, id: &str) -> Result<JobRecord, TrainError> {
        self.catalog().job(tenant, id).await?;
        let change = event("resumed", json!({}));
        if !self.change(id, &[JobState::Paused], JobState::Queued, &change).await? {
            return Err(self.wrong_state(tenant, id, "paused", "resumed").await);
        }
        let job = self.catalog().job(tenant, id).await?;
        self.enqueue(&job);
        self.begin_next();
        Ok(job)
    }

    /// Ends a job wherever it is. What it has published stays.
    ///
    /// # Errors
    /// [`TrainError::State`] for a job that has ended.
    pub async fn cancel(&self, tenant: &TenantName, id: &str) -> Result<JobRecord, TrainError> {
        self.catalog().job(tenant, id).await?;
        let told = self.told(id);
        if told.as_ref().is_some_and(|told| !told.cancel()) {
            return Err(TrainError::Invalid(format!(
                "job {id} is publishing what it made; delete the version instead"
            )));
        }
        let change = event("cancelled", json!({}));
        let from = [JobState::Queued, JobState::Running, JobState::Paused];
        if !self.change(id, &from, JobState::Cancelled, &change).await? {
            return Err(self.wrong_state(tenant, id, "not over", "cancelled").await);
        }
        self.state().queue.remove(id);
        // The files of one that runs go when it has stopped.
        if told.is_none() {
            self.folder(id).remove();
        }
        Ok(self.catalog().job(tenant, id).await?)
    }

    /// What happened to a job after event `after`.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn events(
        &self,
        id: &str,
        after: i64,
        max: u32,
    ) -> Result<Vec<JobEvent>, TrainError> {
        Ok(self.catalog().job_events(id, after, max).await?)
    }

    /// Tells of what happens to a job from now on.
    pub fn watch(&self, id: &str) -> Watch {
        let mut state = self.state();
        state.watched.retain(|_, sender| sender.receiver_count() > 0);
        let sender = state.watched.entry(id.to_owned()).or_insert_with(|| watch::Sender::new(0));
        Watch(sender.subscribe())
    }

    /// A file that will be a dataset, before its first byte.
    ///
    /// # Errors
    /// The disk.
    pub fn receive(&self, tenant: &TenantName) -> Result<Received, TrainError> {
        let bytes_max = self.0.host.predictor.limits(tenant).upload_bytes_max;
        Received::new(&self.0.host.dir, bytes_max)
    }

    /// Makes a dataset of a file that was sent. True if it is new.
    ///
    /// # Errors
    /// [`TrainError::Data`] with line and column for a file that is none.
    pub async fn create_dataset(
        &self,
        tenant: &TenantName,
        name: &DatasetName,
        options: &DatasetOptions,
        received: Received,
    ) -> Result<(DatasetRecord, bool), TrainError> {
        let limits = self.0.host.predictor.limits(tenant);
        data::create(&self.0.host, name, tenant, options, received, &limits).await
    }

    /// Deletes a dataset that no job is to learn from any more.
    ///
    /// # Errors
    /// [`TrainError::InUse`]: a job that has not ended names it. There is none of this name.
    pub async fn delete_dataset(
        &self,
        tenant: &TenantName,
        name: &DatasetName,
    ) -> Result<(), TrainError> {
        for job in self.catalog().open_jobs().await? {
            if job.model.owner == *tenant && parsed(&job)?.learns_from(name) {
                return Err(TrainError::InUse { dataset: name.clone(), job: job.id });
            }
        }
        Ok(self.catalog().delete_dataset(tenant, name).await?)
    }

    /// Begins nothing any more, and waits until what runs is safe in a checkpoint, for some seconds at most. What is not
    /// goes on from its last one.
    pub async fn stop(&self) {
        let began = Instant::now();
        {
            let mut state = self.state();
            state.stopping = true;
            state.running.values().for_each(|told| told.rest.store(true, Ordering::Relaxed));
        }
        while !self.state().running.is_empty() && began.elapsed() < REST_MAX {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Begins as many jobs as may run.
    fn begin_next(&self) {
        loop {
            let entry = {
                let mut state = self.state();
                if state.stopping {
                    return;
                }
                let predictor = &self.0.host.predictor;
                let tenant_max = |tenant: &TenantName| predictor.limits(tenant).jobs_running_max;
                let Some(entry) = state.queue.next(self.0.running_max, tenant_max) else { return };
                state.running.insert(entry.id.clone(), Arc::default());
                entry
            };
            let jobs = self.clone();
            self.0.runtime.spawn(async move { jobs.turn(entry).await });
        }
    }

    /// One turn of a job, and what becomes of it.
    async fn turn(&self, entry: Entry) {
        let Entry { id, tenant, .. } = &entry;
        if let Err(error) = self.work(tenant, id).await {
            tracing::error!(job = %id, %error, "a job's state could not be written");
        }
        {
            let mut state = self.state();
            state.running.remove(id);
            state.queue.ended(tenant);
        }
        self.begin_next();
    }

    async fn work(&self, tenant: &TenantName, id: &str) -> Result<(), TrainError> {
        let Some(told) = self.told(id) else { return Ok(()) };
        let change = event("started", json!({}));
        if !self.change(id, &[JobState::Queued], JobState::Running, &change).await? {
            // It was cancelled or paused in between.
            if told.cancel.is_cancelled() {
                self.folder(id).remove();
            }
            return Ok(());
        }
        let record = self.catalog().job(tenant, id).await?;
        let began = Instant::now();
        let ended = self.run(&record, &told).await;
        let compute_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let used =
            Used { requests: 0, failures: 0, compute_us, device_us: 0, bytes_in: 0, bytes_out: 0 };
        self.0.host.predictor.count(tenant, &used);
        self.settle(&record, &told, ended).await
    }

    async fn run(&self, record: &JobRecord, told: &Arc<Told>) -> Result<Ended, TrainError> {
        let request = parsed(record)?;
        let reporter = Reporter::new(self.clone(), record.id.clone());
        match &request {
            Request::Train(request) => {
                self.0.host.train(record, request, Arc::clone(told), reporter).await
            }
            Request::Compress(request) => {
                self.0.host.compress(record, request, Arc::clone(told), reporter).await
            }
        }
    }

    /// Writes down how a turn ended.
    async fn settle(
        &self,
        record: &JobRecord,
        told: &Told,
        ended: Result<Ended, TrainError>,
    ) -> Result<(), TrainError> {
        let id = &record.id;
        let running = [JobState::Running];
        match ended {
            Ok(Ended::Done(outcome)) => {
                let result = serde_json::to_string(&outcome).ok();
                let change = JobChange { result, ..event("succeeded", json!(outcome)) };
                self.change(id, &running, JobState::Succeeded, &change).await?;
                self.folder(id).remove();
            }
            Ok(Ended::Rested) if self.state().stopping => {
                let change = event("requeued", json!({}));
                self.change(id, &running, JobState::Queued, &change).await?;
            }
            Ok(Ended::Rested) => {
                self.change(id, &running, JobState::Paused, &event("paused", json!({}))).await?;
            }
            Err(_) if told.cancel.is_cancelled() => {
                // Whoever cancelled it has mostly written so.
                let change = event("cancelled", json!({}));
                self.change(id, &running, JobState::Cancelled, &change).await?;
                self.folder(id).remove();
            }
            Err(error) => {
                tracing::warn!(job = %id, model = %record.model, %error, "a job failed");
                let data = json!({ "code": error.code(), "message": error.told() });
                let change = JobChange { error: Some(data.to_string()), ..event("failed", data) };
                self.change(id, &running, JobState::Failed, &change).await?;
                self.folder(id).remove();
            }
        }
        Ok(())
    }

    async fn change(
        &self,
        id: &str,
        from: &[JobState],
        to: JobState,
        change: &JobChange,
    ) -> Result<bool, TrainError> {
        let changed = self.catalog().change_job(id, from, to, change).await?;
        if let Some(sender) = self.state().watched.get(id) {
            sender.send_modify(|count| *count += 1);
        }
        Ok(changed)
    }

    async fn wrong_state(
        &self,
        tenant: &TenantName,
        id: &str,
        wanted: &'static str,
        act: &'static str,
    ) -> TrainError {
        match self.catalog().job(tenant, id).await {
            Ok(job) => TrainError::State { id: job.id, state: job.state, wanted, act },
            Err(error) => error.into(),
        }
    }

    fn enqueue(&self, job: &JobRecord) {
        let (id, tenant, sequence) = (job.id.clone(), job.model.owner.clone(), job.sequence);
        self.state().queue.push(Entry { id, tenant, sequence });
    }

    fn told(&self, id: &str) -> Option<Arc<Told>> {
        self.state().running.get(id).cloned()
    }

    fn folder(&self, id: &str) -> Folder {
        Folder::of(&self.0.host.dir, id)
    }

    /// Folders of jobs that ended while their files were being removed.
    fn forget_folders(&self, known: &[&str]) {
        let Ok(entries) = fs::read_dir(&self.0.host.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !known.iter().any(|id| name == **id) {
                Folder::of(&self.0.host.dir, &name.to_string_lossy()).remove();
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        &self.0.host.catalog
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of a job that runs how far it is.
pub(crate) struct Reporter {
    jobs: Jobs,
    id: String,
    pub(crate) checkpoint_step: u64,
    /// What happened since it was last told.
    events: Vec<(String, String)>,
}

impl Reporter {
    fn new(jobs: Jobs, id: String) -> Reporter {
        Reporter { jobs, id, checkpoint_step: 0, events: Vec::new() }
    }

    /// Something happened, to be told with the next report.
    pub(crate) fn event(&mut self, kind: &str, data: Value) {
        self.events.push((kind.to_owned(), data.to_string()));
    }

    /// Writes down how far the job is, and what happened.
    pub(crate) async fn report(&mut self, progress: &Progress) -> Result<(), TrainError> {
        let mut told = json!(progress);
        let text = told.to_string();
        if let Some(fields) = told.as_object_mut() {
            // Each epoch is an event of its own.
            fields.remove("history");
        }
        let mut events = std::mem::take(&mut self.events);
        events.push(("progress".to_owned(), told.to_string()));
        let change = JobChange { progress: Some(text), events, ..JobChange::default() };
        let from = [JobState::Running];
        self.jobs.change(&self.id, &from, JobState::Running, &change).await?;
        Ok(())
    }
}

fn event(kind: &str, data: Value) -> JobChange {
    JobChange { events: vec![(kind.to_owned(), data.to_string())], ..JobChange::default() }
}

fn described(one: &Hyperparameter) -> Value {
    use innkeeper_sandbox::SettingKind as Kind;
    let mut told = json!({ "name": one.name, "meaning": one.meaning });
    let kind = match &one.kind {
        Kind::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Text(words) if words.is_empty() => json!({ "type": "string" }),
        Kind::Text(words) => json!({ "type": "string", "enum": words }),
        Kind::Integers(low, high) => json!({
            "type": "array",
            "items": { "type": "integer", "minimum": low, "maximum": high },
        }),
    };
    if let (Some(told), Value::Object(kind)) = (told.as_object_mut(), kind) {
        told.extend(kind);
        if let Some(default) = &one.default {
            told.insert("default".into(), request::json(default));
        }
    }
    told
}

fn new_id() -> Result<String, TrainError> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| TrainError::Host(error.to_string()))?;
    Ok(format!("job-{}", hex::encode(bytes)))
}
