//! Who may start now, who waits, and who is sent away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Limits, PredictError};

/// A place among the predictions that run, given back when dropped.
#[derive(Debug)]
pub struct InFlight {
    place: Option<OwnedSemaphorePermit>,
    /// Places that are to go once they are given back.
    surplus: Arc<AtomicU64>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let less = |surplus: u64| surplus.checked_sub(1);
        if self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
            && let Some(place) = self.place.take()
        {
            place.forget();
        }
    }
}

/// How long a request waits for its turn, over all queues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) until: Instant,
    queue_ms_max: u64,
    /// The request's own, where that is shorter.
    timeout_us: Option<u64>,
}

impl Patience {
    /// The patience of a request that arrived at `now`, with a timeout of its own unless that is 0.
    pub(crate) fn new(now: Instant, limits: &Limits, timeout_us: u64) -> Patience {
        let queue_ms_max = limits.queue_ms_max;
        let limit = Duration::from_millis(queue_ms_max.min(limits.deadline_ms_max));
        let own = Duration::from_micros(timeout_us);
        let shorter = timeout_us != 0 && own < limit;
        let until = now + if shorter { own } else { limit };
        Patience { until, queue_ms_max, timeout_us: shorter.then_some(timeout_us) }
    }

    /// What a request is told that has waited until then.
    pub(crate) fn over(&self) -> PredictError {
        match self.timeout_us {
            Some(timeout_us) => PredictError::Timeout { timeout_us },
            None => PredictError::QueueTimeout { limit: self.queue_ms_max },
        }
    }
}

/// Lets a bounded number in, lets a bounded number wait in order, and sends the others away.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    places_max: Mutex<usize>,
    surplus: Arc<AtomicU64>,
    waiting: AtomicU64,
    pace: Mutex<Pace>,
}

fn bounded(places_max: u64) -> usize {
    usize::try_from(places_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

impl Gate {
    pub(crate) fn new(places_max: u64) -> Gate {
        let places_max = bounded(places_max);
        Gate {
            places: Arc::new(Semaphore::new(places_max)),
            places_max: Mutex::new(places_max),
            surplus: Arc::default(),
            waiting: AtomicU64::new(0),
            pace: Mutex::default(),
        }
    }

    /// Another number of places. Those that are taken stay so, and go when they are given back.
    pub(crate) fn resize(&self, places_max: u64) {
        let mut current = self.places_max.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, new) = (*current, bounded(places_max));
        *current = new;
        if new < old {
            let gone = self.places.forget_permits(old - new);
            self.surplus.fetch_add((old - new - gone) as u64, Ordering::Relaxed);
            return;
        }
        let more = (new - old) as u64;
        let less = |surplus: u64| Some(surplus.saturating_sub(more));
        let surplus = self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let kept = surplus.unwrap_or_default().min(more);
        self.places.add_permits((more - kept) as usize);
    }

    pub(crate) fn in_flight(&self) -> u64 {
        let places = self.places_max() + self.surplus.load(Ordering::Relaxed);
        places.saturating_sub(self.places.available_permits() as u64)
    }

    fn places_max(&self) -> u64 {
        *self.places_max.lock().unwrap_or_else(PoisonError::into_inner) as u64
    }

    fn taken(&self, place: OwnedSemaphorePermit) -> InFlight {
        InFlight { place: Some(place), surplus: Arc::clone(&self.surplus) }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A place, at once or after waiting for a turn.
    pub(crate) async fn enter(
        &self,
        limits: &Limits,
        patience: &Patience,
    ) -> Result<InFlight, PredictError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(self.taken(place));
        }
        let waiting = Waiting::begin(&self.waiting, limits.queue_requests_max).ok_or(
            PredictError::QueueFull {
                limit: limits.queue_requests_max,
                in_flight: self.places_max(),
            },
        )?;
        self.pace().look(waiting.before, patience, Instant::now())?;
        let turn = Arc::clone(&self.places).acquire_owned();
        match tokio::time::timeout_at(patience.until.into(), turn).await {
            Ok(Ok(place)) => {
                self.pace().moved(Instant::now());
                Ok(self.taken(place))
            }
            // The semaphore is never closed.
            Ok(Err(_)) => Err(PredictError::Draining),
            Err(_) => Err(patience.over()),
        }
    }
}

/// How fast a queue moves while it stands.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    every: Duration,
    moves: u32,
}

/// Moves from which a pace can be told.
const MOVES_MIN: u32 = 4;

impl Pace {
    fn moved(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_duration_since(last);
            self.every = if self.moves == 0 { gap } else { (self.every * 7 + gap) / 8 };
            self.moves = self.moves.saturating_add(1);
        }
    }

    /// Whether it is of use to join those who wait; a timeout of the request's own is for it to run into.
    fn look(&mut self, before: u64, patience: &Patience, now: Instant) -> Result<(), PredictError> {
        if before == 0 {
            *self = Pace { last: Some(now), ..Pace::default() };
        }
        if self.moves < MOVES_MIN || patience.timeout_us.is_some() {
            return Ok(());
        }
        let turns = u32::try_from(before.saturating_add(1)).unwrap_or(u32::MAX);
        let wait = self.every.saturating_mul(turns);
        let Some(over) = wait.checked_sub(patience.until.saturating_duration_since(now)) else {
            return Ok(());
        };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (limit, retry_after_ms) = (patience.queue_ms_max, ms(over).clamp(1, 60_000));
        Err(PredictError::Overloaded { wait_ms: ms(wait), limit, retry_after_ms })
    }
}

struct Waiting<'a> {
    count: &'a AtomicU64,
    /// How many waited already.
    before: u64,
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU64, max: u64) -> Option<Waiting<'a>> {
        let add = |waiting| (waiting < max).then_some(waiting + 1);
        let before = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Waiting { count, before })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many may start in a second, after the generic cell rate algorithm (ITU-T I.371): one number says when the
/// tenant's allowance is full again, and a start is refused when that is more than a second away.
#[derive(Debug)]
pub(crate) struct Rate {
    origin: Instant,
    full_again_ns: AtomicU64,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Rate {
    pub(crate) fn new(now: Instant) -> Rate {
        Rate { origin: now, full_again_ns: AtomicU64::new(0) }
    }

    /// Counts one start at `now`.
    ///
    /// # Errors
    /// [`PredictError::Rate`], with the time until one may start.
    pub(crate) fn start(&self, now: Instant, per_second_max: u64) -> Result<(), PredictError> {
        let elapsed = now.saturating_duration_since(self.origin).as_nanos();
        let now_ns = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let step = SECOND_NS.checked_div(per_second_max).unwrap_or(u64::MAX / 2);
        let next = |full_again: u64| {
            let next = full_again.max(now_ns).saturating_add(step);
            (next <= now_ns.saturating_add(SECOND_NS)).then_some(next)
        };
        self.full_again_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_err(
            |full_again| {
                let wait = full_again.saturating_add(step).saturating_sub(now_ns + SECOND_NS);
                let retry_after_ms = wait.min(60 * SECOND_NS).div_ceil(1_000_000);
                PredictError::Rate { limit: per_second_max, retry_after_ms }
            },
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_as_many_starts_as_it_may() {
        let begin = Instant::now();
        let rate = Rate::new(begin);
        for _ in 0..10 {
            assert!(rate.start(begin, 10).is_ok());
        }
        let error = rate.start(begin, 10).unwrap_err();
        assert!(
            matches!(error, PredictError::Rate { limit: 10, retry_after_ms: 100 }),
            "{error:?}"
        );
        assert!(rate.start(begin + Duration::from_millis(100), 10).is_ok());
        assert!(rate.start(begin + Duration::from_millis(101), 10).is_err());
        assert!(rate.start(begin + Duration::from_secs(10), 10).is_ok());
    }

    #[test]
    fn none_a_second_is_none() {
        let begin = Instant::now();
        assert!(Rate::new(begin).start(begin, 0).is_err());
    }

    async fn enter(gate: &Gate, limits: &Limits) -> Result<InFlight, PredictError> {
        gate.enter(limits, &Patience::new(Instant::now(), limits, 0)).await
    }

    #[test]
    fn the_shorter_patience_holds() {
        let limits = Limits { queue_ms_max: 50, deadline_ms_max: 70, ..Limits::default() };
        let now = Instant::now();
        let patience = |timeout_us| Patience::new(now, &limits, timeout_us);
        for (timeout_us, wanted_us) in [(0, 50_000), (60_000, 50_000), (20, 20)] {
            assert_eq!(patience(timeout_us).until - now, Duration::from_micros(wanted_us));
        }
        assert!(matches!(patience(0).over(), PredictError::QueueTimeout { limit: 50 }));
        assert!(matches!(patience(20).over(), PredictError::Timeout { timeout_us: 20 }));
    }

    #[tokio::test]
    async fn places_that_are_taken_away_go_when_they_are_given_back() {
        let limits = Limits { queue_requests_max: 0, ..Limits::default() };
        let gate = Gate::new(3);
        let (first, second) = (enter(&gate, &limits).await, enter(&gate, &limits).await);
        gate.resize(1);
        assert_eq!(gate.in_flight(), 2);
        drop(first);
        assert_eq!(gate.in_flight(), 1);
        assert!(enter(&gate, &limits).await.is_err(), "there is one place, and it is taken");
        gate.resize(0);
        gate.resize(2);
        let third = enter(&gate, &limits).await;
        assert!(third.is_ok() && enter(&gate, &limits).await.is_err());
        drop((second, third));
        assert_eq!(gate.in_flight(), 0);
        let both = (enter(&gate, &limits).await, enter(&gate, &limits).await);
        assert!(both.0.is_ok() && both.1.is_ok() && enter(&gate, &limits).await.is_err());
    }

    #[test]
    fn who_would_wait_too_long_is_told_at_once() {
        let limits = Limits { queue_ms_max: 55, ..Limits::default() };
        let (began, ms) = (Instant::now(), Duration::from_millis);
        let patience = |now, timeout_us| Patience::new(now, &limits, timeout_us);
        let mut pace = Pace::default();
        let look = |pace: &mut Pace, before, at, timeout_us| {
            let now = began + ms(at);
            pace.look(before, &patience(now, timeout_us), now)
        };
        // The first waits from 0 on, and every 10 ms one gets its turn.
        assert!(look(&mut pace, 0, 0, 0).is_ok());
        for turn in 1..=4 {
            assert!(
                look(&mut pace, 500, 10 * turn - 1, 0).is_ok(),
                "nothing is known after {turn}"
            );
            pace.moved(began + ms(10 * turn));
        }
        assert!(look(&mut pace, 4, 41, 0).is_ok(), "50 of 55 ms");
        let error = look(&mut pace, 5, 41, 0).unwrap_err();
        let wanted = PredictError::Overloaded { wait_ms: 60, limit: 55, retry_after_ms: 5 };
        assert_eq!(error.to_string(), wanted.to_string());
        assert!(look(&mut pace, 500, 41, 1).is_ok(), "it runs into its own timeout");
        // A queue that was empty meanwhile may move at another pace.
        assert!(look(&mut pace, 0, 100, 0).is_ok() && look(&mut pace, 500, 101, 0).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let limits = Limits { queue_requests_max: 1, queue_ms_max: 50, ..Limits::default() };
        let gate = Gate::new(1);
        let first = enter(&gate, &limits).await.unwrap();
        let (second, third) = tokio::join!(enter(&gate, &limits), enter(&gate, &limits));
        assert!(matches!(second, Err(PredictError::QueueTimeout { limit: 50 })));
        assert!(matches!(third, Err(PredictError::QueueFull { limit: 1, in_flight: 1 })));
        assert_eq!((gate.in_flight(), gate.waiting()), (1, 0));
        drop(first);
        assert!(enter(&gate, &limits).await.is_ok());
    }
}
