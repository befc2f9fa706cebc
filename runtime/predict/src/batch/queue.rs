//! Who waits for a batch, and when which of them run. It knows no clock: whoever asks says what time it is.

use std::time::{Duration, Instant};

use innkeeper_catalog::TenantName;

use super::Batching;

/// What requests must have in common to run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Who asks; nobody where tenants may share a batch.
    pub(crate) caller: Option<TenantName>,
    /// What the guest can see of a request beside its tensors.
    pub(crate) parameters: Vec<(String, String)>,
    /// The outputs that are wanted.
    pub(crate) outputs: Vec<String>,
    /// The inputs that are given, sorted, with their sizes; that of the batch axis is left out.
    pub(crate) inputs: Vec<(String, Vec<usize>)>,
}

/// The requests that wait for one model.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    batching: Batching,
    /// Batches that may run at once.
    running_max: usize,
    running: usize,
    next_ticket: u64,
    /// None is empty.
    lanes: Vec<(Lane, Vec<Waiting<T>>)>,
}

/// What a request's turn depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// 1 goes first.
    pub(crate) priority: u64,
    /// Its size along the batch axis.
    pub(crate) rows: u64,
    /// When it has waited too long.
    pub(crate) until: Instant,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: u64,
    turn: Turn,
    since: Instant,
    job: T,
}

impl<T> Queue<T> {
    pub(crate) fn new(batching: Batching, running_max: usize) -> Queue<T> {
        let running_max = running_max.max(1);
        Queue { batching, running_max, running: 0, next_ticket: 0, lanes: Vec::new() }
    }

    /// Puts a request behind those of its priority. The ticket takes it out again.
    pub(crate) fn push(&mut self, now: Instant, lane: Lane, mut turn: Turn, job: T) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        // A request without rows takes room, too.
        turn.rows = turn.rows.max(1);
        let waiting = Waiting { ticket, turn, since: now, job };
        match self.lanes.iter_mut().find(|(other, _)| *other == lane) {
            None => self.lanes.push((lane, vec![waiting])),
            Some((_, line)) => {
                let at = line.partition_point(|other| other.turn.priority <= turn.priority);
                line.insert(at, waiting);
            }
        }
        ticket
    }

    /// Takes out a request that has not begun.
    pub(crate) fn remove(&mut self, ticket: u64) -> Option<T> {
        self.take(|waiting| waiting.ticket == ticket).pop()
    }

    /// Takes out those that have waited too long.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<T> {
        self.take(|waiting| waiting.turn.until <= now)
    }

    fn take(&mut self, which: impl Fn(&Waiting<T>) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for (_, line) in &mut self.lanes {
            taken.extend(line.extract_if(.., |waiting| which(waiting)).map(|waiting| waiting.job));
        }
        self.lanes.retain(|(_, line)| !line.is_empty());
        taken
    }

    /// The batch that is to run now, in order. It counts as running until [`Queue::finished`].
    pub(crate) fn next(&mut self, now: Instant) -> Option<Vec<T>> {
        if self.running >= self.running_max {
            return None;
        }
        let lanes = self.lanes.iter().enumerate();
        let ready = lanes.filter_map(|(at, (_, line))| {
            let count = self.ready(line, now)?;
            Some((line[0].turn.priority, line[0].ticket, at, count))
        });
        let (_, _, at, count) = ready.min()?;
        let line = &mut self.lanes[at].1;
        let batch = line.drain(..count).map(|waiting| waiting.job).collect();
        if line.is_empty() {
            self.lanes.remove(at);
        }
        self.running += 1;
        Some(batch)
    }

    /// A batch has come to its end.
    pub(crate) fn finished(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// When time alone will change what [`Queue::expired`] or [`Queue::next`] say.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        let lines = self.lanes.iter().map(|(_, line)| line);
        let delays = lines.clone().filter_map(|line| match self.running < self.running_max {
            true => oldest(line).map(|since| since + self.delay()),
            // Whoever comes to an end asks again.
            false => None,
        });
        let ends = lines.flatten().map(|waiting| waiting.turn.until);
        delays.chain(ends).min()
    }

    fn delay(&self) -> Duration {
        Duration::from_micros(self.batching.delay_us)
    }

    /// How many of this line, from its front, are to run now.
    fn ready(&self, line: &[Waiting<T>], now: Instant) -> Option<usize> {
        let Batching { preferred, max, .. } = &self.batching;
        let (mut rows, mut reached) = (0, None);
        for (before, waiting) in line.iter().enumerate() {
            rows += waiting.turn.rows;
            if rows > *max {
                // It cannot grow, however long it waits.
                return Some(before.max(1));
            }
            if rows == *max || preferred.contains(&rows) {
                reached = Some(before + 1);
            }
        }
        let alone = line.len() == 1 && self.lanes.len() == 1 && self.running == 0;
        let waited = oldest(line).is_some_and(|since| since + self.delay() <= now);
        if alone || waited { Some(line.len()) } else { reached }
    }
}

fn oldest<T>(line: &[Waiting<T>]) -> Option<Instant> {
    line.iter().map(|waiting| waiting.since).min()
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
