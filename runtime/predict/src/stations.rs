//! When a prediction passed its stations, for whoever traces it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// When a prediction passed its stations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stations {
    /// It began to wait for its turn.
    pub began: Instant,
    /// Its turn came.
    pub admitted: Instant,
    /// An instance was looked for.
    pub wanted: Instant,
    /// For how long.
    pub instance: Duration,
    /// For how long the guest was at work then.
    pub guest: Duration,
    /// How much of that was the kernels'.
    pub kernels: Duration,
    /// Operations and graphs that they were asked for.
    pub operations: u64,
    /// For how long outputs were held against the signature then.
    pub check: Duration,
    /// Rows of all requests that the guest ran together.
    pub rows: u64,
}

/// Where a prediction that is traced leaves its stations, once the guest was run for it. Those that are answered by what is
/// kept, and those that do not get so far, leave none.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Arc<OnceLock<Stations>>);

impl Timeline {
    /// The stations, if the prediction passed them.
    pub fn stations(&self) -> Option<&Stations> {
        self.0.get()
    }

    pub(crate) fn set(&self, stations: Stations) {
        // Whoever is tried again alone is told of the run that answered.
        let _ = self.0.set(stations);
    }
}
