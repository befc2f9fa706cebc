//! Where a guest's code runs.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};

use crate::Share;
use crate::fair::{Fair, Sliced};

thread_local! {
    static IS_GUESTS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is one of the guests' threads.
pub(crate) fn is_guests() -> bool {
    IS_GUESTS.get()
}

/// Waits without keeping other tasks of this thread waiting.
pub(crate) fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Who is on the guests' threads.
#[derive(Debug)]
pub(crate) struct GuestThreads {
    threads: usize,
    calls: AtomicUsize,
}

impl GuestThreads {
    /// Does long work without keeping other tasks of this thread waiting: they go on on another. That hand-over costs a
    /// wake-up and moves the call between threads, so it is left out where a guests' thread stays free for a call that
    /// comes meanwhile.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        if IS_GUESTS.get() && self.calls.load(Ordering::Relaxed) < self.threads {
            return work();
        }
        blocking(work)
    }

    fn enter(self: &Arc<GuestThreads>) -> Entered {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Entered(Arc::clone(self))
    }
}

/// A call on the guests' threads.
struct Entered(Arc<GuestThreads>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Threads for guests that take long.
///
/// A call that is over before the first tick of the epoch runs where it was asked for: moving it to another thread
/// would cost more than the call. One that is still running then has yielded, and goes on here, so that the threads
/// that serve sockets never wait for a guest longer than one tick. Wherever it runs, it has one of as many slots as there
/// are threads here, and gives it up after each tick for whoever is next.
pub(crate) struct Runner {
    handle: Handle,
    threads: Arc<GuestThreads>,
    fair: Arc<Fair>,
    // Dropped in the background: a guest that still spins must not hold up the end of the process.
    runtime: Option<Runtime>,
}

impl Runner {
    pub(crate) fn new(threads: usize) -> std::io::Result<Runner> {
        let threads = threads.max(1);
        Runner::by(threads, Fair::new(threads))
    }

    /// On so many threads, as their turns come by `fair`.
    pub(crate) fn by(threads: usize, fair: Arc<Fair>) -> std::io::Result<Runner> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("guest")
            .on_thread_start(|| IS_GUESTS.set(true))
            // Guests that spin yield once a tick; by default tokio would look after its timers only every 61st time.
            .event_interval(4)
            .enable_time()
            .build()?;
        let threads = Arc::new(GuestThreads { threads, calls: AtomicUsize::new(0) });
        Ok(Runner { handle: runtime.handle().clone(), threads, fair, runtime: Some(runtime) })
    }

    pub(crate) fn share(&self, weight: u64) -> Arc<Share> {
        self.fair.share(weight)
    }

    pub(crate) fn threads(&self) -> &Arc<GuestThreads> {
        &self.threads
    }

    /// Runs `call` to its end, at first here if `inline`. `None` when the host's own code panicked in it.
    pub(crate) async fn run<F>(
        &self,
        call: F,
        share: &Arc<Share>,
        inline: bool,
    ) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let mut call = Sliced::new(call, share);
        // Before it is on another thread, which may come to it later than its turn.
        call.line_up(inline);
        if inline {
            let first = poll_fn(|context| Poll::Ready(Pin::new(&mut call).poll(context))).await;
            if let Poll::Ready(output) = first {
                return Some(output);
            }
        }
        let entered = self.threads.enter();
        let call = async move {
            let _entered = entered;
            call.await
        };
        self.handle.spawn(call).await.ok()
    }

    /// Runs `call` to its end for nobody in particular.
    pub(crate) fn spawn<F>(&self, call: F, share: &Arc<Share>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let call = Sliced::new(call, share);
        call.line_up(false);
        drop(self.handle.spawn(call));
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
