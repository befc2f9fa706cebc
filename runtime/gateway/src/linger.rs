//! Closing a connection so that its last answer arrives, and ending one whose answers nobody reads.
//!
//! A socket that is closed with bytes unread is reset, and the reset can overtake the answer: a client that still sends
//! a body too large would see a broken pipe instead of the 413. So the sending side is closed first, and what still
//! comes is read and thrown away for a moment (RFC 9112, section 9.6).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// For how long a client may read nothing of an answer. Until it has, the answer lies in memory.
const STALL_TIME: Duration = Duration::from_secs(30);
/// For how long a connection is listened to that was answered for the last time.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// How much of what it still sends is thrown away.
const LINGER_BYTES_MAX: usize = 64 << 20;
const CHUNK_BYTES: usize = 16 << 10;

/// A socket that lingers when it is shut down, if it was told to.
pub(crate) struct Lingering<S> {
    socket: S,
    /// What was read of it before.
    began: Bytes,
    wanted: Arc<AtomicBool>,
    state: State,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

enum State {
    Open,
    /// The sending side is closed; what comes until then, or so many bytes, is thrown away.
    Discarding {
        until: Pin<Box<Sleep>>,
        bytes_left: usize,
    },
}

impl<S> Lingering<S> {
    /// This socket, of which `began` was read already; it lingers if `wanted` is set by the time that it is shut down.
    pub(crate) fn new(socket: S, began: Bytes, wanted: Arc<AtomicBool>) -> Lingering<S> {
        Lingering { socket, began, wanted, state: State::Open, stalled: None }
    }

    /// What a write came to, or an error once the client has taken nothing for too long.
    fn unless_stalled(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIME)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.began.is_empty() {
            let len = self.began.len().min(buffer.remaining());
            buffer.put_slice(&self.began[..len]);
            self.began.advance(len);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.state, State::Open) {
            ready!(Pin::new(&mut this.socket).poll_shutdown(context))?;
            if !this.wanted.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            let until = Box::pin(sleep(LINGER_TIME));
            this.state = State::Discarding { until, bytes_left: LINGER_BYTES_MAX };
        }
        let State::Discarding { until, bytes_left } = &mut this.state else {
            return Poll::Ready(Ok(()));
        };
        let mut chunk = [0; CHUNK_BYTES];
        while *bytes_left > 0 && until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut chunk);
            // An error or the end of what the client sends: there is nothing left to wait for.
            match ready!(Pin::new(&mut this.socket).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    *bytes_left = bytes_left.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What a client sees that sends far more than is read before the answer.
    async fn seen(wanted: bool) -> io::Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket =
                Lingering::new(socket, Bytes::new(), Arc::new(AtomicBool::new(wanted)));
            socket.read_exact(&mut [0; 10]).await.unwrap();
            socket.write_all(b"too large").await.unwrap();
            socket.shutdown().await.unwrap();
        };
        let client = async {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let sent = socket.write_all(&vec![7; 16 << 20]).await;
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).await?;
            sent.map(|()| answer)
        };
        tokio::join!(server, client).1
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = Lingering::new(socket, Bytes::from_static(b"began"), Arc::default());
        let mut read = [0; 5];
        socket.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"began", "what was read before comes first");
        let began = tokio::time::Instant::now();
        let error = socket.write_all(&vec![7; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= STALL_TIME);
        drop(client);
    }

    #[tokio::test]
    async fn the_last_answer_arrives() {
        assert_eq!(seen(true).await.unwrap(), b"too large");
        assert!(seen(false).await.is_err(), "without it the test proves nothing");
    }
}
