//! Bytes that several instances share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes that may be in use at once, over every instance that holds the budget.
#[derive(Debug)]
pub struct ByteBudget {
    /// A larger budget that the same bytes count against as well.
    within: Option<Arc<ByteBudget>>,
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
        Arc::new(ByteBudget { within: None, used: AtomicU64::new(0), max: AtomicU64::new(max) })
    }

    /// A budget of `max` bytes that are part of this one.
    pub fn part(self: &Arc<ByteBudget>, max: u64) -> Arc<ByteBudget> {
        let (used, max) = (AtomicU64::new(0), AtomicU64::new(max));
        Arc::new(ByteBudget { within: Some(Arc::clone(self)), used, max })
    }

    /// Takes `bytes` of it.
    ///
    /// # Errors
    /// [`OverBudget`]; nothing is taken then.
    pub fn charge(self: &Arc<ByteBudget>, bytes: u64) -> Result<Charge, OverBudget> {
        self.take(bytes)?;
        Ok(Charge { budget: Arc::clone(self), bytes })
    }

    fn take(&self, bytes: u64) -> Result<(), OverBudget> {
        let max = self.max();
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= max)
            })
            .map_err(|used| OverBudget { max, used, asked: bytes })?;
        let within = self.within.as_ref().map_or(Ok(()), |within| within.take(bytes));
        within.inspect_err(|_| {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(within) = &self.within {
            within.give_back(bytes);
        }
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

impl Charge {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`OverBudget`]; nothing is taken then.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OverBudget> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Charge {
    /// How many bytes it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A part of it, as a charge of its own: as many of these bytes as there are.
    pub fn split(&mut self, bytes: u64) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Charge { budget: Arc::clone(&self.budget), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
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

    #[test]
    fn a_charge_can_be_divided() {
        let budget = ByteBudget::new(10);
        let mut whole = budget.charge(4).unwrap();
        whole.grow(4).unwrap();
        assert!(whole.grow(3).is_err());
        let part = whole.split(5);
        drop(whole);
        assert_eq!(budget.used(), 5);
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_part_counts_against_the_whole() {
        let whole = ByteBudget::new(10);
        let part = whole.part(6);
        let first = part.charge(5).unwrap();
        assert_eq!(part.charge(2).unwrap_err(), OverBudget { max: 6, used: 5, asked: 2 });
        let second = whole.charge(5).unwrap();
        assert_eq!(part.charge(1).unwrap_err(), OverBudget { max: 10, used: 10, asked: 1 });
        assert_eq!((part.used(), whole.used()), (5, 10));
        drop((first, second));
        assert_eq!((part.used(), whole.used()), (0, 0));
    }
}
