//! Who is asked before memory is taken.

/// Counts the bytes of a run against whoever pays for them.
pub trait Budget: Sync {
    /// Asks for `bytes` before they are allocated.
    ///
    /// # Errors
    /// Why not: what is allowed and what to do.
    fn charge(&self, bytes: usize) -> Result<(), String>;

    /// Gives `bytes` back that were charged.
    fn release(&self, bytes: usize);
}

/// A budget without an end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl Budget for Unlimited {
    fn charge(&self, _: usize) -> Result<(), String> {
        Ok(())
    }

    fn release(&self, _: usize) {}
}
