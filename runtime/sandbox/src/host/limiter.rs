//! How far a guest's memories and tables may grow.

use wasmtime::ResourceLimiter;

/// Holds one guest to its memory and table limits, over all memories and tables of its component.
pub(crate) struct Limiter {
    memory_bytes: u64,
    memory_bytes_max: u64,
    table_elements: u64,
    table_elements_max: u64,
    refused: Option<(&'static str, u64)>,
}

impl Limiter {
    pub(crate) fn new(memory_bytes_max: u64, table_elements_max: u64) -> Limiter {
        Limiter {
            memory_bytes: 0,
            memory_bytes_max,
            table_elements: 0,
            table_elements_max,
            refused: None,
        }
    }

    /// The limit that the guest last met, and its value. A guest that is refused memory usually traps a little later,
    /// and the trap does not say why.
    pub(crate) fn refused(&self) -> Option<(&'static str, u64)> {
        self.refused
    }

    /// For the next call.
    pub(crate) fn forget_refused(&mut self) {
        self.refused = None;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let sum = self.memory_bytes + desired.saturating_sub(current) as u64;
        if sum > self.memory_bytes_max {
            self.refused = Some(("guest_memory_bytes_max", self.memory_bytes_max));
            return Ok(false);
        }
        self.memory_bytes = sum;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let sum = self.table_elements + desired.saturating_sub(current) as u64;
        if sum > self.table_elements_max {
            self.refused = Some(("table_elements_max", self.table_elements_max));
            return Ok(false);
        }
        self.table_elements = sum;
        Ok(true)
    }
}
