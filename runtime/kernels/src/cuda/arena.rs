//! A recorded graph's own memory: one piece, parts of which are used again within the graph.
//!
//! A graph's kernels keep the addresses that they were recorded with, so that its memory cannot come from the pool piece
//! by piece. What is dropped while recording is given to what is recorded later: work of one stream is done in order.

use std::sync::{Arc, Mutex, PoisonError};

/// Regions begin at multiples of this.
const ALIGN: u64 = 256;

/// Which parts of the memory are taken.
#[derive(Clone, Default)]
pub(crate) struct Arena {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What is taken: begin and end, in order.
    taken: Vec<(u64, u64)>,
    /// The largest end there ever was.
    high: u64,
}

/// A part that is taken until this is dropped.
pub(crate) struct Region {
    state: Arc<Mutex<State>>,
    begin: u64,
}

impl Arena {
    /// The first gap that is large enough, or the end. The same calls in the same order give the same regions.
    pub(crate) fn take(&self, bytes: u64) -> Option<Region> {
        let bytes = bytes.max(1).checked_next_multiple_of(ALIGN)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut begin, mut place) = (0, 0);
        for (i, &(from, to)) in state.taken.iter().enumerate() {
            if from - begin >= bytes {
                break;
            }
            (begin, place) = (to, i + 1);
        }
        let end = begin.checked_add(bytes)?;
        state.taken.insert(place, (begin, end));
        state.high = state.high.max(end);
        Some(Region { state: self.state.clone(), begin })
    }

    /// The bytes that all regions there ever were lie in.
    pub(crate) fn high(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).high
    }
}

impl Region {
    pub(crate) fn offset(&self) -> u64 {
        self.begin
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.taken.retain(|&(begin, _)| begin != self.begin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_used_again_and_nothing_overlaps() {
        let arena = Arena::default();
        let first = arena.take(1000).unwrap();
        let second = arena.take(256).unwrap();
        assert_eq!((first.offset(), second.offset(), arena.high()), (0, 1024, 1280));
        drop(first);
        let third = arena.take(300).unwrap();
        let fourth = arena.take(600).unwrap();
        assert_eq!((third.offset(), fourth.offset()), (0, 1280));
        drop((second, third));
        assert_eq!(arena.take(1280).unwrap().offset(), 0);
        assert!(arena.take(u64::MAX).is_none());
        assert_eq!(arena.high(), 2048);
    }
}
