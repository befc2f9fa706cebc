//! How far a job is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How far a job is, as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Epochs that are over.
    pub epoch: u32,
    /// Epochs in all; 0 while it is not known.
    pub epochs: u32,
    /// Steps that were taken.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Numbers of the epoch that is under way, each a mean over its rows so far.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Rows that are learnt from in a second, since the job was begun or taken up again.
    pub rows_per_second: f64,
    /// Milliseconds that are left, if it goes on as it did.
    pub left_ms: u64,
    /// Milliseconds that it ran so far, over all its turns.
    pub ran_ms: u64,
    /// Steps that are safe in a checkpoint.
    pub checkpoint_step: u64,
    /// The epochs that are over.
    pub history: Vec<Epoch>,
}

/// One epoch that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// Its numbers, those of judging with `val_` before their names.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

/// Means over rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Means {
    rows: u64,
    sums: BTreeMap<String, f64>,
}

/// Numbers that one batch may answer.
const METRICS_MAX: usize = 32;

impl Means {
    /// Adds what a batch of `rows` rows answered.
    pub(crate) fn add(&mut self, rows: u64, metrics: &[(String, f64)]) {
        self.rows += rows;
        for (name, value) in metrics.iter().take(METRICS_MAX) {
            if self.sums.len() < METRICS_MAX || self.sums.contains_key(name) {
                *self.sums.entry(name.clone()).or_default() += value * rows as f64;
            }
        }
    }

    /// The means, each name with `prefix` before it.
    pub(crate) fn means(&self, prefix: &str) -> BTreeMap<String, f64> {
        let mean = |(name, sum): (&String, &f64)| {
            (format!("{prefix}{name}"), sum / self.rows.max(1) as f64)
        };
        self.sums.iter().map(mean).collect()
    }
}
