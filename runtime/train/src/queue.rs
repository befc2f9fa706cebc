//! Whose turn it is.

use std::collections::HashMap;

use innkeeper_catalog::TenantName;

/// A job that waits, or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) tenant: TenantName,
    /// The order in which jobs came.
    pub(crate) sequence: i64,
}

/// Jobs that wait for their turn, and how many of each tenant run. It knows no clock and no threads.
///
/// A tenant with fewer running jobs comes before one with more, among those the one whose last turn is longest ago, and
/// within a tenant the oldest job.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Vec<Entry>,
    running: HashMap<TenantName, u64>,
    /// When a tenant had its last turn, counted in turns.
    turns: HashMap<TenantName, u64>,
    turn: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, entry: Entry) {
        if self.waiting.iter().all(|other| other.id != entry.id) {
            self.waiting.push(entry);
        }
    }

    /// Takes a job out that is not to be done any more. False if it was not waiting.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|entry| entry.id != id);
        self.waiting.len() < before
    }

    /// How many run.
    pub(crate) fn running(&self) -> u64 {
        self.running.values().sum()
    }

    /// The job whose turn it is, as long as fewer than `running_max` run, and of its tenant fewer than that may have.
    pub(crate) fn next(
        &mut self,
        running_max: u64,
        tenant_max: impl Fn(&TenantName) -> u64,
    ) -> Option<Entry> {
        if self.running() >= running_max {
            return None;
        }
        let running = |tenant: &TenantName| self.running.get(tenant).copied().unwrap_or(0);
        let may = |entry: &&Entry| running(&entry.tenant) < tenant_max(&entry.tenant);
        let rank = |entry: &&Entry| {
            let last = self.turns.get(&entry.tenant).copied().unwrap_or(0);
            (running(&entry.tenant), last, entry.sequence)
        };
        let id = self.waiting.iter().filter(may).min_by_key(rank)?.id.clone();
        let at = self.waiting.iter().position(|entry| entry.id == id)?;
        let entry = self.waiting.remove(at);
        self.turn += 1;
        self.turns.insert(entry.tenant.clone(), self.turn);
        *self.running.entry(entry.tenant.clone()).or_default() += 1;
        Some(entry)
    }

    /// A job of this tenant runs no more.
    pub(crate) fn ended(&mut self, tenant: &TenantName) {
        if let Some(running) = self.running.get_mut(tenant) {
            *running = running.saturating_sub(1);
        }
        self.running.retain(|_, running| *running > 0);
        // What is remembered of tenants without jobs is only who came last.
        let waiting = &self.waiting;
        let running = &self.running;
        self.turns.retain(|tenant, _| {
            running.contains_key(tenant) || waiting.iter().any(|entry| entry.tenant == *tenant)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(jobs: &[(&str, &str)]) -> Queue {
        let mut queue = Queue::default();
        for (i, (id, tenant)) in jobs.iter().enumerate() {
            let (id, tenant) = ((*id).to_owned(), tenant.parse().unwrap());
            queue.push(Entry { id, tenant, sequence: i as i64 });
        }
        queue
    }

    fn next(queue: &mut Queue, running_max: u64) -> Option<String> {
        queue.next(running_max, |_| 2).map(|entry| entry.id)
    }

    #[test]
    fn tenants_take_turns_however_much_one_asks_for() {
        let mut queue = queue(&[("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")]);
        let mut order = Vec::new();
        while let Some(entry) = queue.next(1, |_| 2) {
            order.push(entry.id);
            queue.ended(&entry.tenant);
        }
        assert_eq!(order, ["a1", "b1", "c1", "a2", "a3"]);
    }

    #[test]
    fn nobody_has_more_than_they_may() {
        let mut queue = queue(&[("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")]);
        assert_eq!(next(&mut queue, 9).as_deref(), Some("a1"));
        assert_eq!(next(&mut queue, 9).as_deref(), Some("b1"));
        assert_eq!(next(&mut queue, 2), None, "as many run as may");
        assert_eq!(next(&mut queue, 9).as_deref(), Some("a2"));
        assert_eq!(next(&mut queue, 9), None, "two of a's run");
        queue.ended(&"a".parse().unwrap());
        assert_eq!(next(&mut queue, 9).as_deref(), Some("a3"));
    }

    #[test]
    fn what_is_taken_out_has_no_turn() {
        let mut queue = queue(&[("a1", "a"), ("b1", "b")]);
        assert!(queue.remove("a1"));
        assert!(!queue.remove("a1"));
        assert_eq!(next(&mut queue, 9).as_deref(), Some("b1"));
        assert_eq!(next(&mut queue, 9), None);
    }
}
