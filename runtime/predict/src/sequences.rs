//! Sequences: requests that belong together, answered in order by one instance that remembers.
//!
//! A sequence belongs to one version and to whoever calls: the ids of two tenants never mean the same one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use innkeeper_catalog::TenantName;
use innkeeper_sandbox::{ByteBudget, Charge, Instance};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as Line, OwnedMutexGuard};

use crate::admission::Patience;
use crate::{PredictError, Schedule, SequenceId};

/// Requests of one sequence that stand in line, the one that is answered among them.
const LINE_MAX: usize = 64;

/// How a model keeps sequences, as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequencing {
    /// Milliseconds after which a sequence that is not gone on with ends.
    #[serde(default = "Sequencing::default_idle_ms")]
    pub idle_ms: u64,
}

impl Sequencing {
    /// The longest that a sequence may be idle, in milliseconds.
    pub const IDLE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

    fn default_idle_ms() -> u64 {
        60_000
    }

    /// Whether a model may keep sequences like this.
    ///
    /// # Errors
    /// What is out of its bounds.
    pub fn check(&self) -> Result<(), String> {
        let max = Sequencing::IDLE_MS_MAX;
        match self.idle_ms {
            idle_ms if (1..=max).contains(&idle_ms) => Ok(()),
            idle_ms => Err(format!("sequences: idle_ms is {idle_ms}; wanted 1 to {max}")),
        }
    }
}

/// The sequences of one model.
pub(crate) struct Sequences {
    pub(crate) sequencing: Sequencing,
    /// By who asks: another tenant's id is another sequence's.
    open: Mutex<HashMap<(TenantName, SequenceId), Open>>,
}

struct Open {
    /// Held by the request that is answered; the others stand in line.
    line: Arc<Line<Kept>>,
    used: Instant,
    /// Its place among all instances that the tenant keeps.
    _place: Charge,
}

/// What is kept from one request of a sequence to the next.
#[derive(Default)]
pub(crate) struct Kept {
    /// Nobody waits for it: whoever has the turn has it. Several threads may see the turn, and an instance is for one.
    instance: Mutex<Option<Instance>>,
}

impl Kept {
    fn instance(&mut self) -> &mut Option<Instance> {
        self.instance.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's turn in its sequence.
pub(crate) struct InSequence {
    sequences: Arc<Sequences>,
    key: (TenantName, SequenceId),
    kept: OwnedMutexGuard<Kept>,
    ends: bool,
}

impl Sequences {
    pub(crate) fn new(sequencing: Sequencing) -> Arc<Sequences> {
        Arc::new(Sequences { sequencing, open: Mutex::default() })
    }

    /// Waits for the turn of a request that belongs to the sequence `id`.
    pub(crate) async fn turn(
        self: &Arc<Sequences>,
        (caller, id): (&TenantName, &SequenceId),
        schedule: &Schedule,
        patience: &Patience,
        places: &Arc<ByteBudget>,
    ) -> Result<InSequence, PredictError> {
        let key = (caller.clone(), id.clone());
        let line = self.line(&key, schedule.sequence_start, Instant::now(), places)?;
        let turn = tokio::time::timeout_at(patience.until.into(), line.lock_owned());
        let kept = turn.await.map_err(|_| patience.over())?;
        let mut turn =
            InSequence { sequences: Arc::clone(self), key, kept, ends: schedule.sequence_end };
        if schedule.sequence_start {
            *turn.kept.instance() = None;
        } else if turn.kept.instance().is_none() {
            return Err(not_begun(&turn.key.1));
        }
        Ok(turn)
    }

    /// The line of a sequence, a new one for one that starts.
    fn line(
        &self,
        key: &(TenantName, SequenceId),
        starts: bool,
        now: Instant,
        places: &Arc<ByteBudget>,
    ) -> Result<Arc<Line<Kept>>, PredictError> {
        if starts {
            self.expire(now);
        }
        let mut open = self.open();
        if let Some(found) = open.get_mut(key) {
            if !starts && self.is_over(found, now) {
                open.remove(key);
                return Err(not_begun(&key.1));
            }
            let in_flight = Arc::strong_count(&found.line) - 1;
            if in_flight >= LINE_MAX {
                return Err(PredictError::LineFull { limit: LINE_MAX as u64 });
            }
            found.used = now;
            return Ok(Arc::clone(&found.line));
        }
        if !starts {
            return Err(not_begun(&key.1));
        }
        let place = places.charge(1).map_err(|over| PredictError::Sequences { limit: over.max })?;
        let line = Arc::new(Line::default());
        open.insert(key.clone(), Open { line: Arc::clone(&line), used: now, _place: place });
        Ok(line)
    }

    fn is_over(&self, open: &Open, now: Instant) -> bool {
        // Whoever stands in line has another handle on it.
        let rests = Arc::strong_count(&open.line) == 1;
        let idle = Duration::from_millis(self.sequencing.idle_ms);
        rests && now.saturating_duration_since(open.used) >= idle
    }

    /// Ends the sequences that nobody goes on with.
    pub(crate) fn expire(&self, now: Instant) {
        self.open().retain(|_, open| !self.is_over(open, now));
    }

    /// Ends all of them: the version is no longer served.
    pub(crate) fn clear(&self) {
        self.open().clear();
    }

    fn open(&self) -> MutexGuard<'_, HashMap<(TenantName, SequenceId), Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_begun(id: &SequenceId) -> PredictError {
    let problem = format!(
        "no sequence {id} has begun, or it has ended, was idle for too long or failed; begin one with sequence_start"
    );
    PredictError::Parameter { name: "sequence_start", problem }
}

impl InSequence {
    /// The instance that remembers; none at the start.
    pub(crate) fn take(&mut self) -> Option<Instance> {
        self.kept.instance().take()
    }

    /// Keeps the instance for the next request.
    pub(crate) fn keep(&mut self, instance: Instance) {
        if !self.ends {
            *self.kept.instance() = Some(instance);
        }
    }
}

impl Drop for InSequence {
    /// A sequence that goes on is idle from now; one that has ended, or whose instance is lost, is forgotten.
    fn drop(&mut self) {
        let goes_on = self.kept.instance().is_some();
        let mut open = self.sequences.open();
        match open.get_mut(&self.key) {
            Some(open) if goes_on => open.used = Instant::now(),
            // Nobody but the map and this turn has the line: who stands in it may be about to begin anew.
            Some(found) if Arc::strong_count(&found.line) == 2 => {
                open.remove(&self.key);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, id: u64) -> (TenantName, SequenceId) {
        (tenant.parse().unwrap(), SequenceId::Number(id))
    }

    #[test]
    fn sequences_begin_go_on_and_are_forgotten() {
        let sequences = Sequences::new(Sequencing { idle_ms: 1_000 });
        let (places, began) = (ByteBudget::new(2), Instant::now());
        let line = |key, starts, ms| {
            sequences.line(&key, starts, began + Duration::from_millis(ms), &places)
        };
        assert!(line(key("a", 1), false, 0).is_err(), "it has not begun");
        let first = line(key("a", 1), true, 0).unwrap();
        assert!(line(key("b", 1), false, 0).is_err(), "the same id of another is another");
        drop(line(key("b", 1), true, 0).unwrap());
        let full = line(key("a", 2), true, 999).err();
        assert!(matches!(full, Some(PredictError::Sequences { limit: 2 })), "{full:?}");
        // One that is in use is not idle, and the other's place is free again.
        drop(line(key("a", 2), true, 1_000).unwrap());
        assert!(line(key("b", 1), false, 1_000).is_err());
        assert!(Arc::ptr_eq(&first, &line(key("a", 1), false, 5_000).unwrap()));
        drop(first);
        assert!(line(key("a", 1), false, 5_999).is_ok());
        assert!(line(key("a", 1), false, 6_999).is_err(), "idle for too long");
        sequences.clear();
        assert_eq!(places.used(), 0);
    }

    #[test]
    fn a_line_is_no_longer_than_it_may_be() {
        let sequences = Sequences::new(Sequencing { idle_ms: 1_000 });
        let (places, now) = (ByteBudget::new(1), Instant::now());
        let line = || sequences.line(&key("a", 1), true, now, &places);
        let waiting: Vec<_> = (0..LINE_MAX).map(|_| line().unwrap()).collect();
        assert!(matches!(line(), Err(PredictError::LineFull { .. })));
        drop(waiting);
        assert!(line().is_ok());
    }
}
