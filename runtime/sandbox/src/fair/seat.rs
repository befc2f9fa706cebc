//! One call's way through the slots.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use super::Share;
use super::state::SLICE_NS;
use crate::runner;

/// Neither running nor in the line.
const AWAY: u8 = 0;
const IN_LINE: u8 = 1;
const RUNNING: u8 = 2;

/// Operations that rest at the same time, each on a thread of its own. Further ones go on to their end: tokio has 512 such
/// threads, and with all of them at rest nobody would be left to run.
const RESTING_MAX: usize = 128;

/// A call's place. Only the thread that polls the call changes it.
pub(super) struct Seat {
    share: Arc<Share>,
    place: AtomicU8,
    /// When its slice began.
    since_ns: AtomicU64,
    ticket: Arc<Ticket>,
}

/// What lies in the line: how a call hears that it has a slot.
#[derive(Default)]
pub(super) struct Ticket(Mutex<Told>);

#[derive(Default)]
struct Told {
    granted: bool,
    waker: Option<Waker>,
}

impl Ticket {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_by(&self, waker: &Waker) {
        let mut told = self.told();
        match &mut told.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn grant(&self) {
        let waker = {
            let mut told = self.told();
            told.granted = true;
            told.waker.take()
        };
        // Who has no waker yet looks before it waits.
        waker.into_iter().for_each(Waker::wake);
    }

    /// Whether a slot was given; if not, the waker hears of it.
    fn take(&self, waker: &Waker) -> bool {
        if std::mem::take(&mut self.told().granted) {
            return true;
        }
        self.wait_by(waker);
        // It may have been given meanwhile.
        std::mem::take(&mut self.told().granted)
    }
}

impl Seat {
    pub(super) fn new(share: Arc<Share>) -> Seat {
        let (place, since_ns) = (AtomicU8::new(AWAY), AtomicU64::new(0));
        Seat { share, place, since_ns, ticket: Arc::default() }
    }

    pub(super) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// Stands in line; whoever polls the call next looks whether it has a slot.
    pub(super) fn line_up(&self, quick: bool) {
        if self.place() != AWAY {
            return;
        }
        let (share, ticket) = (&self.share, &self.ticket);
        if share.fair.with(|state| state.enter(share.id, ticket, quick)) {
            self.begin();
        } else {
            self.place.store(IN_LINE, Ordering::Relaxed);
        }
    }

    /// Whether it may run now; if not, the waker hears when it may.
    pub(super) fn take(&self, waker: &Waker) -> bool {
        self.line_up(false);
        if self.place() == IN_LINE {
            if !self.ticket.take(waker) {
                return false;
            }
            self.begin();
        }
        true
    }

    fn begin(&self) {
        self.since_ns.store((self.share.fair.clock)(), Ordering::Relaxed);
        self.place.store(RUNNING, Ordering::Relaxed);
    }

    fn ran_ns(&self) -> u64 {
        (self.share.fair.clock)().saturating_sub(self.since_ns.load(Ordering::Relaxed))
    }

    /// Gives back what it has.
    pub(super) fn leave(&self) {
        let (fair, id) = (&self.share.fair, self.share.id);
        let next = match self.place.swap(AWAY, Ordering::Relaxed) {
            RUNNING => {
                let ran = self.ran_ns();
                fair.with(|state| state.leave(id, ran))
            }
            // Not in the line any more: it was given a slot that it does not want.
            IN_LINE => fair.with(|state| match state.remove(id, &self.ticket) {
                true => None,
                false => state.leave(id, 0),
            }),
            _ => None,
        };
        next.iter().for_each(|ticket| ticket.grant());
    }

    /// At the end of a slice, by a call that will be polled again: the slot goes to whoever is next, which may be
    /// this call again.
    pub(super) fn rotate(&self, waker: &Waker) {
        let (fair, ran) = (&self.share.fair, self.ran_ns());
        self.ticket.wait_by(waker);
        let next = fair.with(|state| state.rotate(self.share.id, ran, &self.ticket));
        match next {
            Some(next) if Arc::ptr_eq(&next, &self.ticket) => self.begin(),
            next => {
                self.place.store(IN_LINE, Ordering::Relaxed);
                next.iter().for_each(|ticket| ticket.grant());
            }
        }
    }

    /// Whether its slice is over and somebody waits.
    pub(super) fn is_over(&self) -> bool {
        self.share.fair.waiting.load(Ordering::Relaxed) > 0
            && runner::is_guests()
            && self.ran_ns() >= SLICE_NS
    }

    /// In the middle of an operation: waits on this thread until it may go on.
    pub(super) fn give_way(&self) {
        let resting = &self.share.fair.resting;
        if resting.fetch_add(1, Ordering::Relaxed) < RESTING_MAX {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            self.rotate(&waker);
            if self.place() != RUNNING {
                runner::blocking(|| {
                    while !self.take(&waker) {
                        thread::park();
                    }
                });
            }
        }
        resting.fetch_sub(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn is_running(&self) -> bool {
        self.place() == RUNNING
    }

    fn place(&self) -> u8 {
        self.place.load(Ordering::Relaxed)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
