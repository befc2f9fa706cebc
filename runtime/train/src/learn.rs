//! The steps of one job, on the guests' threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use innkeeper_formats::dataset::{Dataset, Permutation};
use innkeeper_sandbox::{Cancel, Metrics, Plan, Position, Trainer, Turn};
use serde_json::json;

use crate::TrainError;
use crate::checkpoint::{At, Folder};
use crate::data::blocking;
use crate::feeds::Feeds;
use crate::jobs::Reporter;
use crate::progress::{Epoch, Progress};

/// How often a job that runs says how far it is.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Rows of a batch, and epochs.
const BATCH_MAX: u32 = 1 << 20;
const EPOCHS_MAX: u32 = 1 << 20;

/// What may be told to a job that runs.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Rest after the next step.
    pub(crate) rest: AtomicBool,
    /// Stops the guest wherever it is.
    pub(crate) cancel: Cancel,
}

/// The rows that are learnt from, and those that are judged by.
pub(crate) struct Rows {
    pub(crate) data: Dataset,
    pub(crate) feeds: Feeds,
    /// The order in which rows were drawn; those of judging come first where they are of the same data.
    pub(crate) drawn: Permutation,
    /// How many of the first drawn are for judging.
    pub(crate) held_out: u64,
    pub(crate) rows: u64,
    /// Other data to judge by.
    pub(crate) other: Option<(Dataset, Feeds)>,
    pub(crate) validation_rows: u64,
}

/// A job in the middle of learning.
pub(crate) struct Learning {
    pub(crate) id: String,
    pub(crate) trainer: Trainer,
    pub(crate) plan: Plan,
    pub(crate) rows: Rows,
    pub(crate) at: At,
    pub(crate) seed: u64,
    pub(crate) folder: Folder,
    pub(crate) told: Arc<Told>,
    pub(crate) reporter: Reporter,
    pub(crate) step_ms_max: u64,
    pub(crate) job_ms_max: u64,
    pub(crate) checkpoint_every: Duration,
    pub(crate) clock: Clock,
}

/// When what was done last, in this turn of the job.
pub(crate) struct Clock {
    began: Instant,
    /// What it had run before.
    before_ms: u64,
    first_step: u64,
    checkpoint: Instant,
    report: Instant,
}

impl Clock {
    pub(crate) fn new(at: &At) -> Clock {
        let now = Instant::now();
        let (before_ms, first_step) = (at.ran_ms, at.step);
        Clock { began: now, before_ms, first_step, checkpoint: now, report: now }
    }

    fn ran_ms(&self) -> u64 {
        let ran = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.before_ms.saturating_add(ran)
    }
}

/// Why a job does not go on for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All epochs are over.
    Learnt,
    /// It was told to rest, and is safe.
    Rested,
}

/// Whether a plan can be followed.
pub(crate) fn check(plan: &Plan) -> Result<(), TrainError> {
    let bound = |what: &str, got: u32, max: u32| match got {
        1.. if got <= max => Ok(()),
        _ => Err(TrainError::Trainer(format!("plans {what} of {got}; 1 to {max} can be done"))),
    };
    bound("epochs", plan.epochs, EPOCHS_MAX)?;
    bound("a batch size", plan.batch_size, BATCH_MAX)
}

impl Learning {
    /// Learns until all epochs are over, it is told to rest, or something goes wrong. The learning is given back, since
    /// the trainer is still to say what came of it.
    pub(crate) async fn learn(mut self) -> (Learning, Result<End, TrainError>) {
        let end = self.epochs().await;
        (self, end)
    }

    async fn epochs(&mut self) -> Result<End, TrainError> {
        while self.at.epoch < self.plan.epochs {
            if let Some(end) = self.steps().await? {
                return Ok(end);
            }
            let mut metrics = self.at.means.means("");
            metrics.extend(self.judged().await?);
            self.at.epoch += 1;
            let epoch = Epoch { epoch: self.at.epoch, metrics };
            self.reporter.event("epoch", json!(epoch));
            self.at.history.push(epoch);
            self.at.means = Default::default();
            self.report(false).await?;
        }
        self.report(true).await?;
        Ok(End::Learnt)
    }

    fn steps_per_epoch(&self) -> u64 {
        self.rows.rows.div_ceil(u64::from(self.plan.batch_size))
    }

    fn steps_in_all(&self) -> u64 {
        self.steps_per_epoch() * u64::from(self.plan.epochs)
    }

    /// What is left of the epoch that is under way.
    async fn steps(&mut self) -> Result<Option<End>, TrainError> {
        let per_epoch = self.steps_per_epoch();
        let first = u64::from(self.at.epoch) * per_epoch;
        let order = Permutation::new(self.rows.rows, order_seed(self.seed, self.at.epoch));
        while self.at.step < first + per_epoch {
            let within = self.at.step - first;
            self.step(within, &order).await?;
            if let Some(end) = self.after_step().await? {
                return Ok(Some(end));
            }
            // Whoever else waits for this thread has it in between.
            tokio::task::yield_now().await;
        }
        Ok(None)
    }

    async fn step(&mut self, within: u64, order: &Permutation) -> Result<(), TrainError> {
        let start = within * u64::from(self.plan.batch_size);
        let end = self.rows.rows.min(start + u64::from(self.plan.batch_size));
        let drawn = |i| self.rows.drawn.at(self.rows.held_out + i);
        let rows: Vec<u64> = match self.plan.shuffle {
            true => (start..end).map(|i| drawn(order.at(i))).collect(),
            // In the order of the file, as far as those that are held out leave one.
            false => (start..end).map(drawn).collect(),
        };
        let batch = self.rows.feeds.batch(&self.rows.data, &rows)?;
        let position =
            Position { epoch: self.at.epoch, step: self.at.step, steps: self.steps_in_all() };
        let turn = self.turn();
        let metrics = self.trainer.step(turn, batch, position).await?;
        self.check_finite(&metrics, within)?;
        self.at.means.add(end - start, &metrics);
        self.at.step += 1;
        Ok(())
    }

    /// A job whose numbers are none any more will not find back.
    fn check_finite(&self, metrics: &Metrics, within: u64) -> Result<(), TrainError> {
        match metrics.iter().find(|(name, value)| name == "loss" && !value.is_finite()) {
            None => Ok(()),
            Some((metric, value)) => Err(TrainError::Diverged {
                metric: metric.clone(),
                value: *value,
                step: within + 1,
                epoch: self.at.epoch + 1,
            }),
        }
    }

    async fn after_step(&mut self) -> Result<Option<End>, TrainError> {
        let ran_ms = self.clock.ran_ms();
        if ran_ms > self.job_ms_max {
            return Err(TrainError::Time { max: self.job_ms_max });
        }
        let rest = self.told.rest.load(Ordering::Relaxed);
        if rest || self.clock.checkpoint.elapsed() >= self.checkpoint_every {
            self.keep().await?;
        }
        if rest {
            self.report(true).await?;
            return Ok(Some(End::Rested));
        }
        if self.clock.report.elapsed() >= REPORT_EVERY {
            self.report(true).await?;
        }
        Ok(None)
    }

    /// Writes a checkpoint.
    async fn keep(&mut self) -> Result<(), TrainError> {
        let turn = self.turn();
        let state = self.trainer.save(turn).await?;
        self.at.ran_ms = self.clock.ran_ms();
        let (folder, at) = (self.folder.clone(), self.at.clone());
        let bytes = blocking(move || folder.write(&at, &state)).await?;
        self.reporter.event("checkpoint", json!({ "step": self.at.step, "bytes": bytes }));
        self.reporter.checkpoint_step = self.at.step;
        self.clock.checkpoint = Instant::now();
        Ok(())
    }

    /// What the rows that were never learnt from say, each name with `val_` before it.
    async fn judged(&mut self) -> Result<BTreeMap<String, f64>, TrainError> {
        let mut means = crate::progress::Means::default();
        let batch = u64::from(self.plan.batch_size);
        let mut start = 0;
        while start < self.rows.validation_rows {
            let end = self.rows.validation_rows.min(start + batch);
            let batch = match &self.rows.other {
                Some((data, feeds)) => feeds.batch(data, &(start..end).collect::<Vec<_>>())?,
                None => {
                    let rows: Vec<u64> = (start..end).map(|i| self.rows.drawn.at(i)).collect();
                    self.rows.feeds.batch(&self.rows.data, &rows)?
                }
            };
            let turn = self.turn();
            let metrics = self.trainer.evaluate(turn, batch).await?;
            means.add(end - start, &metrics);
            start = end;
            tokio::task::yield_now().await;
        }
        Ok(means.means("val_"))
    }

    pub(crate) fn turn(&self) -> Turn {
        Turn {
            id: self.id.clone(),
            deadline: Instant::now() + Duration::from_millis(self.step_ms_max),
            limit: "step_ms_max",
            limit_ms: self.step_ms_max,
            cancel: self.told.cancel.clone(),
        }
    }

    /// Says how far it is; not each time, where it is not `due`, but soon.
    async fn report(&mut self, due: bool) -> Result<(), TrainError> {
        if !due && self.clock.report.elapsed() < REPORT_EVERY {
            return Ok(());
        }
        self.clock.report = Instant::now();
        let progress = self.progress();
        self.reporter.report(&progress).await
    }

    fn progress(&self) -> Progress {
        let (taken, all) = (self.at.step - self.clock.first_step, self.steps_in_all());
        let ran = self.clock.began.elapsed().as_secs_f64();
        let step_seconds = ran / taken.max(1) as f64;
        let rows_per_step = self.rows.rows as f64 / self.steps_per_epoch().max(1) as f64;
        Progress {
            epoch: self.at.epoch,
            epochs: self.plan.epochs,
            step: self.at.step,
            steps: all,
            metrics: self.at.means.means(""),
            rows_per_second: if taken == 0 { 0.0 } else { rows_per_step / step_seconds },
            left_ms: (step_seconds * (all - self.at.step) as f64 * 1e3) as u64,
            ran_ms: self.clock.ran_ms(),
            checkpoint_step: self.reporter.checkpoint_step,
            history: self.at.history.clone(),
        }
    }
}

/// Each epoch has an order of its own, and none that of the split.
fn order_seed(seed: u64, epoch: u32) -> u64 {
    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(u64::from(epoch) + 1)
}
