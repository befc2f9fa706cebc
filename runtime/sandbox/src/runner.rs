//! Where a guest's code runs.

use std::future::{Future, poll_fn};
use std::task::Poll;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads for guests that take long.
///
/// A call that is over before the first tick of the epoch runs where it was asked for: moving it to another thread
/// would cost more than the call. One that is still running then has yielded, and goes on here, so that the threads
/// that serve sockets never wait for a guest longer than one tick.
#[derive(Debug)]
pub(crate) struct Runner {
    handle: Handle,
    // Dropped in the background: a guest that still spins must not hold up the end of the process.
    runtime: Option<Runtime>,
}

impl Runner {
    pub(crate) fn new(threads: usize) -> std::io::Result<Runner> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("guest")
            // Guests that spin yield once a tick; by default tokio would look after its timers only every 61st time.
            .event_interval(4)
            .enable_time()
            .build()?;
        Ok(Runner { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs `call` to its end, at first here if `inline`. `None` when the host's own code panicked in it.
    pub(crate) async fn run<F>(&self, call: F, inline: bool) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let mut call = Box::pin(call);
        if inline {
            let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
            if let Poll::Ready(output) = first {
                return Some(output);
            }
        }
        self.handle.spawn(call).await.ok()
    }

    /// Runs `call` to its end for nobody in particular.
    pub(crate) fn spawn<F>(&self, call: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
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
