//! Things that are made once and shared while somebody uses them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use innkeeper_catalog::Digest;
use tokio::sync::Mutex;

/// What a value is kept under: the digest of what it is made of, or more.
pub(crate) trait Key: Clone + Eq + std::hash::Hash {}

impl<T: Clone + Eq + std::hash::Hash> Key for T {}

type Slot<V> = Arc<Mutex<Weak<V>>>;

/// Values by digest, or by a larger key. It keeps none alive: a value that nobody uses any more is made again when it is wanted.
#[derive(Debug)]
pub(crate) struct Shared<V, K = Digest> {
    slots: StdMutex<HashMap<K, Slot<V>>>,
}

impl<V, K: Key> Shared<V, K> {
    pub(crate) fn new() -> Shared<V, K> {
        Shared { slots: StdMutex::new(HashMap::new()) }
    }

    /// The value of this key, made by `make` when there is none. Of several that ask at once, one makes it.
    pub(crate) async fn get<E>(
        &self,
        key: K,
        make: impl Future<Output = Result<V, E>>,
    ) -> Result<Arc<V>, E> {
        let slot = self.slot(key);
        let mut value = slot.lock().await;
        if let Some(value) = value.upgrade() {
            return Ok(value);
        }
        let made = Arc::new(make.await?);
        *value = Arc::downgrade(&made);
        Ok(made)
    }

    fn slot(&self, key: K) -> Slot<V> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() == slots.capacity() {
            slots.retain(|_, slot| is_used(slot));
        }
        Arc::clone(slots.entry(key).or_insert_with(|| Arc::new(Mutex::new(Weak::new()))))
    }
}

/// Whether somebody holds the value, or is about to.
fn is_used<V>(slot: &Slot<V>) -> bool {
    Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|value| value.strong_count() > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn made_once_while_it_is_used() {
        let shared = Shared::<_>::new();
        let digest = Digest::of(b"a");
        let made = AtomicUsize::new(0);
        let make = || async { Ok::<_, ()>(made.fetch_add(1, Ordering::Relaxed)) };
        let (first, second) = tokio::join!(shared.get(digest, make()), shared.get(digest, make()));
        assert!(Arc::ptr_eq(first.as_ref().unwrap(), second.as_ref().unwrap()));
        assert_eq!(made.load(Ordering::Relaxed), 1);
        drop((first, second));
        assert_eq!(*shared.get(digest, make()).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let shared = Shared::<_>::new();
        let digest = Digest::of(b"a");
        assert!(shared.get(digest, async { Err::<u8, _>("no") }).await.is_err());
        assert_eq!(*shared.get(digest, async { Ok::<_, ()>(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_nobody_uses_is_forgotten() {
        let shared = Shared::<_>::new();
        let kept = shared.get(Digest::of(b"kept"), async { Ok::<_, ()>(0) }).await.unwrap();
        for i in 0..10_000u32 {
            let digest = Digest::of(&i.to_le_bytes());
            shared.get(digest, async { Ok::<_, ()>(i) }).await.unwrap();
        }
        assert!(shared.slots.lock().unwrap().len() < 100);
        let again = shared.get(Digest::of(b"kept"), async { Ok::<_, ()>(1) }).await.unwrap();
        assert!(Arc::ptr_eq(&kept, &again));
    }
}
