//! Locks and slots by key: what must happen one after the other per model, and only so often per tenant.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// One lock for each key that somebody holds or waits for.
pub(crate) struct Turns<K>(Keyed<K, Mutex<()>>);

/// Holds a key's lock until it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl<K: Eq + Hash> Turns<K> {
    pub(crate) fn new() -> Turns<K> {
        Turns(Keyed::new())
    }

    /// Waits for the key's lock; whoever came first goes first.
    pub(crate) async fn take(&self, key: K) -> Turn {
        self.0.get(key, || Mutex::new(())).lock_owned().await
    }
}

/// So many slots for each key.
pub(crate) struct Slots<K> {
    keyed: Keyed<K, Semaphore>,
    max: usize,
}

/// Holds a slot until it is dropped.
pub(crate) type Slot = OwnedSemaphorePermit;

impl<K: Eq + Hash> Slots<K> {
    pub(crate) fn new(max: usize) -> Slots<K> {
        Slots { keyed: Keyed::new(), max: max.clamp(1, Semaphore::MAX_PERMITS) }
    }

    /// How many slots each key has.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// A slot, if one is free.
    pub(crate) fn take(&self, key: K) -> Option<Slot> {
        self.keyed.get(key, || Semaphore::new(self.max)).try_acquire_owned().ok()
    }
}

/// Values that live while somebody holds them.
struct Keyed<K, V>(StdMutex<HashMap<K, Weak<V>>>);

impl<K: Eq + Hash, V> Keyed<K, V> {
    fn new() -> Keyed<K, V> {
        Keyed(StdMutex::new(HashMap::new()))
    }

    fn get(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Cleaned up before it would grow, so that each key is looked at a few times in all.
        if values.len() == values.capacity() {
            values.retain(|_, value| value.strong_count() > 0);
        }
        let place = values.entry(key).or_default();
        place.upgrade().unwrap_or_else(|| {
            let value = Arc::new(make());
            *place = Arc::downgrade(&value);
            value
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_turn_at_a_time_per_key() {
        let turns = Turns::new();
        let first = turns.take("a").await;
        drop(turns.take("b").await);
        assert!(tokio::time::timeout(Duration::ZERO, turns.take("a")).await.is_err());
        drop(first);
        drop(turns.take("a").await);
    }

    #[test]
    fn only_so_many_slots_per_key() {
        let slots = Slots::new(2);
        let held = (slots.take("a").unwrap(), slots.take("a").unwrap());
        assert!(slots.take("a").is_none());
        assert!(slots.take("b").is_some());
        drop(held.0);
        assert!(slots.take("a").is_some());
    }

    #[tokio::test]
    async fn keys_that_nobody_holds_are_forgotten() {
        let turns = Turns::new();
        for key in 0..10_000 {
            drop(turns.take(key).await);
        }
        assert!(turns.0.0.lock().unwrap().len() < 100);
    }
}
