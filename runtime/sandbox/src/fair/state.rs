//! Who has had how much, and who is next. Knows no clock and no thread.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::seat::Ticket;

/// What a slice is thought to take before it is over, in nanoseconds.
pub(super) const SLICE_NS: u64 = 1_000_000;
/// The weight for which a nanosecond counts as one.
const WEIGHT: u64 = 100;
/// How far a share may lie behind the others: it has that much of the processor before them when it wants to run again,
/// however long it was away.
const CREDIT: u64 = 20 * SLICE_NS;

pub(super) struct State {
    /// Slots that nobody has; below 0 where quick calls did not wait for one. While there is one, nobody waits.
    free: i64,
    slots: i64,
    /// Where the share was that got the latest slot; it never goes back.
    now: u64,
    parties: HashMap<u64, Party>,
    /// Those for which somebody waits, who has had least first.
    ready: BTreeSet<(u64, u64)>,
    next_id: u64,
    waiting: u64,
    active_weight: u64,
}

struct Party {
    weight: u64,
    /// The nanoseconds that it has had, divided by its weight; a slice that runs is counted beforehand.
    at: u64,
    running: usize,
    waiting: VecDeque<Arc<Ticket>>,
}

impl Party {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }

    fn cost(&self, ns: u64) -> u64 {
        (ns.saturating_mul(WEIGHT) / self.weight).max(1)
    }
}

impl State {
    pub(super) fn new(slots: usize) -> State {
        let slots = i64::try_from(slots).unwrap_or(i64::MAX);
        State {
            free: slots,
            slots,
            now: 0,
            parties: HashMap::new(),
            ready: BTreeSet::new(),
            next_id: 0,
            waiting: 0,
            active_weight: 0,
        }
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    pub(super) fn active_weight(&self) -> u64 {
        self.active_weight
    }

    pub(super) fn join(&mut self, weight: u64) -> u64 {
        self.next_id += 1;
        let party = Party { weight, at: self.now, running: 0, waiting: VecDeque::new() };
        self.parties.insert(self.next_id, party);
        self.next_id
    }

    /// Forgets a share of which no call is left.
    pub(super) fn part(&mut self, id: u64) {
        self.change(id, |party| party.waiting.clear());
        self.parties.remove(&id);
    }

    pub(super) fn set_weight(&mut self, id: u64, weight: u64) {
        self.change(id, |party| party.weight = weight);
    }

    /// A slot, or a place in the line. A `quick` call whose share is next runs at once: it is over before a slot would
    /// be free, and the next slot that is given back makes up for it.
    pub(super) fn enter(&mut self, id: u64, ticket: &Arc<Ticket>, quick: bool) -> bool {
        let earliest = self.now.saturating_sub(CREDIT);
        let at = self.change(id, |party| {
            if party.is_idle() {
                party.at = party.at.max(earliest);
            }
            party.at
        });
        let is_next =
            at.is_some_and(|at| self.ready.first().is_none_or(|first| (at, id) <= *first));
        let runs = self.free > 0 || (quick && is_next && self.free > -self.slots);
        if runs {
            self.start(id);
        } else {
            self.change(id, |party| party.waiting.push_back(Arc::clone(ticket)));
        }
        runs
    }

    /// Gives back a slot after so many nanoseconds; answers who has one now.
    pub(super) fn leave(&mut self, id: u64, ran_ns: u64) -> Option<Arc<Ticket>> {
        self.stop(id, ran_ns, None);
        self.next()
    }

    /// The same for who wants to go on, at the end of its share's line.
    pub(super) fn rotate(
        &mut self,
        id: u64,
        ran_ns: u64,
        ticket: &Arc<Ticket>,
    ) -> Option<Arc<Ticket>> {
        self.stop(id, ran_ns, Some(ticket));
        self.next()
    }

    /// Takes a ticket out of the line; false where it is not in it.
    pub(super) fn remove(&mut self, id: u64, ticket: &Arc<Ticket>) -> bool {
        self.change(id, |party| {
            let at = party.waiting.iter().position(|other| Arc::ptr_eq(other, ticket));
            at.and_then(|at| party.waiting.remove(at)).is_some()
        })
        .unwrap_or(false)
    }

    fn stop(&mut self, id: u64, ran_ns: u64, ticket: Option<&Arc<Ticket>>) {
        self.free += 1;
        self.change(id, |party| {
            party.running = party.running.saturating_sub(1);
            party.at = party.at.saturating_sub(party.cost(SLICE_NS));
            party.at = party.at.saturating_add(party.cost(ran_ns));
            party.waiting.extend(ticket.cloned());
        });
    }

    fn next(&mut self) -> Option<Arc<Ticket>> {
        let &(_, id) = self.ready.first().filter(|_| self.free > 0)?;
        let ticket = self.change(id, |party| party.waiting.pop_front()).flatten();
        self.start(id);
        ticket
    }

    fn start(&mut self, id: u64) {
        self.free -= 1;
        let now = self.now;
        let at = self.change(id, |party| {
            let at = party.at.max(now.saturating_sub(CREDIT));
            party.running += 1;
            party.at = at.saturating_add(party.cost(SLICE_NS));
            at
        });
        self.now = now.max(at.unwrap_or(now));
    }

    /// Changes one share and keeps in step what is known of all.
    fn change<T>(&mut self, id: u64, change: impl FnOnce(&mut Party) -> T) -> Option<T> {
        let party = self.parties.get_mut(&id)?;
        self.waiting -= party.waiting.len() as u64;
        if !party.is_idle() {
            self.active_weight -= party.weight;
        }
        if !party.waiting.is_empty() {
            self.ready.remove(&(party.at, id));
        }
        let result = change(party);
        self.waiting += party.waiting.len() as u64;
        if !party.is_idle() {
            self.active_weight = self.active_weight.saturating_add(party.weight);
        }
        if !party.waiting.is_empty() {
            self.ready.insert((party.at, id));
        }
        Some(result)
    }
}
