//! Connections: how many, how slow, and how they end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use innkeeper_catalog::Catalog;
use innkeeper_deploy::Deployer;
use innkeeper_predict::Predictor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::GatewayConfig;
use crate::app::App;
use crate::body::Budget;
use crate::gate::Gate;
use crate::journal::Ids;
use crate::linger::Lingering;

/// Connections over the limit that are told so at one time; others over it are closed without a word.
const TURNED_AWAY_MAX: usize = 64;
/// For how long one that is told so may take.
const TURNED_AWAY_TIME: Duration = Duration::from_secs(1);
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 53\r\n\r\n{\"error\":\"the server has all its connections in use\"}";
/// How long to wait when no connection can be taken, mostly because the process has no file handles left.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// hyper's own lower bound for its buffer.
const BUFFER_BYTES_MIN: usize = 8 << 10;

/// The HTTP server.
pub struct Gateway {
    app: Arc<App>,
}

/// What connections are told when the server stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serve,
    /// Finish the request that runs, if one does, and end.
    Finish,
    /// End at once.
    End,
}

/// What every connection shares.
#[derive(Clone)]
struct Connections {
    app: Arc<App>,
    http: http1::Builder,
    open: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
}

impl Gateway {
    /// A gateway to these, with every key that the catalog has.
    ///
    /// # Errors
    /// The keys cannot be read from the catalog.
    pub async fn new(
        config: GatewayConfig,
        predictor: Predictor,
        deployer: Deployer,
        catalog: Catalog,
    ) -> io::Result<Gateway> {
        let gate = Gate::new(config.dev_tenant.clone());
        gate.refresh(&catalog).await.map_err(io::Error::other)?;
        let app = App {
            gate,
            budget: Budget::new(config.bodies_bytes_max),
            config,
            predictor,
            deployer,
            catalog,
            draining: AtomicBool::new(false),
            ids: Ids::new(),
            labels: Default::default(),
        };
        Ok(Gateway { app: Arc::new(app) })
    }

    /// Serves until `shutdown` is ready, and then until the requests that run are answered, but no longer than
    /// [`GatewayConfig::drain_ms`].
    ///
    /// # Errors
    /// None at present: what goes wrong with one connection ends that connection.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let config = &self.app.config;
        let open = Arc::new(Semaphore::new(config.connections_max));
        let (tell, phase) = watch::channel(Phase::Serve);
        let connections = Connections {
            app: Arc::clone(&self.app),
            http: http(config),
            open: Arc::clone(&open),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            phase,
        };
        tokio::select! {
            () = shutdown => {}
            () = connections.accept(&listener) => {}
        }

        // Answers say `connection: close` from here on. Whoever is about to send on a connection that is idle, or has
        // just connected, still gets an answer.
        self.app.draining.store(true, Ordering::Relaxed);
        let idle = Duration::from_millis(config.drain_idle_ms);
        let _ = tokio::time::timeout(idle, connections.accept(&listener)).await;
        drop(listener);
        let _ = tell.send(Phase::Finish);
        let all = u32::try_from(config.connections_max).unwrap_or(u32::MAX);
        let drain = Duration::from_millis(config.drain_ms);
        if tokio::time::timeout(drain, open.acquire_many(all)).await.is_err() {
            let left = config.connections_max - open.available_permits();
            tracing::warn!(connections = left, "closing connections that did not end in time");
        }
        self.app.predictor.drain();
        let _ = tell.send(Phase::End);
        Ok(())
    }
}

fn http(config: &GatewayConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.header_read_ms))
        .max_headers(config.headers_max)
        .max_buf_size(config.header_bytes_max.max(BUFFER_BYTES_MIN))
        // A client that closes its side is gone: the handler is dropped, and with it the prediction.
        .half_close(false);
    http
}

impl Connections {
    /// Takes connections, for ever.
    async fn accept(&self, listener: &TcpListener) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            // Answers are written in one go; waiting for more would only delay them.
            let _ = stream.set_nodelay(true);
            if let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() {
                tokio::spawn(self.clone().run(stream, permit));
            } else if let Ok(permit) = Arc::clone(&self.turned_away).try_acquire_owned() {
                tokio::spawn(turn_away(stream, permit));
            }
        }
    }

    /// One connection, to its end.
    async fn run(mut self, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        let app = self.app;
        let linger = Arc::new(AtomicBool::new(false));
        let socket = TokioIo::new(Lingering::new(stream, Arc::clone(&linger)));
        let service = service_fn(move |request| {
            let (app, linger) = (Arc::clone(&app), Arc::clone(&linger));
            async move {
                let reply = app.answer(request).await;
                // Whoever is told that this is the end may not have sent everything yet.
                if reply.as_ref().is_ok_and(|reply| reply.headers().contains_key(CONNECTION)) {
                    linger.store(true, Ordering::Relaxed);
                }
                reply
            }
        });
        let mut connection = std::pin::pin!(self.http.serve_connection(socket, service));
        let ended = loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                changed = self.phase.changed() => match (changed, *self.phase.borrow()) {
                    (Ok(()), Phase::Serve) => {}
                    (Ok(()), Phase::Finish) => connection.as_mut().graceful_shutdown(),
                    (Ok(()), Phase::End) | (Err(_), _) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke off");
        }
    }
}

/// Tells a client that there are too many. What it sends is read first: a connection that is closed with bytes unread
/// is reset, and the client would never see the answer.
async fn turn_away(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let told = async {
        let mut sent = [0; 8 << 10];
        let _ = stream.read(&mut sent).await?;
        stream.write_all(TURNED_AWAY).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(TURNED_AWAY_TIME, told).await;
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
}
