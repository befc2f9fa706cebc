//! A version made ready to run: its code and assets when warm, and each caller's instances.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use innkeeper_catalog::{Digest, ModelKey, TenantName, VersionName};
use innkeeper_sandbox::{Assets, ByteBudget, Charge, Instance, Program};
use innkeeper_tensor::{Buffer, Signature};
use serde::{Deserialize, Serialize};

use crate::admission::{Gate, Rate};
use crate::batch::{Batchers, Padding};
use crate::sequences::Sequences;
use crate::stats::{ByCaller, Stats};
use crate::{
    Batching, Caching, Instances, LimitOverrides, Limits, PredictError, Sequencing, Statistics,
};

/// How long an instance is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A fresh instance for every request.
    Request,
    /// An instance is used again, by the tenant it was made for and no other.
    #[default]
    Tenant,
}

/// Brings a version's code and assets into memory. Written by whoever knows where they are stored.
pub trait Loader: Send + Sync + 'static {
    /// The code and the assets, or why they cannot be had.
    fn load(&self) -> Pin<Box<dyn Future<Output = Result<Loaded, LoadError>> + Send + '_>>;
}

/// Why a version cannot be brought into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Its owner's assets in memory leave no room; the text names the limit.
    NoRoom(String),
    /// Something is broken; the text is for the host's log.
    Broken(String),
}

/// A version's code and assets.
#[derive(Clone)]
pub struct Loaded {
    /// The code.
    pub program: Arc<Program>,
    /// The read-only files.
    pub assets: Arc<Assets>,
}

/// What a [`Deployment`] is made of.
pub struct DeploymentParts {
    /// The model.
    pub model: ModelKey,
    /// The version.
    pub version: VersionName,
    /// Its identity.
    pub digest: Digest,
    /// Its interface.
    pub signature: Signature,
    /// How long an instance is kept.
    pub isolation: Isolation,
    /// Limits that the model lowers for itself.
    pub limits: LimitOverrides,
    /// How its requests are put together, if they are.
    pub batching: Option<Batching>,
    /// Whether its answers are kept, if its manifest says anything about that.
    pub caching: Option<Caching>,
    /// How it keeps sequences, if it does.
    pub sequencing: Option<Sequencing>,
    /// How many instances it has, if its manifest says anything about that.
    pub instances: Option<Instances>,
    /// What it is, in its author's words.
    pub description: String,
    /// When it was published, in milliseconds since 1970.
    pub created_ms: i64,
    /// Brings it into memory.
    pub loader: Arc<dyn Loader>,
}

/// A version made ready to run.
pub struct Deployment {
    /// The model.
    pub model: ModelKey,
    /// The version.
    pub version: VersionName,
    /// Its identity.
    pub digest: Digest,
    /// Its interface.
    pub signature: Signature,
    /// How long an instance is kept.
    pub isolation: Isolation,
    /// Limits that the model lowers for itself.
    pub limits: LimitOverrides,
    /// What it is, in its author's words.
    pub description: String,
    /// When it was published, in milliseconds since 1970.
    pub created_ms: i64,
    batchers: Option<Batchers>,
    caching: Option<Caching>,
    sequences: Option<Arc<Sequences>>,
    instances: Option<Instances>,
    loader: Arc<dyn Loader>,
    /// Held while loading, so that many first requests load once.
    loading: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// The model's own bounds, one for each caller: a tenant must not use up what another may. They outlive `state`,
    /// because predictions that run count on.
    bounds: Mutex<HashMap<TenantName, Arc<Bounds>>>,
    typical_us: AtomicU64,
    stats: ByCaller,
}

#[derive(Default)]
struct State {
    loaded: Option<Loaded>,
    callers: HashMap<TenantName, Caller>,
    used: Option<Instant>,
}

/// What a deployment holds for one calling tenant. Tenants share none of it: neither instances, nor the blame for
/// failures.
#[derive(Default)]
struct Caller {
    warm: Vec<Warm>,
    /// The part of the caller's budget that this model may take, if its manifest sets one.
    tensor_bytes: Option<Arc<ByteBudget>>,
    failures: u32,
    rests_until: Option<Instant>,
}

/// What a model's manifest lets one caller do at once and in a second.
pub(crate) struct Bounds {
    pub(crate) gate: Option<Gate>,
    rate: Rate,
}

/// An instance that waits for its next request.
struct Warm {
    instance: Instance,
    since: Instant,
    /// Its place among all that the tenant keeps.
    _place: Charge,
    /// What it was made under.
    limits: Limits,
}

/// A prediction that typically takes longer than this goes to the guests' own threads at once.
const INLINE_US_MAX: u64 = 300;
/// A call that was only kept waiting by others takes no longer than this.
const EXPLAINED_US_MAX: u64 = 20_000;

/// When a model that keeps failing is left alone, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row after which it rests.
    pub failures_max: u32,
    /// Milliseconds of rest.
    pub rest_ms: u64,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { failures_max: 50, rest_ms: 1_000 }
    }
}

impl Deployment {
    /// A deployment of these parts, cold.
    pub fn new(parts: DeploymentParts) -> Arc<Deployment> {
        Arc::new(Deployment {
            bounds: Mutex::default(),
            model: parts.model,
            version: parts.version,
            digest: parts.digest,
            batchers: parts.batching.map(|batching| {
                let max = parts.instances.as_ref().map_or(Instances::MAX, |it| it.max);
                Batchers::new(batching, &parts.signature, max)
            }),
            signature: parts.signature,
            caching: parts.caching,
            sequences: parts.sequencing.map(Sequences::new),
            instances: parts.instances,
            isolation: parts.isolation,
            limits: parts.limits,
            description: parts.description,
            created_ms: parts.created_ms,
            loader: parts.loader,
            loading: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
            typical_us: AtomicU64::new(0),
            stats: ByCaller::default(),
        })
    }

    /// Where the caller's predictions are counted.
    pub(crate) fn stats(&self, caller: &TenantName) -> Arc<Stats> {
        self.stats.of(caller)
    }

    /// What happened since the version was made ready, for each caller apart and in no order.
    pub fn statistics(&self) -> Vec<(TenantName, Statistics)> {
        self.stats.all()
    }

    /// Bytes of its assets, while they are in memory.
    pub fn loaded_asset_bytes(&self) -> Option<u64> {
        self.state().loaded.as_ref().map(|loaded| loaded.assets.byte_length())
    }

    /// How its requests are put together, if they are.
    pub fn batching(&self) -> Option<&Batching> {
        self.batchers.as_ref().map(|batchers| &batchers.batching)
    }

    /// Whether its answers are kept.
    pub fn caches(&self) -> bool {
        self.caching.as_ref().is_some_and(|caching| caching.enabled)
    }

    /// How it keeps sequences, if it does.
    pub fn sequencing(&self) -> Option<&Sequencing> {
        self.sequences.as_ref().map(|sequences| &sequences.sequencing)
    }

    /// How many instances it has, if its manifest says anything about that.
    pub fn instances(&self) -> Option<&Instances> {
        self.instances.as_ref()
    }

    pub(crate) fn sequences(&self) -> Option<&Arc<Sequences>> {
        self.sequences.as_ref()
    }

    pub(crate) fn batchers(&self) -> Option<&Batchers> {
        self.batchers.as_ref()
    }

    pub(crate) fn paddings(&self) -> &[Padding] {
        self.batchers.as_ref().map_or(&[], |batchers| &batchers.paddings)
    }

    /// Whether requests of several tenants may share a batch.
    pub(crate) fn shares_batches(&self) -> bool {
        self.batching().is_some_and(|batching| batching.across_tenants)
    }

    /// The code and assets, if they are in memory.
    pub(crate) fn in_memory(&self) -> Option<Loaded> {
        self.state().loaded.clone()
    }

    /// The code and assets, brought into memory if they are not there and there is room.
    pub(crate) async fn bring_up(&self) -> Result<Loaded, PredictError> {
        let _one_at_a_time = self.loading.lock().await;
        if let Some(loaded) = self.state().loaded.clone() {
            return Ok(loaded);
        }
        let loaded = self.loader.load().await.map_err(|error| match error {
            LoadError::NoRoom(why) => PredictError::NoRoom(why),
            LoadError::Broken(why) => PredictError::Load(why),
        })?;
        self.state().loaded = Some(loaded.clone());
        Ok(loaded)
    }

    /// A warm instance of this caller's, if there is one. What was made under other limits still keeps to those, and
    /// is let go.
    pub(crate) fn take_warm(
        &self,
        caller: &TenantName,
        limits: &Limits,
        now: Instant,
    ) -> Option<Instance> {
        let mut state = self.state();
        state.used = Some(now);
        let warm = &mut state.callers.get_mut(caller)?.warm;
        while let Some(kept) = warm.pop() {
            if kept.limits == *limits {
                return Some(kept.instance);
            }
        }
        None
    }

    /// It is used now: its code is not let go for a while.
    pub(crate) fn touch(&self, now: Instant) {
        self.state().used = Some(now);
    }

    /// Keeps an instance for the caller's next request, unless enough are kept of this model or by this tenant.
    pub(crate) fn keep_warm(
        &self,
        caller: &TenantName,
        instance: Instance,
        limits: &Limits,
        kept_by_tenant: &Arc<ByteBudget>,
    ) {
        let mut state = self.state();
        let warm = &mut state.callers.entry(caller.clone()).or_default().warm;
        if (warm.len() as u64) < limits.warm_instances_max
            && let Ok(place) = kept_by_tenant.charge(1)
        {
            let since = Instant::now();
            warm.push(Warm { instance, since, _place: place, limits: limits.clone() });
        }
    }

    /// What the caller's instances of this model count their tensors against.
    pub(crate) fn tensor_bytes(
        &self,
        caller: &TenantName,
        all: &Arc<ByteBudget>,
    ) -> Arc<ByteBudget> {
        let Some(max) = self.limits.tensor_bytes_max else { return Arc::clone(all) };
        let mut state = self.state();
        let part = &mut state.callers.entry(caller.clone()).or_default().tensor_bytes;
        Arc::clone(part.get_or_insert_with(|| all.part(max)))
    }

    /// Counts one start against the model's own rate, and gives back the model's own gate, where its manifest sets
    /// them.
    pub(crate) fn start(
        &self,
        caller: &TenantName,
        now: Instant,
    ) -> Result<Option<Arc<Bounds>>, PredictError> {
        let LimitOverrides {
            requests_in_flight_max: places, requests_per_second_max: rate, ..
        } = self.limits;
        let most = self.instances.as_ref().map(|instances| instances.max);
        // A batch takes one instance for many requests, and is bounded where it is begun.
        let most = most.filter(|_| self.batchers.is_none());
        let places = places.into_iter().chain(most).min();
        if places.is_none() && rate.is_none() {
            return Ok(None);
        }
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Bounds { gate: places.map(Gate::new), rate: Rate::new(now) });
        let bounds = Arc::clone(bounds.entry(caller.clone()).or_insert_with(new));
        rate.map_or(Ok(()), |max| bounds.rate.start(now, max))?;
        Ok(Some(bounds))
    }

    /// Whether the model rests for this caller.
    pub(crate) fn check_breaker(
        &self,
        caller: &TenantName,
        now: Instant,
    ) -> Result<(), PredictError> {
        let state = self.state();
        let Some(caller) = state.callers.get(caller) else { return Ok(()) };
        let Some(left) = caller.rests_until.and_then(|until| until.checked_duration_since(now))
        else {
            return Ok(());
        };
        let retry_after_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        Err(PredictError::Breaker { failures: caller.failures, retry_after_ms })
    }

    /// Counts an answer or a failure of the model's own.
    pub(crate) fn note(&self, caller: &TenantName, failed: bool, now: Instant, breaker: &Breaker) {
        let mut state = self.state();
        if !failed {
            if let Some(caller) = state.callers.get_mut(caller) {
                caller.failures = 0;
            }
            return;
        }
        let caller = state.callers.entry(caller.clone()).or_default();
        caller.failures = caller.failures.saturating_add(1);
        if caller.failures >= breaker.failures_max {
            caller.rests_until = Some(now + Duration::from_millis(breaker.rest_ms));
        }
    }

    /// Whether a prediction is likely to be over soon, and may run where it was asked for.
    pub(crate) fn is_quick(&self) -> bool {
        let long = |loaded: &Loaded| loaded.program.has_long_operations();
        self.typical_us.load(Ordering::Relaxed) < INLINE_US_MAX
            && !self.state().loaded.as_ref().is_some_and(long)
    }

    pub(crate) fn note_duration(&self, us: u64) {
        // A busy machine makes single calls look slow that are not: one of them counts for a few ordinary ones only.
        // What no busy machine explains counts in full, and is not forgotten soon.
        let us = if us < EXPLAINED_US_MAX { us.min(4 * INLINE_US_MAX) } else { us };
        let old = self.typical_us.load(Ordering::Relaxed);
        self.typical_us
            .store(old.saturating_mul(15).saturating_add(us).div_ceil(16), Ordering::Relaxed);
    }

    /// Warm instances, those of `caller` or of all.
    pub fn warm_instances(&self, caller: Option<&TenantName>) -> u64 {
        let state = self.state();
        let callers = state.callers.iter().filter(|(name, _)| caller.is_none_or(|c| c == *name));
        callers.map(|(_, caller)| caller.warm.len() as u64).sum()
    }

    /// Ends the sequences that nobody goes on with.
    pub(crate) fn expire_sequences(&self, now: Instant) {
        self.sequences.iter().for_each(|sequences| sequences.expire(now));
    }

    /// Lets go of everything that was not used since `before`; gives back whether it did.
    pub(crate) fn cool(&self, before: Instant) -> bool {
        let mut state = self.state();
        if state.loaded.is_none() || state.used.is_some_and(|used| used >= before) {
            return false;
        }
        *state = State::default();
        true
    }

    /// Lets go of instances over the minimum that nobody needed for long.
    pub(crate) fn shrink(&self, now: Instant) {
        let Some(instances) = &self.instances else { return };
        let Some(before) = now.checked_sub(instances.idle()) else { return };
        for (name, caller) in &mut self.state().callers {
            let min = if *name == self.model.owner { instances.min } else { 0 };
            // The oldest stand in front, since the latest is taken first.
            let surplus = (caller.warm.len() as u64).saturating_sub(min);
            let old = caller.warm.iter().take_while(|warm| warm.since < before).count();
            caller.warm.drain(..old.min(usize::try_from(surplus).unwrap_or(usize::MAX)));
        }
    }

    /// How many instances are missing of those that are to be ready. One that answers counts as one.
    pub(crate) fn few(&self) -> u64 {
        let min = self.instances.as_ref().map_or(0, |instances| instances.min);
        let state = self.state();
        let warm = |caller: &Caller| caller.warm.len() as u64;
        let all: u64 = state.callers.values().map(warm).sum();
        let held = state.loaded.as_ref().map_or(0, |it| Arc::strong_count(&it.assets) as u64);
        let answering = held.saturating_sub(all + 1);
        let ready = state.callers.get(&self.model.owner).map_or(0, warm);
        min.saturating_sub(ready + answering)
    }

    /// Whether letting go of it would give memory back: it has assets there, and no call holds them.
    pub(crate) fn could_leave(&self) -> bool {
        let state = self.state();
        let warm: usize = state.callers.values().map(|caller| caller.warm.len()).sum();
        let rests = |loaded: &Loaded| Arc::strong_count(&loaded.assets) <= warm + 1;
        state.loaded.as_ref().is_some_and(|it| it.assets.byte_length() > 0 && rests(it))
    }

    /// When it was used last; none that was not used at all.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        self.state().used
    }

    /// Lets go of everything; false where there was nothing.
    pub(crate) fn leave(&self) -> bool {
        std::mem::take(&mut *self.state()).loaded.is_some()
    }

    /// Lets go of the instances that wait, and keeps the code.
    pub(crate) fn let_go(&self) {
        self.state().callers.values_mut().for_each(|caller| caller.warm.clear());
    }

    /// One of its assets, brought into memory if it is not there.
    ///
    /// # Errors
    /// [`PredictError::NoRoom`] and [`PredictError::Load`].
    pub async fn asset(&self, name: &str) -> Result<Option<Buffer>, PredictError> {
        let loaded = match self.in_memory() {
            Some(loaded) => loaded,
            None => self.bring_up().await?,
        };
        Ok(loaded.assets.get(name).map(|asset| asset.bytes.clone()))
    }

    /// Lets go of code, assets and all warm instances: the version is no longer served.
    pub fn retire(&self) {
        *self.state() = State::default();
        self.sequences.iter().for_each(|sequences| sequences.clear());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
