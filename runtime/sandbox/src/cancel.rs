//! A word to a running guest that nobody waits for it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells a running guest to stop; it does at the next tick of the epoch.
///
/// An in-flight call is never dropped: it is told, it traps, and its instance is thrown away.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    told: Arc<AtomicBool>,
    /// Where several callers wait for one call: it goes on until all have left.
    all: Option<Arc<[Cancel]>>,
}

impl Cancel {
    /// Stops the call that holds a clone of this.
    pub fn cancel(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// Stops the call that holds it once all of these are told to stop.
    pub fn when_all(cancels: Vec<Cancel>) -> Cancel {
        Cancel { told: Arc::default(), all: Some(cancels.into()) }
    }

    /// Whether it was told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.told.load(Ordering::Relaxed)
            || self.all.as_ref().is_some_and(|all| all.iter().all(Cancel::is_cancelled))
    }

    /// A guard that cancels when it is dropped, as the future of a request is when its client goes away.
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// Cancels when dropped.
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_several_ends_with_the_last_who_waits() {
        let (a, b) = (Cancel::default(), Cancel::default());
        let both = Cancel::when_all(vec![a.clone(), b.clone()]);
        drop(a.on_drop());
        assert!(a.is_cancelled() && !both.is_cancelled());
        b.cancel();
        assert!(both.is_cancelled());
    }
}
