//! What one tenant uses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use innkeeper_catalog::{Meter, Used};
use innkeeper_sandbox::{ByteBudget, Share};

use crate::admission::{Gate, InFlight, Patience, Rate};
use crate::cache::Cache;
use crate::{Limits, LogLevels, PredictError};

/// One tenant's limits, and what counts against them.
pub(crate) struct Tenant {
    limits: RwLock<Arc<Limits>>,
    gate: Gate,
    rate: Rate,
    /// Its part of the guests' processors.
    pub(crate) share: Arc<Share>,
    pub(crate) tensor_bytes: Arc<ByteBudget>,
    /// The files of its versions, whoever calls them.
    pub(crate) asset_memory: Arc<ByteBudget>,
    /// Counts instances, not bytes: those that are kept for a next request, over all models.
    pub(crate) warm_instances: Arc<ByteBudget>,
    /// Counts sequences, not bytes: those that are open, over all models.
    pub(crate) sequences: Arc<ByteBudget>,
    /// Counts requests, not bytes: those that its candidates are shown now.
    pub(crate) shadows: Arc<ByteBudget>,
    /// What it was answered and may be answered again.
    pub(crate) cache: Cache,
    /// Which messages of its models are kept.
    pub(crate) log_levels: ArcSwap<LogLevels>,
    /// Counts what outlives the process; none where nobody keeps it.
    meter: Option<Meter>,
    requests: AtomicU64,
    failures: AtomicU64,
    compute_us: AtomicU64,
}

/// What a tenant uses now, and has used since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Predictions that run.
    pub requests_in_flight: u64,
    /// Predictions that wait for their turn.
    pub requests_queued: u64,
    /// Bytes behind tensor handles.
    pub tensor_bytes: u64,
    /// Bytes of assets in memory, and what is derived from them.
    pub asset_memory_bytes: u64,
    /// Instances kept for the next request.
    pub warm_instances: u64,
    /// Sequences that are open.
    pub sequences: u64,
    /// Bytes of answers that are kept to be given again.
    pub cache_bytes: u64,
    /// Predictions since the process began.
    pub requests: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Microseconds that guests ran.
    pub compute_us: u64,
}

impl Usage {
    /// Adds what another tenant uses.
    pub fn add(&mut self, other: &Usage) {
        self.requests_in_flight += other.requests_in_flight;
        self.requests_queued += other.requests_queued;
        self.tensor_bytes += other.tensor_bytes;
        self.asset_memory_bytes += other.asset_memory_bytes;
        self.warm_instances += other.warm_instances;
        self.sequences += other.sequences;
        self.cache_bytes += other.cache_bytes;
        self.requests += other.requests;
        self.failures += other.failures;
        self.compute_us += other.compute_us;
    }
}

impl Tenant {
    /// A tenant with these limits, whose guests run as `share`.
    pub(crate) fn new(
        limits: Limits,
        share: Arc<Share>,
        shadows: Arc<ByteBudget>,
        meter: Option<Meter>,
        now: Instant,
    ) -> Tenant {
        Tenant {
            share,
            shadows,
            tensor_bytes: ByteBudget::new(limits.tensor_bytes_max),
            asset_memory: ByteBudget::new(limits.asset_memory_bytes_max),
            warm_instances: ByteBudget::new(limits.warm_instances_total_max),
            sequences: ByteBudget::new(limits.sequences_max),
            cache: Cache::new(),
            gate: Gate::new(limits.requests_in_flight_max),
            limits: RwLock::new(Arc::new(limits)),
            rate: Rate::new(now),
            meter,
            log_levels: ArcSwap::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            compute_us: AtomicU64::new(0),
        }
    }

    pub(crate) fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// New limits hold for whatever starts from now on.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.tensor_bytes.set_max(limits.tensor_bytes_max);
        self.asset_memory.set_max(limits.asset_memory_bytes_max);
        self.warm_instances.set_max(limits.warm_instances_total_max);
        self.sequences.set_max(limits.sequences_max);
        self.share.set_weight(limits.compute_weight);
        self.gate.resize(limits.requests_in_flight_max);
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// Counts one start against the tenant's rate.
    pub(crate) fn check_rate(&self, now: Instant) -> Result<(), PredictError> {
        self.rate.start(now, self.limits().requests_per_second_max)
    }

    /// A place for one prediction, under its model's limits.
    pub(crate) async fn admit(
        &self,
        limits: &Limits,
        patience: &Patience,
    ) -> Result<InFlight, PredictError> {
        self.gate.enter(limits, patience).await
    }

    /// Counts what a prediction used, before its answer leaves.
    pub(crate) fn count(&self, used: &Used) {
        self.requests.fetch_add(used.requests, Ordering::Relaxed);
        self.failures.fetch_add(used.failures, Ordering::Relaxed);
        self.compute_us.fetch_add(used.compute_us, Ordering::Relaxed);
        if let Some(meter) = &self.meter {
            meter.add(used);
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            requests_in_flight: self.gate.in_flight(),
            requests_queued: self.gate.waiting(),
            tensor_bytes: self.tensor_bytes.used(),
            asset_memory_bytes: self.asset_memory.used(),
            warm_instances: 0,
            sequences: self.sequences.used(),
            cache_bytes: self.cache.bytes(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            compute_us: self.compute_us.load(Ordering::Relaxed),
        }
    }
}
