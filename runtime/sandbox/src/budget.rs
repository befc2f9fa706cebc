//! Bytes that several instances share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes that may be in use at once, over every instance that holds the budget.
#[derive(Debug)]
pub struct ByteBudget {
    used: AtomicU64,
    max: AtomicU64,
}

/// Bytes taken from a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<ByteBudget>,
    bytes: u64,
}

/// There are not that many bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverBudget {
    /// The most that may be in use.
    pub max: u64,
    /// What is in use.
    pub used: u64,
    /// What was asked for on top.
    pub asked: u64,
}

impl ByteBudget {
    /// A budget of `max` bytes.
    pub fn new(max: u64) -> Arc<ByteBudget> {
        Arc::new(ByteBudget { used: AtomicU64::new(0), max: AtomicU64::new(max) })
    }

    /// Takes `bytes` of it.
    ///
    /// # Errors
    /// [`OverBudget`]; nothing is taken then.
    pub fn charge(self: &Arc<ByteBudget>, bytes: u64) -> Result<Charge, OverBudget> {
        let max = self.max();
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= max)
            })
            .map_err(|used| OverBudget { max, used, asked: bytes })?;
        Ok(Charge { budget: Arc::clone(self), bytes })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that may be in use.
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Changes the most that may be in use; what is in use stays.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_comes_back() {
        let budget = ByteBudget::new(10);
        let first = budget.charge(7).unwrap();
        assert_eq!(budget.charge(4).unwrap_err(), OverBudget { max: 10, used: 7, asked: 4 });
        assert!(budget.charge(u64::MAX).is_err());
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.charge(10).is_ok());
    }
}
