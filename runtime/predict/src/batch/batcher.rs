//! Brings requests together that may run together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use innkeeper_catalog::TenantName;
use innkeeper_sandbox::Engine;
use innkeeper_tensor::Signature;

use super::queue::{Queue, Turn};
use super::{Batching, Clock, Padding};
use crate::run::{Batch, Job};

/// A model's batchers: one for each caller, or one for all where the owner allows that.
pub(crate) struct Batchers {
    pub(crate) batching: Batching,
    pub(crate) paddings: Vec<Padding>,
    /// Batches of one batcher that run at the same time.
    running_max: u64,
    of: Mutex<HashMap<Option<TenantName>, Arc<Batcher>>>,
}

impl Batchers {
    pub(crate) fn new(batching: Batching, signature: &Signature, running_max: u64) -> Batchers {
        // What does not fit was refused when the version was published: nothing is padded then.
        let paddings = batching.paddings(signature).unwrap_or_default();
        Batchers { batching, paddings, running_max, of: Mutex::default() }
    }

    /// The batcher of this caller's requests.
    pub(crate) fn of(
        &self,
        caller: Option<&TenantName>,
        engine: &Engine,
        clock: &Arc<Clock>,
    ) -> Arc<Batcher> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batcher) = of.get(&caller.cloned()) {
            return Arc::clone(batcher);
        }
        let running_max = usize::try_from(self.running_max).unwrap_or(usize::MAX);
        let queue = Queue::new(self.batching.clone(), engine.threads().min(running_max));
        let state = Mutex::new(State { queue, wakes_at: None });
        let (engine, clock) = (engine.clone(), Arc::clone(clock));
        let batcher = Arc::new(Batcher { engine, clock, state });
        of.insert(caller.cloned(), Arc::clone(&batcher));
        batcher
    }
}

/// Collects one model's requests of one caller, or of all.
pub(crate) struct Batcher {
    engine: Engine,
    clock: Arc<Clock>,
    state: Mutex<State>,
}

struct State {
    queue: Queue<Job>,
    /// When the clock will ask, if it was told to.
    wakes_at: Option<Instant>,
}

/// A request that has joined. Dropped before its batch began, it takes the request out.
pub(crate) struct Joined {
    batcher: Arc<Batcher>,
    ticket: u64,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let left = self.batcher.state().queue.remove(self.ticket);
        drop(left);
    }
}

impl Batcher {
    /// Joins the requests that wait, and runs a batch if one is to run now. The answer comes by the job's own channel,
    /// for as long as what this gives back is kept.
    pub(crate) async fn join(self: Arc<Self>, job: Job) -> Joined {
        let ticket = self.push(job);
        let joined = Joined { batcher: Arc::clone(&self), ticket };
        // Whoever is ready on this thread joins first; it costs next to nothing when nobody is.
        tokio::task::yield_now().await;
        if let Some(batch) = self.next() {
            // What else is due must not wait for this one's end.
            self.go_on();
            let (engine, inline) = (self.engine.clone(), batch.is_quick());
            let share = batch.share();
            engine.run(self.run(batch), &share, inline).await;
        }
        joined
    }

    fn push(&self, job: Job) -> u64 {
        let turn = Turn { priority: job.priority, rows: job.rows, until: job.patience.until };
        self.state().queue.push(Instant::now(), job.lane(), turn, job)
    }

    /// The clock's call.
    pub(super) fn woken(self: &Arc<Self>) {
        self.state().wakes_at = None;
        self.go_on();
    }

    /// Runs whatever is to run now on the guests' threads.
    fn go_on(self: &Arc<Self>) {
        while let Some(batch) = self.next() {
            let share = batch.share();
            self.engine.spawn(Arc::clone(self).run(batch), &share);
        }
    }

    async fn run(self: Arc<Self>, batch: Batch) {
        let _running = Running(self);
        batch.run().await;
    }

    /// The batch that is to run now. Who has waited too long is told so, and the clock is set.
    fn next(self: &Arc<Self>) -> Option<Batch> {
        let now = Instant::now();
        let mut state = self.state();
        let expired = state.queue.expired(now);
        let batch = state.queue.next(now);
        if let Some(at) = state.queue.wakes_at()
            && state.wakes_at.is_none_or(|told| at < told)
        {
            state.wakes_at = Some(at);
            self.clock.wake(at, self);
        }
        drop(state);
        expired.into_iter().for_each(Job::expire);
        batch.map(Batch::new)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that runs. When it ends, also by a panic, the next one may.
struct Running(Arc<Batcher>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state().queue.finished();
        self.0.go_on();
    }
}
