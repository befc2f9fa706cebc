//! What is counted of a version's predictions, for each caller on its own. The numbers mean what they mean in Triton's
//! statistics.
//!
//! Nothing here waits: counting is a handful of relaxed additions, so that a reader may see a prediction in one number
//! and not yet in another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use innkeeper_catalog::TenantName;
use innkeeper_sandbox::GuestError;
use innkeeper_tensor::{Named, Signature};

use crate::{Fault, PredictError, Stations};

/// Different batch sizes that are told apart; executions of yet another size count in the totals alone.
const BATCH_SIZES_MAX: usize = 32;

/// The upper ends of the latency histogram's buckets, in microseconds; one more bucket takes the rest.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// How often something was done, and for how long altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How often.
    pub count: u64,
    /// Nanoseconds over all of them.
    pub ns: u64,
}

/// Executions of one batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Rows that were executed at once.
    pub batch_size: u64,
    /// As in [`Statistics`], counted once for each execution.
    pub compute_input: Counted,
    /// As in [`Statistics`], counted once for each execution.
    pub compute_infer: Counted,
    /// As in [`Statistics`], counted once for each execution.
    pub compute_output: Counted,
}

/// Failures, by who is to blame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Sent away: a limit, a full queue, a resting model, a host that stops.
    pub rejected: u64,
    /// The caller left, or its deadline passed while it waited.
    pub canceled: u64,
    /// The model failed.
    pub backend: u64,
    /// Tensors that do not fit, refusals by the model, faults of the host.
    pub other: u64,
}

/// What happened since the version was made ready, in the meaning of Triton's statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When the last prediction was answered, in milliseconds since 1970; 0 when none was.
    pub last_inference_ms: u64,
    /// Rows that were answered by running the guest.
    pub inference_count: u64,
    /// Runs of the guest that answered.
    pub execution_count: u64,
    /// Predictions that were answered, from the signature check to the answer.
    pub success: Counted,
    /// Predictions that were not.
    pub fail: Counted,
    /// The same predictions, by reason.
    pub failures: Failures,
    /// Waiting for a place.
    pub queue: Counted,
    /// Getting an instance.
    pub compute_input: Counted,
    /// The guest at work.
    pub compute_infer: Counted,
    /// Holding the outputs against the signature.
    pub compute_output: Counted,
    /// Answers that came from a cache.
    pub cache_hit: Counted,
    /// Looks into a cache that found nothing.
    pub cache_miss: Counted,
    /// Executions by batch size, in no order.
    pub batches: Vec<BatchStatistics>,
    /// Answered predictions by duration: one number for each of [`LATENCY_BOUNDS_US`] and one for what took longer.
    pub latency: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// Predictions that wait for a place now.
    pub waiting: u64,
    /// Predictions that run now.
    pub running: u64,
}

impl Counted {
    fn add(&mut self, other: Counted) {
        self.count += other.count;
        self.ns += other.ns;
    }
}

impl Statistics {
    /// Adds what another caller did.
    pub fn add(&mut self, other: &Statistics) {
        self.last_inference_ms = self.last_inference_ms.max(other.last_inference_ms);
        self.inference_count += other.inference_count;
        self.execution_count += other.execution_count;
        for (own, other) in [
            (&mut self.success, other.success),
            (&mut self.fail, other.fail),
            (&mut self.queue, other.queue),
            (&mut self.compute_input, other.compute_input),
            (&mut self.compute_infer, other.compute_infer),
            (&mut self.compute_output, other.compute_output),
            (&mut self.cache_hit, other.cache_hit),
            (&mut self.cache_miss, other.cache_miss),
        ] {
            own.add(other);
        }
        self.failures.rejected += other.failures.rejected;
        self.failures.canceled += other.failures.canceled;
        self.failures.backend += other.failures.backend;
        self.failures.other += other.failures.other;
        for batch in &other.batches {
            match self.batches.iter_mut().find(|own| own.batch_size == batch.batch_size) {
                Some(own) => {
                    own.compute_input.add(batch.compute_input);
                    own.compute_infer.add(batch.compute_infer);
                    own.compute_output.add(batch.compute_output);
                }
                None => self.batches.push(*batch),
            }
        }
        self.latency.iter_mut().zip(other.latency).for_each(|(own, other)| *own += other);
        self.waiting += other.waiting;
        self.running += other.running;
    }
}

/// The statistics of one version: one set of numbers for each caller.
#[derive(Default)]
pub(crate) struct ByCaller(ArcSwap<HashMap<TenantName, Arc<Stats>>>);

impl ByCaller {
    /// The caller's numbers.
    pub(crate) fn of(&self, caller: &TenantName) -> Arc<Stats> {
        if let Some(stats) = self.0.load().get(caller) {
            return Arc::clone(stats);
        }
        let new = Arc::new(Stats::default());
        let added = |all: &Arc<HashMap<_, _>>| {
            let mut all = HashMap::clone(all);
            all.entry(caller.clone()).or_insert_with(|| Arc::clone(&new));
            all
        };
        self.0.rcu(added);
        // Another request of the caller's may have been first.
        self.0.load().get(caller).map_or(new, Arc::clone)
    }

    /// Every caller's numbers, in no order.
    pub(crate) fn all(&self) -> Vec<(TenantName, Statistics)> {
        let all = self.0.load();
        all.iter().map(|(caller, stats)| (caller.clone(), stats.read())).collect()
    }
}

#[derive(Default)]
struct Tally {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Tally {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(nanos(time), Ordering::Relaxed);
    }

    fn read(&self) -> Counted {
        Counted { count: read(&self.count), ns: read(&self.ns) }
    }
}

#[derive(Default)]
struct BatchTally {
    /// 0 while nobody has taken it.
    batch_size: AtomicU64,
    compute_input: Tally,
    compute_infer: Tally,
    compute_output: Tally,
}

/// The numbers of one caller of one version.
pub(crate) struct Stats {
    began: (Instant, SystemTime),
    /// Nanoseconds after `began`; 0 for never.
    last_inference: AtomicU64,
    inference_count: AtomicU64,
    execution_count: AtomicU64,
    success: Tally,
    fail: Tally,
    failures: [AtomicU64; 4],
    queue: Tally,
    compute_input: Tally,
    compute_infer: Tally,
    compute_output: Tally,
    cache_hit: Tally,
    cache_miss: Tally,
    batches: OnceLock<Box<[BatchTally; BATCH_SIZES_MAX]>>,
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    waiting: AtomicU64,
    running: AtomicU64,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            began: (Instant::now(), SystemTime::now()),
            last_inference: AtomicU64::new(0),
            inference_count: AtomicU64::new(0),
            execution_count: AtomicU64::new(0),
            success: Tally::default(),
            fail: Tally::default(),
            failures: Default::default(),
            queue: Tally::default(),
            compute_input: Tally::default(),
            compute_infer: Tally::default(),
            compute_output: Tally::default(),
            cache_hit: Tally::default(),
            cache_miss: Tally::default(),
            batches: OnceLock::new(),
            latency: Default::default(),
            waiting: AtomicU64::new(0),
            running: AtomicU64::new(0),
        }
    }
}

/// How long the parts of one execution took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Laps {
    /// When an instance was looked for, if it came to that.
    pub(crate) began: Option<Instant>,
    pub(crate) input: Duration,
    pub(crate) infer: Duration,
    pub(crate) output: Duration,
    /// What of `infer` was the kernels', where somebody asks.
    pub(crate) kernels: Duration,
    /// Operations that they were asked for then.
    pub(crate) operations: u64,
}

impl Stats {
    /// Counts a look into a cache that found nothing, and keeping what was answered instead.
    pub(crate) fn missed(&self, took: Duration) {
        self.cache_miss.add(took);
    }

    /// Counts one run of a guest that answered `rows` rows.
    pub(crate) fn executed(&self, rows: u64, laps: &Laps) {
        self.inference_count.fetch_add(rows, Ordering::Relaxed);
        self.execution_count.fetch_add(1, Ordering::Relaxed);
        // Without rows there is no batch, and 0 stands for a free place.
        let Some(batch) = (rows > 0).then(|| self.batch(rows)).flatten() else { return };
        batch.compute_input.add(laps.input);
        batch.compute_infer.add(laps.infer);
        batch.compute_output.add(laps.output);
    }

    /// Where runs of this size are counted: the place that has it, or the first that is free.
    fn batch(&self, rows: u64) -> Option<&BatchTally> {
        let batches = self.batches.get_or_init(Box::default);
        batches.iter().find(|batch| {
            let size = &batch.batch_size;
            match size.load(Ordering::Relaxed) {
                0 => match size.compare_exchange(0, rows, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => true,
                    Err(taken) => taken == rows,
                },
                taken => taken == rows,
            }
        })
    }

    fn failed(&self, reason: usize, time: Duration) {
        self.fail.add(time);
        self.failures[reason].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Statistics {
        let last = read(&self.last_inference);
        let last = (last > 0).then(|| self.began.1 + Duration::from_nanos(last));
        let last = last.and_then(|last| last.duration_since(UNIX_EPOCH).ok());
        let [rejected, canceled, backend, other] = &self.failures;
        let batches = self.batches.get().into_iter().flat_map(|batches| batches.iter());
        let batches = batches.filter(|batch| read(&batch.batch_size) > 0);
        Statistics {
            last_inference_ms: last
                .map_or(0, |last| u64::try_from(last.as_millis()).unwrap_or(u64::MAX)),
            inference_count: read(&self.inference_count),
            execution_count: read(&self.execution_count),
            success: self.success.read(),
            fail: self.fail.read(),
            failures: Failures {
                rejected: read(rejected),
                canceled: read(canceled),
                backend: read(backend),
                other: read(other),
            },
            queue: self.queue.read(),
            compute_input: self.compute_input.read(),
            compute_infer: self.compute_infer.read(),
            compute_output: self.compute_output.read(),
            cache_hit: self.cache_hit.read(),
            cache_miss: self.cache_miss.read(),
            batches: batches
                .map(|batch| BatchStatistics {
                    batch_size: read(&batch.batch_size),
                    compute_input: batch.compute_input.read(),
                    compute_infer: batch.compute_infer.read(),
                    compute_output: batch.compute_output.read(),
                })
                .collect(),
            latency: std::array::from_fn(|bucket| read(&self.latency[bucket])),
            waiting: read(&self.waiting),
            running: read(&self.running),
        }
    }
}

/// One prediction's way through the numbers. What is dropped before its end counts as cancelled.
pub(crate) struct Watch {
    stats: Arc<Stats>,
    began: Instant,
    /// How long it waited for its place, once it has one.
    queued: Option<Duration>,
    ended: bool,
}

impl Watch {
    /// A prediction that waits for its place.
    pub(crate) fn begin(stats: Arc<Stats>) -> Watch {
        stats.waiting.fetch_add(1, Ordering::Relaxed);
        Watch { stats, began: Instant::now(), queued: None, ended: false }
    }

    /// Its turn came at `now`; whoever is tried again has waited once.
    pub(crate) fn admitted(&mut self, now: Instant) {
        if self.queued.is_some() {
            return;
        }
        self.queued = Some(now.saturating_duration_since(self.began));
        self.stats.waiting.fetch_sub(1, Ordering::Relaxed);
        self.stats.running.fetch_add(1, Ordering::Relaxed);
    }

    /// When it passed its stations: none before an instance was looked for.
    pub(crate) fn stations(&self, laps: &Laps, rows: u64) -> Option<Stations> {
        Some(Stations {
            began: self.began,
            admitted: self.began + self.queued?,
            wanted: laps.began?,
            instance: laps.input,
            guest: laps.infer,
            kernels: laps.kernels,
            operations: laps.operations,
            check: laps.output,
            rows,
        })
    }

    /// The caller's numbers.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// It was answered by an execution, whose parts took so long.
    pub(crate) fn succeeded(&mut self, laps: &Laps) {
        self.answered();
        self.stats.compute_input.add(laps.input);
        self.stats.compute_infer.add(laps.infer);
        self.stats.compute_output.add(laps.output);
    }

    /// It was answered by what is kept, which took so long to find.
    pub(crate) fn cached(&mut self, took: Duration) {
        self.answered();
        self.stats.cache_hit.add(took);
    }

    fn answered(&mut self) {
        self.ended = true;
        let stats = &self.stats;
        let time = self.began.elapsed();
        let since = self.began.saturating_duration_since(stats.began.0) + time;
        stats.last_inference.store(nanos(since).max(1), Ordering::Relaxed);
        stats.success.add(time);
        stats.queue.add(self.queued.unwrap_or_default());
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|&bound| bound < us);
        stats.latency[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// The same result; an error counts as the prediction's end.
    pub(crate) fn noting<T>(&mut self, result: Result<T, PredictError>) -> Result<T, PredictError> {
        result.inspect_err(|error| self.failed(error))
    }

    /// It was not answered.
    pub(crate) fn failed(&mut self, error: &PredictError) {
        self.ended = true;
        self.stats.failed(reason(error), self.began.elapsed());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let place = if self.queued.is_some() { &self.stats.running } else { &self.stats.waiting };
        place.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.stats.failed(CANCELED, self.began.elapsed());
        }
    }
}

const REJECTED: usize = 0;
const CANCELED: usize = 1;
const BACKEND: usize = 2;
const OTHER: usize = 3;

fn reason(error: &PredictError) -> usize {
    match (error, error.fault()) {
        (PredictError::Guest(GuestError::Cancelled), _) => CANCELED,
        (_, Fault::Load) => REJECTED,
        (_, Fault::Plugin) => BACKEND,
        (_, Fault::Caller | Fault::Host) => OTHER,
    }
}

/// How many requests these inputs stand for: their size along the batch axis, and 1 without one.
pub(crate) fn rows(signature: &Signature, inputs: &[Named]) -> u64 {
    let axis = signature.batch_axis.zip(inputs.first());
    let size = axis.and_then(|(axis, input)| input.tensor.shape().dims().get(axis));
    size.map_or(1, |&size| size as u64)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laps(ns: u64) -> Laps {
        let [input, infer, output] = [1, ns, 2].map(Duration::from_nanos);
        Laps { input, infer, output, ..Laps::default() }
    }

    #[test]
    fn callers_are_counted_apart_and_added_up() {
        let all = ByCaller::default();
        let [acme, other] = ["acme", "other"].map(|name| name.parse::<TenantName>().unwrap());
        for (caller, rows, ns) in [(&acme, 1, 10), (&acme, 8, 20), (&other, 8, 30)] {
            let mut watch = Watch::begin(all.of(caller));
            watch.admitted(Instant::now());
            watch.stats().executed(rows, &laps(ns));
            watch.succeeded(&laps(ns));
        }
        let mut seen = all.all();
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        let [(first, own), (second, others)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((first, second), (&acme, &other));
        assert_eq!((own.inference_count, own.execution_count), (9, 2));
        assert_eq!(own.compute_infer, Counted { count: 2, ns: 30 });
        assert_eq!(others.success.count, 1);
        assert!(own.last_inference_ms > 1_600_000_000_000);

        let mut sum = own.clone();
        sum.add(others);
        assert_eq!((sum.inference_count, sum.success.count, sum.queue.count), (17, 3, 3));
        let eight = sum.batches.iter().find(|batch| batch.batch_size == 8).unwrap();
        assert_eq!(eight.compute_infer, Counted { count: 2, ns: 50 });
        assert_eq!(sum.latency.iter().sum::<u64>(), 3);
        assert_eq!((sum.waiting, sum.running), (0, 0));
    }

    #[test]
    fn failures_are_told_apart() {
        let stats = Arc::new(Stats::default());
        let cases = [
            (PredictError::Draining, [1, 0, 0, 0]),
            (PredictError::Guest(GuestError::Cancelled), [0, 1, 0, 0]),
            (PredictError::Guest(GuestError::Trap("x".into())), [0, 0, 1, 0]),
            (PredictError::Guest(GuestError::Refused("x".into())), [0, 0, 0, 1]),
        ];
        let mut wanted = [0; 4];
        for (error, more) in cases {
            Watch::begin(Arc::clone(&stats)).failed(&error);
            wanted.iter_mut().zip(more).for_each(|(all, more)| *all += more);
            let got = stats.read().failures;
            assert_eq!([got.rejected, got.canceled, got.backend, got.other], wanted, "{error}");
        }
        drop(Watch::begin(Arc::clone(&stats)));
        let got = stats.read();
        assert_eq!((got.failures.canceled, got.fail.count, got.success.count), (2, 5, 0));
        assert_eq!((got.waiting, got.running, got.last_inference_ms), (0, 0, 0));
    }

    #[test]
    fn what_goes_on_now_is_seen() {
        let stats = Arc::new(Stats::default());
        let mut watch = Watch::begin(Arc::clone(&stats));
        assert_eq!((stats.read().waiting, stats.read().running), (1, 0));
        watch.admitted(Instant::now());
        assert_eq!((stats.read().waiting, stats.read().running), (0, 1));
        drop(watch);
        assert_eq!((stats.read().waiting, stats.read().running), (0, 0));
    }

    #[test]
    fn more_batch_sizes_than_are_told_apart_count_in_the_totals() {
        let stats = Stats::default();
        for rows in 1..=2 * BATCH_SIZES_MAX as u64 {
            stats.executed(rows, &Laps::default());
        }
        let got = stats.read();
        assert_eq!((got.batches.len(), got.execution_count), (BATCH_SIZES_MAX, 64));
    }
}
