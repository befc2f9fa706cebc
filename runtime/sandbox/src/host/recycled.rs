//! Memory of dropped results, kept for later ones of the same call, and for a trainer of its later calls.

use std::sync::Arc;

use innkeeper_kernels::Memory;
use innkeeper_tensor::Tensor;

use crate::{ByteBudget, Charge};

/// The most bytes that one call keeps, and the part of its tenant's budget that this may be.
const BYTES_MAX: u64 = 32 << 20;
const PART_MAX: u64 = 16;
/// The part that a trainer keeps, whose every step wants the same memory again.
const PART_OF_TRAINER: u64 = 4;

/// Memory that operations use again. It counts against the tenant's budget as tensors do; it is there while half of that
/// is free, and goes first when there is no room.
pub(super) struct Recycled {
    memory: Memory,
    bytes_max: u64,
    budget: Arc<ByteBudget>,
    charge: Option<Charge>,
}

impl Recycled {
    pub(super) fn new(budget: &Arc<ByteBudget>) -> Recycled {
        Recycled::of(budget, BYTES_MAX.min(budget.max() / PART_MAX))
    }

    /// For a guest that is called again and again for the same work.
    pub(super) fn of_trainer(budget: &Arc<ByteBudget>) -> Recycled {
        Recycled::of(budget, budget.max() / PART_OF_TRAINER)
    }

    fn of(budget: &Arc<ByteBudget>, bytes_max: u64) -> Recycled {
        Recycled { memory: empty(bytes_max), bytes_max, budget: Arc::clone(budget), charge: None }
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Keeps the memory of a tensor that nobody else holds.
    pub(super) fn give(&mut self, tensor: Tensor) {
        self.memory.recycle(tensor);
        self.settle();
    }

    /// Counts all that might be kept, before work that gives and takes by itself. Whether there is room for it.
    pub(super) fn reserve(&mut self) -> bool {
        let counted = self.count(self.bytes_max);
        if !counted {
            self.clear();
        }
        counted
    }

    /// Counts what is kept, or lets go of it.
    pub(super) fn settle(&mut self) {
        if !self.count(self.memory.byte_length() as u64) {
            self.clear();
        }
    }

    /// Lets go of everything. Whether there was anything.
    pub(super) fn clear(&mut self) -> bool {
        if self.charge.take().is_none() && self.memory.byte_length() == 0 {
            return false;
        }
        self.memory = empty(self.bytes_max);
        true
    }

    fn count(&mut self, bytes: u64) -> bool {
        let counted = self.charge.as_ref().map_or(0, Charge::bytes);
        if bytes <= counted {
            let charge = self.charge.as_mut();
            drop(charge.map(|charge| charge.split(counted - bytes)));
            return true;
        }
        let more = bytes - counted;
        if self.budget.used().saturating_add(more) > self.budget.max() / 2 {
            return false;
        }
        match &mut self.charge {
            Some(charge) => charge.grow(more).is_ok(),
            None => {
                self.charge = self.budget.charge(more).ok();
                self.charge.is_some()
            }
        }
    }
}

fn empty(bytes_max: u64) -> Memory {
    Memory::new(usize::try_from(bytes_max).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(bytes: usize) -> Tensor {
        Tensor::from_vec(&[bytes / 4], vec![0f32; bytes / 4]).unwrap()
    }

    #[test]
    fn what_is_kept_counts_until_it_is_let_go() {
        let budget = ByteBudget::new(1600);
        let mut recycled = Recycled::new(&budget);
        recycled.give(tensor(40));
        recycled.give(tensor(60));
        assert_eq!(budget.used(), 100);
        // No more than a sixteenth of the budget is kept.
        recycled.give(tensor(80));
        assert_eq!(budget.used(), recycled.memory().byte_length() as u64);
        assert!(budget.used() <= 100);
        assert!(recycled.reserve());
        assert_eq!(budget.used(), 100);
        assert!(recycled.clear() && !recycled.clear());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn nothing_is_kept_once_half_of_the_budget_is_in_use() {
        let budget = ByteBudget::new(1600);
        let mut recycled = Recycled::new(&budget);
        let held = budget.charge(780).unwrap();
        recycled.give(tensor(40));
        assert_eq!((budget.used(), recycled.memory().byte_length()), (780, 0));
        assert!(!recycled.reserve());
        drop(held);
        recycled.give(tensor(40));
        assert_eq!(budget.used(), 40);
    }
}
