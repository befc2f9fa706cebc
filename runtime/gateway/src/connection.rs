//! One connection: which protocol it speaks, its requests, and its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::CONNECTION;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::app::App;
use crate::counted::{Counted, Counts};
use crate::error::{Failure, Style};
use crate::linger::Lingering;
use crate::reply::Payload;
use crate::serve::{Phase, Speaks};
use crate::tls::{Tls, chose_http2};
use crate::{GatewayConfig, grpc};

/// For how long one that is turned away may take.
const TURNED_AWAY_TIME: Duration = Duration::from_secs(1);
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 53\r\n\r\n{\"error\":\"the server has all its connections in use\"}";
/// The same in HTTP/2: settings, and a GOAWAY that says to calm down.
const TURNED_AWAY_HTTP2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
/// What a client that speaks HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// hyper's own lower bound for its buffer.
const BUFFER_BYTES_MIN: usize = 8 << 10;
/// How often it is asked whether the other end of a connection is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// For how long it may leave that unanswered.
const PING_TIME: Duration = Duration::from_secs(20);
/// Requests that a client took back before they were looked at. With more of them its connection ends.
const TAKEN_BACK_MAX: usize = 32;
/// Requests that broke the protocol. With more of them its connection ends.
const BROKEN_MAX: usize = 64;

/// What all connections of a listener share.
#[derive(Clone)]
pub(crate) struct Connection {
    app: Arc<App>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    tls: Option<Tls>,
    speaks: Speaks,
    phase: watch::Receiver<Phase>,
}

impl Connection {
    pub(crate) fn new(app: &Arc<App>, tls: Option<Tls>, speaks: Speaks) -> Connection {
        Connection {
            http1: http1(&app.config),
            http2: http2(&app.config),
            phase: app.phase.subscribe(),
            app: Arc::clone(app),
            tls,
            speaks,
        }
    }

    /// One connection, to its end.
    pub(crate) async fn run(self, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        let patience = self.patience();
        let Some(tls) = &self.tls else { return self.speak(stream, None).await };
        let mut phase = self.phase.clone();
        let stream = tokio::select! {
            stream = Box::pin(tls.accept(stream, patience)) => stream,
            _ = phase.wait_for(|phase| *phase >= Phase::Finish) => return,
        };
        if let Some(stream) = stream {
            let http2 = chose_http2(&stream);
            Box::pin(self.speak(stream, Some(http2))).await;
        }
    }

    /// Tells a client that there are too many. What it sends is read first: a connection that is closed with bytes
    /// unread is reset, and the client would never see the answer. With TLS it is only closed: shaking hands is work.
    pub(crate) async fn turn_away(self, mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
        if self.tls.is_some() {
            return;
        }
        let told = async {
            let mut sent = [0; 8 << 10];
            let len = stream.read(&mut sent).await?;
            let is_http2 = len > 3 && PREFACE.starts_with(&sent[..len.min(PREFACE.len())]);
            stream.write_all(if is_http2 { TURNED_AWAY_HTTP2 } else { TURNED_AWAY }).await?;
            stream.shutdown().await
        };
        let _ = tokio::time::timeout(TURNED_AWAY_TIME, told).await;
    }

    async fn speak<S>(mut self, mut socket: S, http2: Option<bool>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (http2, began) = match http2 {
            Some(http2) => (http2, Bytes::new()),
            None => {
                let mut phase = self.phase.clone();
                tokio::select! {
                    began = tokio::time::timeout(self.patience(), preface(&mut socket)) => {
                        let Ok(Ok(began)) = began else { return };
                        (began == PREFACE, began)
                    }
                    // Nothing was asked yet.
                    _ = phase.wait_for(|phase| *phase >= Phase::Finish) => return,
                }
            }
        };
        let linger = Arc::new(AtomicBool::new(false));
        let socket = Lingering::new(socket, began, Arc::clone(&linger));
        let ended = if http2 {
            // Boxed, so that the many connections that speak HTTP/1.1 are not as large as one that does not.
            Box::pin(self.speak_http2(socket)).await
        } else {
            self.speak_http1(socket, linger).await
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke off");
        }
    }

    async fn speak_http1<S>(
        &mut self,
        socket: Lingering<S>,
        linger: Arc<AtomicBool>,
    ) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (app, speaks) = (Arc::clone(&self.app), self.speaks);
        let service = service_fn(move |request| {
            let (app, linger) = (Arc::clone(&app), Arc::clone(&linger));
            async move {
                if speaks == Speaks::Grpc {
                    linger.store(true, Ordering::Relaxed);
                    return Ok(only_grpc().closing().reply(Style::Manage));
                }
                let reply = app.answer(request).await;
                // Whoever is told that this is the end may not have sent everything yet.
                if reply.as_ref().is_ok_and(|reply| reply.headers().contains_key(CONNECTION)) {
                    linger.store(true, Ordering::Relaxed);
                }
                reply
            }
        });
        let mut connection =
            std::pin::pin!(self.http1.serve_connection(TokioIo::new(socket), service));
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended,
                phase = changed(&mut self.phase) => match phase {
                    Phase::Serve | Phase::Drain => {}
                    Phase::Finish => connection.as_mut().graceful_shutdown(),
                    Phase::End => return Ok(()),
                }
            }
        }
    }

    async fn speak_http2<S>(&mut self, socket: Lingering<S>) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let counts = Arc::new(Counts::default());
        let (app, speaks, counting) = (Arc::clone(&self.app), self.speaks, Arc::clone(&counts));
        let service = service_fn(move |request: Request<Incoming>| {
            let (app, counted) = (Arc::clone(&app), counting.begin());
            async move {
                let response = either(app, request, speaks).await;
                Ok::<_, std::convert::Infallible>(response.map(|body| Counted::new(body, counted)))
            }
        });
        let mut connection =
            std::pin::pin!(self.http2.serve_connection(TokioIo::new(socket), service));
        let patience = self.patience();
        let mut leaving = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended,
                phase = changed(&mut self.phase) => match phase {
                    Phase::Serve | Phase::Drain => {}
                    Phase::Finish => connection.as_mut().graceful_shutdown(),
                    Phase::End => return Ok(()),
                },
                () = counts.flood() => {
                    tracing::info!("a client takes back one request after the other; its connection ends");
                    return Ok(());
                }
                () = counts.rest(patience) => {
                    // A client that was told to leave and stays is left.
                    if leaving {
                        return Ok(());
                    }
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.app.config.header_read_ms)
    }
}

/// What is to be done now that something else is.
async fn changed(phase: &mut watch::Receiver<Phase>) -> Phase {
    match phase.changed().await {
        Ok(()) => *phase.borrow_and_update(),
        Err(_) => Phase::End,
    }
}

/// Answers a request over HTTP/2, as a call or in REST.
async fn either(
    app: Arc<App>,
    request: Request<Incoming>,
    speaks: Speaks,
) -> Response<Either<Payload, grpc::Answer>> {
    if grpc::is_call(request.version(), request.headers()) {
        return grpc::answer(app, request).await.map(Either::Right);
    }
    if speaks == Speaks::Grpc {
        return only_grpc().reply(Style::Manage).map(Either::Left);
    }
    match app.answer(request).await {
        Ok(reply) => reply.map(Either::Left),
        Err(never) => match never {},
    }
}

fn only_grpc() -> Failure {
    Failure::unsupported_type("this port speaks gRPC over HTTP/2; REST is on the HTTP port")
}

/// What a client begins with: HTTP/2's preface whole, or what shows that it is none.
async fn preface(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut began = [0; PREFACE.len()];
    let mut len = 0;
    while len < began.len() {
        let more = socket.read(&mut began[len..]).await?;
        len += more;
        if more == 0 || !PREFACE.starts_with(&began[..len]) {
            break;
        }
    }
    Ok(Bytes::copy_from_slice(&began[..len]))
}

fn http1(config: &GatewayConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_read_ms))
        .max_headers(config.headers_max)
        .max_buf_size(config.header_bytes_max.max(BUFFER_BYTES_MIN))
        // A client that closes its side is gone: the handler is dropped, and with it the prediction.
        .half_close(false);
    http
}

fn http2(config: &GatewayConfig) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(config.http2_streams_max)
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(TAKEN_BACK_MAX)
        .max_local_error_reset_streams(BROKEN_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME);
    http
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_whole() {
        let text = std::str::from_utf8(TURNED_AWAY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }

    #[test]
    fn the_refusal_in_http2_is_two_frames() {
        let mut rest = TURNED_AWAY_HTTP2;
        let mut kinds = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<9>() {
            kinds.push(head[3]);
            rest = &after[usize::from(head[2])..];
        }
        assert_eq!((kinds, rest.len()), (vec![4, 7], 0));
    }

    #[tokio::test]
    async fn a_client_that_begins_otherwise_is_known_at_once() {
        for (sent, wanted) in [
            (&b"POST / HTTP/1.1"[..], "P"),
            (b"GET", "G"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            (b"PRI", "PRI"),
            (b"", ""),
        ] {
            let mut socket = sent;
            let began = preface(&mut socket).await.unwrap();
            assert!(began.starts_with(wanted.as_bytes()), "{began:?}");
            assert_eq!([&began[..], socket].concat(), sent);
        }
    }
}
