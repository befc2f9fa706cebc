//! Requests of a connection: which are not answered to their end, and how many were taken back.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Requests that a client may take back in a second before they are answered. Each costs the client next to nothing and
/// the server its beginning; no client that wants answers does more of it.
const TAKEN_BACK_MAX: u32 = 500;
const SECOND: Duration = Duration::from_secs(1);

/// How many requests a connection has, and how many it had.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    open: AtomicUsize,
    ever: AtomicU64,
    /// Since when, and how many since then.
    taken_back: Mutex<Option<(Instant, u32)>>,
    too_many: Notify,
}

/// One request, until it is answered or taken back.
pub(crate) struct Count {
    counts: Arc<Counts>,
    answered: bool,
}

/// A body that counts until it is sent or given up.
pub(crate) struct Counted<B> {
    body: B,
    _count: Count,
}

impl Counts {
    pub(crate) fn begin(self: &Arc<Counts>) -> Count {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
        Count { counts: Arc::clone(self), answered: false }
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

    /// Waits until too many requests were taken back.
    pub(crate) async fn flood(&self) {
        self.too_many.notified().await;
    }

    fn took_back(&self) {
        let mut taken_back = self.taken_back.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, count) = match *taken_back {
            Some((since, count)) if now.duration_since(since) < SECOND => (since, count + 1),
            _ => (now, 1),
        };
        *taken_back = Some((since, count));
        if count > TAKEN_BACK_MAX {
            self.too_many.notify_one();
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            self.counts.took_back();
        }
    }
}

impl<B> Counted<B> {
    /// The body of an answer to this request.
    pub(crate) fn new(body: B, mut count: Count) -> Counted<B> {
        count.answered = true;
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
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_when_nothing_is_open_and_nothing_came() {
        let counts = Arc::new(Counts::default());
        let began = Instant::now();
        let open = counts.begin();
        let end = async {
            tokio::time::sleep(SECOND * 5).await;
            drop(open);
        };
        tokio::join!(counts.rest(SECOND), end);
        assert!(began.elapsed() >= SECOND * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn only_many_at_once_are_too_many() {
        let counts = Arc::new(Counts::default());
        for _ in 0..TAKEN_BACK_MAX * 2 {
            drop(Counted::new(http_body_util::Empty::<bytes::Bytes>::new(), counts.begin()));
        }
        for _ in 0..10 {
            (0..TAKEN_BACK_MAX).for_each(|_| drop(counts.begin()));
            assert!(counts.flood().now_or_never().is_none());
            tokio::time::advance(SECOND).await;
        }
        (0..=TAKEN_BACK_MAX).for_each(|_| drop(counts.begin()));
        assert!(counts.flood().now_or_never().is_some());
    }
}
