//! What one call had the kernels do, for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts what a call has kernels do. Nothing is measured for a call that has none of these.
#[derive(Debug, Default)]
pub struct Work {
    operations: AtomicU64,
    ns: AtomicU64,
}

impl Work {
    /// Operations and whole graphs that were run.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// How long all of them took.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.ns.load(Ordering::Relaxed))
    }

    /// Does one of them.
    pub(crate) fn timed<T>(work: Option<&Work>, compute: impl FnOnce() -> T) -> T {
        let Some(work) = work else { return compute() };
        let began = Instant::now();
        let result = compute();
        let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        work.operations.fetch_add(1, Ordering::Relaxed);
        work.ns.fetch_add(ns, Ordering::Relaxed);
        result
    }
}
