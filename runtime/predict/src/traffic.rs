//! Requests of an alias, shared out between the version that it stands for and one that is tried: who answers, how each
//! side does, and when the candidate has failed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use innkeeper_catalog::{Digest, ModelKey, Rollout, RolloutId, Share};
use innkeeper_sandbox::GuestError;
use serde::{Deserialize, Serialize};

use crate::shadow::Shadows;
use crate::{Deployment, Fault, PredictError, ShadowReport};

/// When a candidate has failed. Counted over the requests that it has answered within the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Requests without which nothing is judged.
    pub requests_min: u64,
    /// How far the window reaches back, in milliseconds.
    pub window_ms: u64,
    /// The percentage of requests that may fail by the model's or the host's fault.
    pub errors_percent_max: Option<f64>,
    /// The percentage of requests that may trap, run into their deadline or go over a limit.
    pub traps_percent_max: Option<f64>,
    /// Milliseconds within which 99 of 100 requests must be answered, queueing counted.
    pub p99_ms_max: Option<f64>,
    /// By how much numbers of an answer that is compared may differ, as a part of the larger one or of 1.
    pub difference_max: f64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            requests_min: 50,
            window_ms: 60_000,
            errors_percent_max: Some(5.0),
            traps_percent_max: Some(1.0),
            p99_ms_max: None,
            difference_max: 0.001,
        }
    }
}

impl Bounds {
    /// The longest window.
    pub const WINDOW_MS_MAX: u64 = 24 * 60 * 60 * 1000;

    /// # Errors
    /// What cannot be, with the name of the field.
    pub fn check(&self) -> Result<(), String> {
        if self.requests_min == 0 {
            return Err("requests_min is 0; wanted at least 1".into());
        }
        if !(SLICES..=Bounds::WINDOW_MS_MAX).contains(&self.window_ms) {
            let (got, max) = (self.window_ms, Bounds::WINDOW_MS_MAX);
            return Err(format!("window_ms is {got}; wanted {SLICES} to {max}"));
        }
        let percents = [
            ("errors_percent_max", self.errors_percent_max),
            ("traps_percent_max", self.traps_percent_max),
        ];
        for (name, percent) in percents {
            if percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
                return Err(format!("{name} is not a percentage; wanted 0 to 100"));
            }
        }
        if self.p99_ms_max.is_some_and(|ms| !(ms > 0.0 && ms.is_finite())) {
            return Err("p99_ms_max is no time; wanted more than 0".into());
        }
        if !(0.0..=1.0).contains(&self.difference_max) {
            return Err("difference_max is no part of a number; wanted 0 to 1".into());
        }
        Ok(())
    }
}

/// One of the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The version that the alias stands for.
    Current,
    /// The version that is tried.
    Candidate,
}

/// What one side did within the window, and since it is tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SideReport {
    /// Requests since the rollout began, or the process did.
    pub requests_total: u64,
    /// Those of them that failed by the model's or the host's fault.
    pub errors_total: u64,
    /// Those of the failures that trapped, ran into their deadline or went over a limit.
    pub traps_total: u64,
    /// Requests within the window.
    pub requests: u64,
    /// Failures within the window.
    pub errors: u64,
    /// Traps within the window.
    pub traps: u64,
    /// Milliseconds within which half of the window's requests were answered.
    pub p50_ms: f64,
    /// Milliseconds within which 99 of 100 were.
    pub p99_ms: f64,
}

/// A candidate that has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The model.
    pub model: ModelKey,
    /// Which rollout.
    pub rollout: RolloutId,
    /// What it did, and what it may.
    pub why: String,
}

/// A rollout as requests meet it.
pub struct Traffic {
    /// What is tried, and how.
    pub rollout: Rollout,
    /// When it has failed.
    pub bounds: Bounds,
    sides: Arc<Sides>,
    drawn: AtomicU64,
}

/// What is kept while shares change.
struct Sides {
    bounds: Bounds,
    began: Instant,
    current: Mutex<Window>,
    candidate: Mutex<Window>,
    shadows: Shadows,
    /// Set once the candidate has failed, so that it is told once.
    failed: AtomicBool,
}

impl Traffic {
    /// The header that keeps a caller on its version where the rollout names no other.
    pub const STICKY: &str = "x-innkeeper-sticky";

    /// A rollout; what is counted goes on where `present` is the same rollout under the same bounds.
    pub fn new(rollout: Rollout, bounds: Bounds, present: Option<&Traffic>) -> Traffic {
        let same =
            present.filter(|present| present.id() == id(&rollout) && present.bounds == bounds);
        let sides = same.map(|present| Arc::clone(&present.sides));
        let sides = sides.unwrap_or_else(|| Arc::new(Sides::new(bounds.clone())));
        Traffic { rollout, bounds, sides, drawn: AtomicU64::new(0) }
    }

    /// Which rollout it is.
    pub fn id(&self) -> RolloutId {
        id(&self.rollout)
    }

    /// Who answers a request: the same for the same value of the sticky header, else by chance.
    pub(crate) fn side(&self, sticky: Option<&[u8]>) -> Side {
        let canary = self.rollout.canary;
        if canary == Share::NONE {
            return Side::Current;
        }
        let at = match sticky {
            Some(value) => self.place(value),
            None => self.draw(),
        };
        if at < canary.ten_thousandths() { Side::Candidate } else { Side::Current }
    }

    /// Whether the candidate is shown a request that the current version answers; by chance.
    pub(crate) fn shows(&self) -> bool {
        let shadow = self.rollout.shadow;
        shadow != Share::NONE && self.draw() < shadow.ten_thousandths()
    }

    pub(crate) fn shadows(&self) -> &Shadows {
        &self.sides.shadows
    }

    /// What came of the requests that the candidate was shown.
    pub fn shadow_report(&self) -> ShadowReport {
        self.shadows().report()
    }

    /// Where of ten thousand places a value lies: the same in every process, and another for each candidate, so that
    /// it is not always the same callers who try.
    fn place(&self, value: &[u8]) -> u16 {
        let Rollout { alias, candidate, .. } = &self.rollout;
        let text = [alias.as_str().as_bytes(), b"\0", candidate.as_str().as_bytes(), b"\0", value];
        let digest = Digest::of(&text.concat());
        let [a, b, c, d, ..] = *digest.as_bytes();
        (u32::from_be_bytes([a, b, c, d]) % 10_000) as u16
    }

    /// A place by chance: SplitMix64, of which every number is another request.
    fn draw(&self) -> u16 {
        let mut z = self.drawn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % 10_000) as u16
    }

    /// Counts an answer or a failure, and gives back why the candidate has failed if this shows it.
    pub(crate) fn note<T>(
        &self,
        side: Side,
        took: Duration,
        answer: &Result<T, PredictError>,
    ) -> Option<String> {
        let sides = &self.sides;
        let at = sides.began.elapsed();
        let mut window = sides.window(side);
        window.note(at, &sides.bounds, took, Kind::of(answer.as_ref().err()));
        if side == Side::Current {
            return None;
        }
        let why = window.breach(&sides.bounds)?;
        drop(window);
        (!sides.failed.swap(true, Ordering::Relaxed)).then_some(why)
    }

    /// Lets the next bad answer tell again that the candidate has failed: what was to be done about it did not go.
    pub fn rearm(&self) {
        self.sides.failed.store(false, Ordering::Relaxed);
    }

    /// How both sides do.
    pub fn report(&self) -> [SideReport; 2] {
        let at = self.sides.began.elapsed();
        [Side::Current, Side::Candidate].map(|side| {
            let mut window = self.sides.window(side);
            window.advance(at, &self.sides.bounds);
            window.report()
        })
    }
}

fn id(rollout: &Rollout) -> RolloutId {
    RolloutId {
        alias: rollout.alias.clone(),
        candidate: rollout.candidate.clone(),
        created_ms: rollout.created_ms,
    }
}

impl Sides {
    fn new(bounds: Bounds) -> Sides {
        let (current, candidate) = (Mutex::default(), Mutex::default());
        Sides {
            bounds,
            began: Instant::now(),
            current,
            candidate,
            shadows: Shadows::default(),
            failed: AtomicBool::new(false),
        }
    }

    fn window(&self, side: Side) -> MutexGuard<'_, Window> {
        let window = match side {
            Side::Current => &self.current,
            Side::Candidate => &self.candidate,
        };
        window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a request ended, as far as its version is to blame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fine,
    Error,
    Trap,
}

impl Kind {
    fn of(error: Option<&PredictError>) -> Kind {
        match error {
            Some(PredictError::Guest(
                GuestError::Trap(_) | GuestError::Deadline { .. } | GuestError::Limit { .. },
            )) => Kind::Trap,
            Some(error) if matches!(error.fault(), Fault::Plugin | Fault::Host) => Kind::Error,
            _ => Kind::Fine,
        }
    }
}

/// Parts that a window moves by.
const SLICES: u64 = 6;
/// Latencies are told apart up to here; what takes longer counts as this.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// The latest slices of time, the newest last.
#[derive(Default)]
struct Window {
    slices: Vec<Slice>,
    total: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    requests: u64,
    errors: u64,
    traps: u64,
    /// Over the bound on latency.
    slow: u64,
}

impl Counts {
    fn add(&mut self, more: &Counts) {
        self.requests += more.requests;
        self.errors += more.errors;
        self.traps += more.traps;
        self.slow += more.slow;
    }
}

struct Slice {
    index: u64,
    counts: Counts,
    latencies_us: Histogram<u32>,
}

fn latencies() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("these bounds are in order")
}

impl Window {
    /// Lets go of what is older than the window.
    fn advance(&mut self, at: Duration, bounds: &Bounds) -> u64 {
        let slice_ms = u128::from((bounds.window_ms / SLICES).max(1));
        let index = u64::try_from(at.as_millis() / slice_ms).unwrap_or(u64::MAX);
        self.slices.retain(|slice| slice.index + SLICES > index);
        index
    }

    fn note(&mut self, at: Duration, bounds: &Bounds, took: Duration, kind: Kind) {
        let index = self.advance(at, bounds);
        let counts = Counts {
            requests: 1,
            errors: u64::from(kind != Kind::Fine),
            traps: u64::from(kind == Kind::Trap),
            slow: u64::from(
                bounds.p99_ms_max.is_some_and(|max| took.as_secs_f64() * 1_000.0 > max),
            ),
        };
        if self.slices.last().is_none_or(|last| last.index != index) {
            let counts = Counts::default();
            self.slices.push(Slice { index, counts, latencies_us: latencies() });
        }
        if let Some(slice) = self.slices.last_mut() {
            slice.counts.add(&counts);
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            slice.latencies_us.saturating_record(us.clamp(1, LATENCY_US_MAX));
        }
        self.total.add(&counts);
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.slices.iter().for_each(|slice| counts.add(&slice.counts));
        counts
    }

    /// What is over its bound, in words.
    fn breach(&self, bounds: &Bounds) -> Option<String> {
        let counts = self.counts();
        if counts.requests < bounds.requests_min {
            return None;
        }
        let percent = |part: u64| part as f64 * 100.0 / counts.requests as f64;
        let over = |what: &str, part: u64, max: Option<f64>| {
            let max = max.filter(|max| percent(part) > *max)?;
            let (got, requests) = (percent(part), counts.requests);
            Some(format!("{what} {got:.1} % of {requests} requests, at most {max} % may be"))
        };
        over("errors were", counts.errors, bounds.errors_percent_max)
            .or_else(|| over("traps were", counts.traps, bounds.traps_percent_max))
            .or_else(|| {
                let ms = bounds.p99_ms_max?;
                over(&format!("slower than {ms} ms were"), counts.slow, Some(1.0))
            })
    }

    fn report(&self) -> SideReport {
        let counts = self.counts();
        let mut all = latencies();
        for slice in &self.slices {
            all.add(&slice.latencies_us).expect("all have the same bounds");
        }
        let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1_000.0;
        SideReport {
            requests_total: self.total.requests,
            errors_total: self.total.errors,
            traps_total: self.total.traps,
            requests: counts.requests,
            errors: counts.errors,
            traps: counts.traps,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        }
    }
}

/// The one version that a request sees, and what its answer counts for.
pub struct Choice {
    /// The version.
    pub deployment: Arc<Deployment>,
    /// For the request; none where its alias is not shared out.
    pub via: Option<Via>,
}

/// How a request came to its version.
#[derive(Clone)]
pub struct Via {
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) side: Side,
    /// The candidate that is shown the request, too.
    pub(crate) shown_to: Option<Arc<Deployment>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(canary: u16, bounds: Bounds) -> Traffic {
        let rollout = Rollout {
            alias: "stable".parse().unwrap(),
            candidate: "2".parse().unwrap(),
            canary: Share::of_ten_thousand(canary).unwrap(),
            shadow: Share::NONE,
            sticky: Traffic::STICKY.into(),
            bounds: String::new(),
            created_ms: 0,
        };
        Traffic::new(rollout, bounds, None)
    }

    fn share(traffic: &Traffic, sticky: impl Fn(u32) -> Option<String>) -> f64 {
        let candidate =
            |i: &u32| traffic.side(sticky(*i).as_deref().map(str::as_bytes)) == Side::Candidate;
        f64::from((0..20_000).filter(candidate).count() as u32) / 20_000.0
    }

    #[test]
    fn each_side_gets_its_share() {
        for (canary, wanted) in [(0, 0.0), (100, 0.01), (1_000, 0.1), (5_000, 0.5), (10_000, 1.0)] {
            let traffic = traffic(canary, Bounds::default());
            for got in [share(&traffic, |_| None), share(&traffic, |i| Some(format!("user-{i}")))] {
                assert!((got - wanted).abs() < 0.012, "{got} of {wanted}");
            }
        }
    }

    #[test]
    fn a_caller_stays_where_it_is_while_the_share_grows() {
        let mut on: Vec<u32> = Vec::new();
        for canary in [500, 1_000, 5_000] {
            let traffic = traffic(canary, Bounds::default());
            let side = |i: &u32| traffic.side(Some(format!("user-{i}").as_bytes()));
            assert!(on.iter().all(|i| side(i) == Side::Candidate), "at {canary}");
            on = (0..1_000).filter(|i| side(i) == Side::Candidate).collect();
        }
        assert!((400..600).contains(&on.len()), "{}", on.len());
    }

    const MS: Duration = Duration::from_millis(1);

    fn trap() -> Result<(), PredictError> {
        Err(PredictError::Guest(GuestError::Trap("x".into())))
    }

    fn failed() -> Result<(), PredictError> {
        Err(PredictError::Guest(GuestError::Failed("x".into())))
    }

    #[test]
    fn a_candidate_fails_by_each_bound_and_is_told_once() {
        let bounds = |errors, traps, p99| Bounds {
            requests_min: 10,
            errors_percent_max: errors,
            traps_percent_max: traps,
            p99_ms_max: p99,
            ..Bounds::default()
        };
        type Answer = fn() -> Result<(), PredictError>;
        let cases: [(Bounds, Answer, Duration, Option<&str>); 6] = [
            (bounds(Some(50.0), None, None), failed, MS, Some("errors were 100.0 % of 10")),
            (bounds(Some(50.0), None, None), trap, MS, Some("errors were")),
            (bounds(None, Some(1.0), None), trap, MS, Some("traps were")),
            (bounds(None, Some(1.0), None), failed, MS, None),
            (bounds(None, None, Some(5.0)), || Ok(()), 6 * MS, Some("slower than 5 ms")),
            (bounds(None, None, Some(5.0)), || Ok(()), MS, None),
        ];
        for (bounds, answer, took, wanted) in cases {
            let traffic = traffic(1_000, bounds);
            let note = |side| traffic.note(side, took, &answer());
            assert!((0..30).all(|_| note(Side::Current).is_none()));
            assert!((0..9).all(|_| note(Side::Candidate).is_none()), "too few to judge");
            let told: Vec<String> = (0..10).filter_map(|_| note(Side::Candidate)).collect();
            assert_eq!(told.len(), usize::from(wanted.is_some()), "{told:?}");
            assert!(wanted.is_none_or(|wanted| told[0].contains(wanted)), "{told:?}");
            traffic.rearm();
            assert_eq!(note(Side::Candidate).is_some(), wanted.is_some());
        }
    }

    #[test]
    fn the_callers_mistakes_and_a_full_host_are_not_the_candidates() {
        let traffic = traffic(1_000, Bounds { requests_min: 1, ..Bounds::default() });
        for error in [
            PredictError::Draining,
            PredictError::QueueTimeout { limit: 1 },
            PredictError::Guest(GuestError::Refused("x".into())),
        ] {
            assert_eq!(traffic.note::<()>(Side::Candidate, MS, &Err(error)), None);
        }
        let [_, candidate] = traffic.report();
        assert_eq!((candidate.requests, candidate.errors), (3, 0));
    }

    #[test]
    fn the_window_forgets_and_the_total_does_not() {
        let bounds = Bounds { window_ms: 6_000, ..Bounds::default() };
        let mut window = Window::default();
        for second in 0..10 {
            window.note(Duration::from_secs(second), &bounds, MS, Kind::Error);
        }
        assert_eq!((window.counts().requests, window.total.requests), (6, 10));
        window.advance(Duration::from_secs(100), &bounds);
        assert_eq!((window.counts().errors, window.total.errors), (0, 10));
    }

    #[test]
    fn bounds_that_cannot_be_are_named() {
        let cases = [
            (Bounds { requests_min: 0, ..Bounds::default() }, "requests_min"),
            (Bounds { window_ms: 0, ..Bounds::default() }, "window_ms"),
            (Bounds { errors_percent_max: Some(101.0), ..Bounds::default() }, "errors_percent_max"),
            (
                Bounds { traps_percent_max: Some(f64::NAN), ..Bounds::default() },
                "traps_percent_max",
            ),
            (Bounds { p99_ms_max: Some(0.0), ..Bounds::default() }, "p99_ms_max"),
            (Bounds { difference_max: -0.1, ..Bounds::default() }, "difference_max"),
        ];
        for (bounds, wanted) in cases {
            assert!(bounds.check().unwrap_err().contains(wanted));
        }
        assert_eq!(Bounds::default().check(), Ok(()));
    }
}
