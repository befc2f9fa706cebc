//! What a call may use, and when it must stop.

use std::sync::Mutex;

use innkeeper_tensor::{Element, Tensor};

use crate::cpu::Isa;
use crate::memory::{resized, zeroed};
use crate::pool::{Chunk, guarded};
use crate::{GiveWay, Memory, OpError, Pool};

/// Called with the number of a piece and the piece.
pub(crate) type Piece<'a, T> = dyn Fn(usize, &mut [T]) -> Result<(), OpError> + Sync + 'a;

/// What one call of an operation may use: the caller's thread always, and what else it was lent.
///
/// A kernel splits long work into chunks by [`Run::parallel`], which looks between them whether the call must stop, and
/// takes the memory for its results from [`Run::room`], [`Run::filled`] and [`Run::scratch`].
#[derive(Clone, Copy, Default)]
pub struct Run<'a> {
    stop: Option<&'a (dyn Fn() -> bool + Sync)>,
    pool: Option<(&'a Pool, usize)>,
    way: Option<&'a dyn GiveWay>,
    memory: Option<&'a Memory>,
    isa: Isa,
    shares: bool,
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

    /// The same, on at most `threads` threads: the caller's, and those of `pool` that have nothing better to do.
    #[must_use]
    pub fn on(mut self, pool: &'a Pool, threads: usize) -> Run<'a> {
        self.pool = Some((pool, threads));
        self
    }

    /// The same, letting other calls go first between two chunks.
    #[must_use]
    pub fn giving_way(mut self, way: &'a dyn GiveWay) -> Run<'a> {
        self.way = Some(way);
        self
    }

    /// The same without rests, for what is done under a lock that others wait for.
    #[must_use]
    pub fn without_rests(mut self) -> Run<'a> {
        self.way = None;
        self
    }

    /// The same, taking memory for results from `memory` first. What it holds must belong to the same tenant.
    #[must_use]
    pub fn recycling(mut self, memory: &'a Memory) -> Run<'a> {
        self.memory = Some(memory);
        self
    }

    /// The same, going on to the end: for what must not be left half done.
    pub(crate) fn to_the_end(mut self) -> Run<'a> {
        self.stop = None;
        self
    }

    /// The same on the calling thread alone: for what a chunk calls.
    pub(crate) fn alone(mut self) -> Run<'a> {
        self.pool = None;
        self.way = None;
        self
    }

    /// The same with these instructions. For the backend, which knows that they are there.
    #[must_use]
    pub(crate) fn by(mut self, isa: Isa) -> Run<'a> {
        self.isa = isa;
        self
    }

    /// Which instructions kernels may use.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// How many threads may work on this call.
    pub fn threads(&self) -> usize {
        self.pool.map_or(1, |(pool, threads)| threads.min(pool.threads()).max(1))
    }

    /// The same, where a result may be a view: a part of an operand that lies in one piece shares its bytes. A view keeps
    /// all of the operand's memory, so this is for those who count that memory and not the views.
    #[must_use]
    pub fn sharing(mut self) -> Run<'a> {
        self.shares = true;
        self
    }

    /// Whether a result may share a part of an operand's bytes.
    pub fn shares(&self) -> bool {
        self.shares
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
    /// The first error of a chunk, after which no further chunk begins, and [`OpError::Stopped`]. A chunk that panics
    /// is an [`OpError::Unsupported`] that says so.
    pub fn parallel(
        &self,
        chunks: usize,
        chunk: impl Fn(usize) -> Result<(), OpError> + Sync,
    ) -> Result<(), OpError> {
        self.chunks(chunks, &chunk)
    }

    fn chunks(&self, chunks: usize, chunk: &Chunk<'_>) -> Result<(), OpError> {
        // How the work is cut depends on the threads that there are, and on nobody's load: results do not change with it.
        let helpers = self.threads().min(chunks).saturating_sub(1);
        let most = |way: &dyn GiveWay| way.threads_max(self.threads()).saturating_sub(1);
        let helpers = self.way.map_or(helpers, |way| most(way).min(helpers));
        match self.pool {
            Some((pool, _)) if helpers > 0 => pool.run(chunks, helpers, self.stop, self.way, chunk),
            _ => (0..chunks).try_for_each(|index| {
                if let Some(way) = self.way.filter(|way| way.is_due()) {
                    way.give_way();
                }
                guarded(self.stop, chunk, index)
            }),
        }
    }

    /// [`Run::parallel`] over `out`, cut into pieces of `piece` elements of which the last may be shorter: calls
    /// `chunk` once with each piece and its number.
    ///
    /// # Errors
    /// As [`Run::parallel`].
    pub fn pieces<T: Send>(
        &self,
        out: &mut [T],
        piece: usize,
        chunk: impl Fn(usize, &mut [T]) -> Result<(), OpError> + Sync,
    ) -> Result<(), OpError> {
        self.each_piece(out, piece, &chunk)
    }

    /// [`Run::pieces`], compiled once for each type of elements and not for each caller.
    pub(crate) fn each_piece<T: Send>(
        &self,
        out: &mut [T],
        piece: usize,
        chunk: &Piece<'_, T>,
    ) -> Result<(), OpError> {
        let pieces: Vec<_> =
            out.chunks_mut(piece.max(1)).map(|piece| Mutex::new(Some(piece))).collect();
        self.chunks(pieces.len(), &|index| {
            let piece = pieces[index].lock().ok().and_then(|mut piece| piece.take());
            piece.map_or(Ok(()), |piece| chunk(index, piece))
        })
    }

    /// An empty vector with room for `len` elements. To be called after the check, with a size that it gave.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] when there is no memory.
    pub fn room<T: Element>(&self, len: usize) -> Result<Vec<T>, OpError> {
        if let Some(mut kept) = self.memory.and_then(|memory| memory.take(len)) {
            kept.clear();
            return Ok(kept);
        }
        let mut elements = Vec::new();
        elements.try_reserve_exact(len).map_err(|_| no_memory::<T>(len))?;
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

    /// `len` elements of any value, for a kernel that writes each of them.
    ///
    /// # Errors
    /// As [`Run::room`].
    pub fn scratch<T: Element>(&self, len: usize) -> Result<Vec<T>, OpError> {
        match self.memory.and_then(|memory| memory.take(len)) {
            Some(kept) => Ok(resized(kept, len)),
            None => zeroed(len).ok_or_else(|| no_memory::<T>(len)),
        }
    }

    /// Keeps the memory of a tensor that nobody else holds for a later result, if this run recycles.
    pub fn recycle(&self, tensor: Tensor) {
        if let Some(memory) = self.memory {
            memory.recycle(tensor);
        }
    }

    /// Keeps the memory of a [`Run::scratch`] that did not become a result.
    pub fn give<T: Element>(&self, scratch: Vec<T>) {
        if let Some(memory) = self.memory {
            memory.give(scratch);
        }
    }
}

fn no_memory<T>(len: usize) -> OpError {
    let bytes = len.saturating_mul(size_of::<T>());
    OpError::Unsupported(format!("there is no memory for a result of {bytes} bytes"))
}
