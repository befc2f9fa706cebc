//! What a call may use, and when it must stop.

use innkeeper_tensor::Element;

use crate::OpError;

/// What one call of an operation may use: the caller's thread always, and what else it was lent.
///
/// A kernel splits long work into chunks by [`Run::parallel`], which looks between them whether the call must stop, and
/// takes the memory for its results from [`Run::room`] and [`Run::filled`].
#[derive(Clone, Copy, Default)]
pub struct Run<'a> {
    stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl<'a> Run<'a> {
    /// The calling thread alone, until the work is done.
    pub fn new() -> Run<'a> {
        Run::default()
    }

    /// The same, stopping with [`OpError::Stopped`] soon after `stop` holds.
    #[must_use]
    pub fn until(mut self, stop: &'a (dyn Fn() -> bool + Sync)) -> Run<'a> {
        self.stop = Some(stop);
        self
    }

    /// # Errors
    /// [`OpError::Stopped`] when the call must stop.
    pub fn check(&self) -> Result<(), OpError> {
        match self.stop {
            Some(stop) if stop() => Err(OpError::Stopped),
            _ => Ok(()),
        }
    }

    /// Calls `chunk` once with each number below `chunks`, in any order and on any of the threads that this run has.
    /// A chunk should take between some tens of microseconds and a millisecond: the run can be stopped between two.
    ///
    /// # Errors
    /// The first error of a chunk, after which no further chunk begins, and [`OpError::Stopped`].
    pub fn parallel(
        &self,
        chunks: usize,
        chunk: impl Fn(usize) -> Result<(), OpError> + Sync,
    ) -> Result<(), OpError> {
        for index in 0..chunks {
            self.check()?;
            chunk(index)?;
        }
        Ok(())
    }

    /// An empty vector with room for `len` elements. To be called after the check, with a size that it gave.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] when there is no memory.
    pub fn room<T: Element>(&self, len: usize) -> Result<Vec<T>, OpError> {
        let mut elements = Vec::new();
        elements.try_reserve_exact(len).map_err(|_| {
            let bytes = len.saturating_mul(size_of::<T>());
            OpError::Unsupported(format!("there is no memory for a result of {bytes} bytes"))
        })?;
        Ok(elements)
    }

    /// `len` elements, all `value`.
    ///
    /// # Errors
    /// As [`Run::room`].
    pub fn filled<T: Element>(&self, len: usize, value: T) -> Result<Vec<T>, OpError> {
        let mut elements = self.room(len)?;
        elements.resize(len, value);
        Ok(elements)
    }
}
