//! Whose turn it is: a number of slots for guests that run, shared by weight.
//!
//! A guest runs in slices of about one tick of the epoch. After each, its slot goes to a call of the share that has had
//! least for its weight of all that want to run (start-time fair queueing), so that whoever asks for ten times as much
//! keeps nobody but itself waiting. Who is alone has all slots; what was used while nobody else wanted it is not
//! held against anyone.

mod seat;
mod state;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use innkeeper_kernels::GiveWay;

use seat::Seat;
use state::State;

/// The largest weight; more counts as this.
const WEIGHT_MAX: u64 = 1 << 20;

/// The slots of one engine.
pub(crate) struct Fair {
    state: Mutex<State>,
    /// Threads that rest in the middle of an operation.
    resting: AtomicUsize,
    /// Calls that wait for a slot, for whoever looks without the lock.
    waiting: AtomicU64,
    /// The weights together of the shares that want to run.
    active_weight: AtomicU64,
    /// Nanoseconds since some moment.
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// One party's part of the guests' processors. Calls of one share take turns among themselves.
pub struct Share {
    fair: Arc<Fair>,
    id: u64,
    weight: AtomicU64,
}

impl Fair {
    pub(crate) fn new(slots: usize) -> Arc<Fair> {
        let origin = Instant::now();
        let elapsed = move || u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Fair::by(slots, Box::new(elapsed))
    }

    fn by(slots: usize, clock: Box<dyn Fn() -> u64 + Send + Sync>) -> Arc<Fair> {
        let (waiting, active_weight) = (AtomicU64::new(0), AtomicU64::new(0));
        let state = Mutex::new(State::new(slots.max(1)));
        let resting = AtomicUsize::new(0);
        Arc::new(Fair { state, resting, waiting, active_weight, clock })
    }

    pub(crate) fn share(self: &Arc<Self>, weight: u64) -> Arc<Share> {
        let weight = weight.clamp(1, WEIGHT_MAX);
        let id = self.with(|state| state.join(weight));
        Arc::new(Share { fair: Arc::clone(self), id, weight: AtomicU64::new(weight) })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        self.waiting.store(state.waiting(), Ordering::Relaxed);
        self.active_weight.store(state.active_weight(), Ordering::Relaxed);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Another weight, from the next slice on. It is 1 at least.
    pub fn set_weight(&self, weight: u64) {
        let weight = weight.clamp(1, WEIGHT_MAX);
        self.weight.store(weight, Ordering::Relaxed);
        self.fair.with(|state| state.set_weight(self.id, weight));
    }

    /// How many of `threads` its operations may use, beside those of the others that want to run now.
    fn part_of(&self, threads: usize) -> usize {
        let weight = self.weight.load(Ordering::Relaxed);
        let all = self.fair.active_weight.load(Ordering::Relaxed).max(weight);
        let part = (threads as u64).saturating_mul(weight).saturating_add(all / 2) / all;
        usize::try_from(part).unwrap_or(threads).clamp(1, threads.max(1))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.fair.with(|state| state.part(self.id));
    }
}

thread_local! {
    /// The call that this thread runs now.
    static CURRENT: RefCell<Option<Arc<Seat>>> = const { RefCell::new(None) };
    /// Whether it has come to the end of a slice.
    static YIELDED: Cell<bool> = const { Cell::new(false) };
}

/// Says that the guest on this thread yields since a tick of the epoch has passed, and wants to go on.
pub(crate) fn yielding() {
    YIELDED.set(true);
}

/// A call that runs in turns.
pub(crate) struct Sliced<F> {
    call: Pin<Box<F>>,
    seat: Arc<Seat>,
}

impl<F: Future> Sliced<F> {
    pub(crate) fn new(call: F, share: &Arc<Share>) -> Sliced<F> {
        Sliced { call: Box::pin(call), seat: Arc::new(Seat::new(Arc::clone(share))) }
    }

    /// Stands in line before it is first polled. A call that is `quick` need not wait where its share is next.
    pub(crate) fn line_up(&self, quick: bool) {
        self.seat.line_up(quick);
    }
}

impl<F: Future> Future for Sliced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if !self.seat.take(context.waker()) {
            return Poll::Pending;
        }
        let running = Running::begin(&self.seat);
        let polled = self.call.as_mut().poll(context);
        let yielded = running.end();
        match polled {
            Poll::Pending if yielded => self.seat.rotate(context.waker()),
            _ => self.seat.leave(),
        }
        polled
    }
}

impl<F> Drop for Sliced<F> {
    fn drop(&mut self) {
        self.seat.leave();
    }
}

/// Says whose call runs on this thread, also while a panic unwinds.
struct Running(Option<Arc<Seat>>);

impl Running {
    fn begin(seat: &Arc<Seat>) -> Running {
        YIELDED.set(false);
        Running(CURRENT.replace(Some(Arc::clone(seat))))
    }

    fn end(self) -> bool {
        YIELDED.replace(false)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
}

/// By which operations of the call on this thread let others go first.
pub(crate) struct Turns;

impl GiveWay for Turns {
    fn threads_max(&self, threads: usize) -> usize {
        let part = |seat: &Arc<Seat>| seat.share().part_of(threads);
        CURRENT.with_borrow(|seat| seat.as_ref().map_or(threads, part))
    }

    fn is_due(&self) -> bool {
        CURRENT.with_borrow(|seat| seat.as_ref().is_some_and(|seat| seat.is_over()))
    }

    fn give_way(&self) {
        let seat = CURRENT.with_borrow(Option::clone);
        seat.iter().for_each(|seat| seat.give_way());
    }
}

#[cfg(test)]
mod tests;
