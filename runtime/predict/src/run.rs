//! Admitted requests on their way through an instance, alone or together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use innkeeper_catalog::{TenantName, Used};
use innkeeper_sandbox::{Call, Cancel, GuestError, Instance, Setup, Share};
use innkeeper_tensor::{Mismatch, Named};
use tokio::sync::oneshot;

use crate::admission::{InFlight, Patience};
use crate::batch::{self, Lane};
use crate::deployment::Loaded;
use crate::sequences::InSequence;
use crate::stats::{self, Laps, Watch};
use crate::tenant::Tenant;
use crate::{Deployment, Fault, Isolation, Limits, PredictError, Predictor, Timeline};

/// The outputs of one request, in no order.
pub(crate) type Answer = Result<Vec<Named>, PredictError>;

/// One admitted request. It goes to its end even if the caller leaves, so that the instance and the places are given
/// back properly.
pub(crate) struct Job {
    pub(crate) predictor: Predictor,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) caller: TenantName,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) limits: Limits,
    pub(crate) id: String,
    pub(crate) parameters: Arc<Vec<(String, String)>>,
    pub(crate) inputs: Vec<Named>,
    /// What the inputs are together, counted for the tenant.
    pub(crate) bytes_in: u64,
    pub(crate) outputs: Arc<Vec<String>>,
    /// Its size along the batch axis, where it may share a batch.
    pub(crate) rows: u64,
    pub(crate) priority: u64,
    pub(crate) patience: Patience,
    pub(crate) deadline: Instant,
    pub(crate) cancel: Cancel,
    /// Given back when the job is done.
    pub(crate) places: [Option<InFlight>; 2],
    /// Its turn in the sequence that it belongs to, if it does.
    pub(crate) sequence: Option<InSequence>,
    /// Where it leaves when it passed its stations, where it is traced.
    pub(crate) timeline: Option<Timeline>,
    /// Where it is counted.
    pub(crate) watch: Watch,
    pub(crate) answer: oneshot::Sender<Answer>,
}

impl Job {
    /// What others must have in common with it to run together with it.
    pub(crate) fn lane(&self) -> Lane {
        let (axis, paddings) = (self.deployment.signature.batch_axis, self.deployment.paddings());
        let sizes = |input: &Named| {
            let mut dims = input.tensor.shape().dims().to_vec();
            let padded = paddings.iter().find_map(|padding| padding.axis_of(&input.name));
            for axis in axis.into_iter().chain(padded) {
                dims.get_mut(axis).into_iter().for_each(|size| *size = 0);
            }
            (input.name.clone(), dims)
        };
        let mut inputs: Vec<_> = self.inputs.iter().map(sizes).collect();
        inputs.sort();
        let caller = (!self.deployment.shares_batches()).then(|| self.caller.clone());
        let (parameters, outputs) = (self.parameters.to_vec(), self.outputs.to_vec());
        Lane { caller, parameters, outputs, inputs }
    }

    /// It has waited too long for its turn.
    pub(crate) fn expire(mut self) {
        let error = self.patience.over();
        self.watch.failed(&error);
        let _ = self.answer.send(Err(error));
    }

    /// Runs it by itself.
    async fn alone(mut self) {
        let began = Instant::now();
        self.watch.admitted(began);
        let rows = stats::rows(&self.deployment.signature, &self.inputs);
        let call = Call {
            id: std::mem::take(&mut self.id),
            parameters: Arc::clone(&self.parameters),
            inputs: std::mem::take(&mut self.inputs),
            outputs: Arc::clone(&self.outputs),
            deadline: self.deadline,
            deadline_ms_max: self.limits.deadline_ms_max,
            cancel: self.cancel.clone(),
            work: self.timeline.is_some().then(Arc::default),
        };
        let mut laps = Laps::default();
        let host = self.host();
        let answer = host.answer(call, self.sequence.as_mut(), &mut laps).await;
        if answer.is_ok() {
            self.watch.stats().executed(rows, &laps);
        }
        let us = micros(began.elapsed());
        self.deployment.note_duration(us);
        self.finish(us, answer, &laps, rows);
    }

    fn host(&self) -> Host {
        Host {
            predictor: self.predictor.clone(),
            deployment: Arc::clone(&self.deployment),
            caller: self.caller.clone(),
            tenant: Arc::clone(&self.tenant),
            limits: self.limits.clone(),
        }
    }

    /// Accounts for it and tells its caller, who may have left. `rows` are all that ran with it.
    fn finish(mut self, us: u64, answer: Answer, laps: &Laps, rows: u64) {
        if let Some(timeline) = &self.timeline
            && let Some(stations) = self.watch.stations(laps, rows)
        {
            timeline.set(stations);
        }
        match &answer {
            Ok(_) => self.watch.succeeded(laps),
            Err(error) => self.watch.failed(error),
        }
        let (tenant, deployment) = (&self.tenant, &self.deployment);
        let error = answer.as_ref().err();
        tenant.count(&Used {
            requests: 1,
            failures: u64::from(error.is_some()),
            compute_us: us,
            device_us: 0,
            bytes_in: self.bytes_in,
            bytes_out: answer.as_ref().map_or(0, |outputs| bytes_of(outputs)),
        });
        let failed = error.is_some_and(|error| error.fault() == Fault::Plugin);
        deployment.note(&self.caller, failed, Instant::now(), self.predictor.breaker());
        if failed && let Some(error) = error {
            self.predictor.log_error(deployment, &error.to_string());
        }
        drop((self.places, self.sequence));
        let _ = self.answer.send(answer);
    }
}

/// Requests that run together, or one that runs alone.
pub(crate) struct Batch(Vec<Job>);

impl Batch {
    pub(crate) fn new(jobs: Vec<Job>) -> Batch {
        Batch(jobs)
    }

    /// Whether it is likely to be over soon, and may run where it was asked for.
    pub(crate) fn is_quick(&self) -> bool {
        self.0.first().is_some_and(|job| job.deployment.is_quick())
    }

    /// Whose turns it takes: those of whose instance it runs in.
    pub(crate) fn share(&self) -> Arc<Share> {
        Arc::clone(&self.host().tenant.share)
    }

    /// Runs it to its end. Every job is answered by its own channel.
    pub(crate) async fn run(mut self) {
        if self.0.len() > 1 {
            return self.together().await;
        }
        if let Some(job) = self.0.pop() {
            job.alone().await;
        }
    }

    async fn together(mut self) {
        let began = Instant::now();
        self.0.iter_mut().for_each(|job| job.watch.admitted(began));
        let mut laps = Laps::default();
        let answers = self.answers(began, &mut laps).await;
        let us = micros(began.elapsed());
        let Batch(jobs) = self;
        jobs[0].deployment.note_duration(us);
        match answers {
            Ok(answers) => {
                let rows: u64 = jobs.iter().map(|job| job.rows).sum();
                jobs[0].watch.stats().executed(rows, &laps);
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let share = us.saturating_mul(job.rows) / rows.max(1);
                    job.finish(share, Ok(answer), &laps, rows);
                }
            }
            // One of them may be to blame: each is tried by itself, at the same time as the others.
            Err(error) if may_go_better_alone(&error) => {
                for job in jobs {
                    let engine = job.predictor.engine().clone();
                    let share = Arc::clone(&job.tenant.share);
                    engine.spawn(job.alone(), &share);
                }
            }
            Err(error) => {
                jobs.into_iter().for_each(|job| job.finish(0, Err(error.clone()), &laps, 0));
            }
        }
    }

    /// The outputs of each, in order.
    async fn answers(
        &self,
        began: Instant,
        laps: &mut Laps,
    ) -> Result<Vec<Vec<Named>>, PredictError> {
        let first = &self.0[0];
        let axis = first.deployment.signature.batch_axis.unwrap_or_default();
        let outputs = self.host().answer(self.call(began, axis)?, None, laps).await?;
        let rows: Vec<usize> = self.0.iter().map(|job| job.rows as usize).collect();
        let answers = batch::split(&outputs, axis, &rows).and_then(|answers| self.cut(answers));
        answers.map_err(PredictError::BadAnswer).inspect_err(|error| {
            first.predictor.log_error(&first.deployment, &error.to_string());
        })
    }

    /// The outputs of requests that were padded, cut back.
    fn cut(&self, mut answers: Vec<Vec<Named>>) -> Result<Vec<Vec<Named>>, Mismatch> {
        for padding in self.0[0].deployment.paddings() {
            let lengths = self.0.iter().map(|job| padding.length(&job.inputs).unwrap_or(0));
            let longest = lengths.clone().max().unwrap_or(0);
            for (answer, length) in answers.iter_mut().zip(lengths) {
                padding.cut(answer, length, longest)?;
            }
        }
        Ok(answers)
    }

    /// Whose instance it runs in: the callers' own where all are of one tenant, else the owner's.
    fn host(&self) -> Host {
        let mut host = self.0[0].host();
        if self.0.iter().any(|job| job.caller != host.caller) {
            host.caller = host.deployment.model.owner.clone();
            host.tenant = host.predictor.tenant(&host.caller);
            host.limits = host.tenant.limits().lowered(&host.deployment.limits);
        }
        host
    }

    fn stacked(&self, axis: usize) -> Result<Vec<Named>, GuestError> {
        let first = &self.0[0];
        let mut requests: Vec<Vec<Named>> = self.0.iter().map(|job| job.inputs.clone()).collect();
        let failed = |error| GuestError::Host(format!("a batch was not stacked: {error}"));
        for padding in first.deployment.paddings() {
            let (limit, max) = ("tensor_bytes_max", first.limits.tensor_bytes_max);
            if padding.bytes(&requests) > max {
                return Err(GuestError::NoRoom { limit, max });
            }
            padding.pad(&mut requests).map_err(failed)?;
        }
        batch::stack(&requests, axis).map_err(failed)
    }

    fn call(&self, began: Instant, axis: usize) -> Result<Call, PredictError> {
        let first = &self.0[0];
        let inputs = self.stacked(axis)?;
        let deadline = self.0.iter().map(|job| job.deadline).min().unwrap_or(began);
        let cancels: Vec<Cancel> = self.0.iter().map(|job| job.cancel.clone()).collect();
        Ok(Call {
            id: first.id.clone(),
            parameters: Arc::clone(&first.parameters),
            inputs,
            outputs: Arc::clone(&first.outputs),
            // The other half is for trying each alone.
            deadline: began + deadline.saturating_duration_since(began) / 2,
            deadline_ms_max: first.limits.deadline_ms_max,
            cancel: Cancel::when_all(cancels),
            work: self.0.iter().any(|job| job.timeline.is_some()).then(Arc::default),
        })
    }
}

/// What one request may have brought upon all, or what they are together too large for.
fn may_go_better_alone(error: &PredictError) -> bool {
    match error {
        PredictError::Guest(GuestError::Cancelled) => false,
        PredictError::Guest(GuestError::Refused(_) | GuestError::NoRoom { .. }) => true,
        error => error.fault() == Fault::Plugin,
    }
}

/// Whose instance answers, and under which limits.
pub(crate) struct Host {
    predictor: Predictor,
    deployment: Arc<Deployment>,
    caller: TenantName,
    tenant: Arc<Tenant>,
    pub(crate) limits: Limits,
}

impl Host {
    pub(crate) fn new(
        predictor: &Predictor,
        deployment: &Arc<Deployment>,
        tenant: (&TenantName, &Arc<Tenant>),
    ) -> Host {
        Host {
            predictor: predictor.clone(),
            deployment: Arc::clone(deployment),
            caller: tenant.0.clone(),
            tenant: Arc::clone(tenant.1),
            limits: tenant.1.limits().lowered(&deployment.limits),
        }
    }

    /// A guest's outputs, held against the signature.
    async fn answer(
        &self,
        call: Call,
        sequence: Option<&mut InSequence>,
        laps: &mut Laps,
    ) -> Answer {
        let outputs = Arc::clone(&call.outputs);
        let answer = self.guest(call, sequence, laps).await?;
        let answered = Instant::now();
        let checked = self.checked(answer, &outputs);
        laps.output = answered.elapsed();
        checked
    }

    /// The same by a fresh instance that nobody uses before or after, if there is room for one as it is.
    pub(crate) async fn once(&self, call: Call) -> Answer {
        let loaded = self.predictor.loaded(&self.deployment).await?;
        self.deployment.touch(Instant::now());
        let mut instance = loaded.program.instantiate(self.setup(&loaded, &call)).await?;
        let outputs = Arc::clone(&call.outputs);
        let answer = instance.predict(call).await?;
        self.checked(answer, &outputs)
    }

    fn checked(&self, answer: Vec<Named>, outputs: &[String]) -> Answer {
        let wanted = |name: &str| outputs.is_empty() || outputs.iter().any(|o| o == name);
        let kept: Result<(), Mismatch> = self.deployment.signature.check_outputs(&answer, wanted);
        kept.map(|()| answer).map_err(PredictError::BadAnswer)
    }

    async fn guest(
        &self,
        call: Call,
        mut sequence: Option<&mut InSequence>,
        laps: &mut Laps,
    ) -> Result<Vec<Named>, PredictError> {
        let began = Instant::now();
        laps.began = Some(began);
        let warm = match (&mut sequence, self.deployment.isolation) {
            (Some(sequence), _) => {
                self.deployment.touch(began);
                sequence.take()
            }
            (None, Isolation::Tenant) => {
                self.deployment.take_warm(&self.caller, &self.limits, began)
            }
            (None, Isolation::Request) => {
                self.deployment.touch(began);
                None
            }
        };
        let mut instance = match warm {
            Some(instance) => instance,
            None => self.fresh_instance(&call).await?,
        };
        let ready = Instant::now();
        laps.input = ready - began;
        let work = call.work.clone();
        let answer = instance.predict(call).await;
        laps.infer = ready.elapsed();
        if let Some(work) = work {
            (laps.kernels, laps.operations) = (work.time(), work.operations());
        }
        let usable = answer.as_ref().err().is_none_or(GuestError::leaves_instance_usable);
        if let Some(sequence) = sequence {
            // What it holds is the sequence's state, so that it may be held between two calls and be worn.
            if usable {
                sequence.keep(instance);
            }
            return answer.map_err(PredictError::from);
        }
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
        let loaded = self.predictor.loaded(&self.deployment).await?;
        match loaded.program.instantiate(self.setup(&loaded, call)).await {
            Err(GuestError::Busy) => {}
            instance => return Ok(instance?),
        }
        // Instances that wait for somebody's next request make room for one that is needed now.
        self.predictor.let_go_of_warm_instances();
        Ok(loaded.program.instantiate(self.setup(&loaded, call)).await?)
    }

    fn setup(&self, loaded: &Loaded, call: &Call) -> Setup {
        self.setup_by(loaded, call.deadline, &call.cancel)
    }

    fn setup_by(&self, loaded: &Loaded, deadline: Instant, cancel: &Cancel) -> Setup {
        let load_ms_max = self.limits.load_ms_max.min(self.limits.deadline_ms_max);
        Setup {
            assets: Arc::clone(&loaded.assets),
            limits: self.limits.instance(),
            tensor_bytes: self.deployment.tensor_bytes(&self.caller, &self.tenant.tensor_bytes),
            log: self.predictor.log_sink(&self.deployment),
            deadline: deadline.min(Instant::now() + Duration::from_millis(load_ms_max)),
            load_ms_max,
            cancel: cancel.clone(),
        }
    }

    /// Keeps one more instance for the next request, if there is room for it as it is.
    pub(crate) async fn ready(&self) -> Result<(), PredictError> {
        let loaded = self.predictor.loaded(&self.deployment).await?;
        let deadline = Instant::now() + Duration::from_millis(self.limits.deadline_ms_max);
        let setup = self.setup_by(&loaded, deadline, &Cancel::default());
        let instance = loaded.program.instantiate(setup).await?;
        let kept = &self.tenant.warm_instances;
        self.deployment.keep_warm(&self.caller, instance, &self.limits, kept);
        Ok(())
    }
}

/// The bytes of some tensors together.
pub(crate) fn bytes_of(tensors: &[Named]) -> u64 {
    tensors.iter().map(|named| named.tensor.as_bytes().len() as u64).sum()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
