//! Results on their way to the host: a thread that waits for the device so that nobody else has to.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use cudarc::driver::sys;

use super::context::{Context, Event, check};
use super::staging::Pinned;
use crate::cuda::CudaError;
use crate::cuda::machine::Done;

/// Results that may wait to be read.
const JOBS_MAX: usize = 1024;
/// What is copied at once; while one piece is on its way, the other is read.
const PIECE_BYTES: usize = 4 << 20;

/// A result to be read.
pub(super) struct Job {
    /// When it is there.
    pub(super) made: Event,
    pub(super) from: u64,
    pub(super) bytes: usize,
    pub(super) done: Done,
}

/// The thread.
pub(super) struct Reader {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(context: &Arc<Context>) -> Result<Reader, CudaError> {
        let (sender, receiver) = sync_channel(JOBS_MAX);
        let mut work = Work::new(context)?;
        let thread = thread::Builder::new()
            .name("cuda-reader".to_owned())
            .spawn(move || work.run(&receiver))
            .map_err(|error| CudaError::Device(format!("no thread for reading: {error}")))?;
        Ok(Reader { jobs: Some(sender), thread: Some(thread) })
    }

    pub(super) fn read(&self, job: Job) -> Result<(), CudaError> {
        let ended = || CudaError::Device("the device's reader has ended".to_owned());
        match self.jobs.as_ref().ok_or_else(ended)?.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(ended()),
            Err(TrySendError::Full(_)) => Err(CudaError::Device(format!(
                "{JOBS_MAX} results wait to be read from the device; send fewer requests at once"
            ))),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.jobs = None;
        let own =
            self.thread.as_ref().is_some_and(|own| own.thread().id() == thread::current().id());
        // The last holder of a device may be a result that the thread itself drops.
        if let Some(thread) = self.thread.take()
            && !own
        {
            // A panic there has been told where it was.
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Work {
    context: Arc<Context>,
    stream: sys::CUstream,
    pieces: [(Pinned, Event); 2],
}

// SAFETY: A stream is a name for what the driver guards itself.
unsafe impl Send for Work {}

impl Work {
    fn new(context: &Arc<Context>) -> Result<Work, CudaError> {
        let piece = || Ok((Pinned::new(context, PIECE_BYTES)?, Event::new(context)?));
        let pieces = [piece()?, piece()?];
        let mut stream = ptr::null_mut();
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: The pointer is to a value that lives until it returns.
        check("cuStreamCreate", unsafe { sys::cuStreamCreate(&mut stream, flags) })?;
        Ok(Work { context: context.clone(), stream, pieces })
    }

    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(Job { made, from, bytes, done }) = jobs.recv() {
            let result = self.context.enter().and_then(|()| self.read(&made, from, bytes));
            done(result);
        }
    }

    fn read(&mut self, made: &Event, from: u64, bytes: usize) -> Result<Vec<u8>, CudaError> {
        made.before(self.stream)?;
        let mut all = Vec::new();
        all.try_reserve_exact(bytes).map_err(|_| {
            CudaError::Memory(format!("the host has no {bytes} bytes for a result"))
        })?;
        let parts = bytes.div_ceil(PIECE_BYTES);
        let len = |part: usize| (bytes - part * PIECE_BYTES).min(PIECE_BYTES);
        for part in 0..=parts {
            if part < parts {
                let (memory, arrived) = &mut self.pieces[part % 2];
                let from = from + (part * PIECE_BYTES) as u64;
                // SAFETY: Whoever wants the result holds the device's memory until `done`; the piece was read two parts
                // ago, after its event.
                let begun = unsafe {
                    sys::cuMemcpyDtoHAsync_v2(memory.address(), from, len(part), self.stream)
                };
                check("cuMemcpyDtoHAsync", begun)?;
                arrived.record(self.stream)?;
            }
            if let Some(last) = part.checked_sub(1) {
                let (memory, arrived) = &self.pieces[last % 2];
                arrived.wait()?;
                all.extend_from_slice(memory.bytes().get(..len(last)).unwrap_or(&[]));
            }
        }
        Ok(all)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: It was made by `new` and is dropped once; every copy on it was waited for, or failed.
            let _ = unsafe { sys::cuStreamSynchronize(self.stream) };
            // SAFETY: As above.
            let _ = unsafe { sys::cuStreamDestroy_v2(self.stream) };
        }
    }
}
