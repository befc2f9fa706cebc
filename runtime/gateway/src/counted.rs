//! Requests of a connection that are not answered to their end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};

/// How many requests a connection has, and how many it had.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    open: AtomicUsize,
    ever: AtomicU64,
}

/// One request, until it is dropped.
pub(crate) struct Count(Arc<Counts>);

/// A body that counts until it is sent or given up.
pub(crate) struct Counted<B> {
    body: B,
    _count: Count,
}

impl Counts {
    pub(crate) fn begin(self: &Arc<Counts>) -> Count {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
        Count(Arc::clone(self))
    }

    /// Waits until there was no request for so long, or up to twice as long.
    pub(crate) async fn rest(&self, time: Duration) {
        loop {
            let before = self.ever.load(Ordering::Relaxed);
            tokio::time::sleep(time).await;
            if self.open.load(Ordering::Relaxed) == 0 && self.ever.load(Ordering::Relaxed) == before
            {
                return;
            }
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<B> Counted<B> {
    pub(crate) fn new(body: B, count: Count) -> Counted<B> {
        Counted { body, _count: count }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_when_nothing_is_open_and_nothing_came() {
        let counts = Arc::new(Counts::default());
        let second = Duration::from_secs(1);
        let began = tokio::time::Instant::now();
        let open = counts.begin();
        let rest = counts.rest(second);
        let end = async {
            tokio::time::sleep(second * 5).await;
            drop(open);
        };
        tokio::join!(rest, end);
        assert!(began.elapsed() >= second * 5);
    }
}
