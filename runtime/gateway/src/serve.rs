//! Listeners: how many connections they take, and how the server ends.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use innkeeper_catalog::Catalog;
use innkeeper_deploy::Deployer;
use innkeeper_predict::Predictor;
use innkeeper_train::Jobs;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::GatewayConfig;
use crate::app::App;
use crate::body::Budget;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::grpc::Reflection;
use crate::journal::Ids;
use crate::tls::Tls;

/// Connections over the limit that are told so at one time; others over it are closed without a word.
const TURNED_AWAY_MAX: usize = 64;
/// How long to wait when no connection can be taken, mostly because the process has no file handles left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The server of every protocol.
pub struct Gateway {
    app: Arc<App>,
}

/// Where connections come in.
pub struct Listener {
    /// The bound socket.
    pub socket: TcpListener,
    /// What is spoken there.
    pub speaks: Speaks,
    /// TLS, if that is spoken there.
    pub tls: Option<Tls>,
}

/// The protocols of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1 and HTTP/2, with REST and gRPC in the latter.
    All,
    /// gRPC.
    Grpc,
}

/// How far a server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It serves.
    Serve,
    /// It says with each answer that it ends.
    Drain,
    /// Connections finish the requests that run, and end.
    Finish,
    /// Connections end at once.
    End,
}

/// What takes connections, for all listeners together.
struct Doors {
    open: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    listeners: Vec<(TcpListener, Connection)>,
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
        jobs: Jobs,
        catalog: Catalog,
    ) -> io::Result<Gateway> {
        let gate = Gate::new(config.dev_tenant.clone(), config.tokens.clone());
        gate.refresh(&catalog).await.map_err(io::Error::other)?;
        let app = App {
            gate,
            budget: Budget::new(config.bodies_bytes_max),
            config,
            predictor,
            deployer,
            jobs,
            catalog,
            draining: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Serve),
            reflection: Reflection::new().map_err(io::Error::other)?,
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
        listeners: Vec<Listener>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let config = &self.app.config;
        let doors = self.doors(listeners);
        tokio::select! {
            () = shutdown => {}
            () = doors.accept() => {}
        }

        // Answers say `connection: close` from here on. Whoever is about to send on a connection that is idle, or has
        // just connected, still gets an answer.
        self.app.draining.store(true, Ordering::Relaxed);
        self.app.phase.send_replace(Phase::Drain);
        let idle = Duration::from_millis(config.drain_idle_ms);
        let _ = tokio::time::timeout(idle, doors.accept()).await;
        let open = Arc::clone(&doors.open);
        drop(doors);
        self.app.phase.send_replace(Phase::Finish);
        let all = u32::try_from(config.connections_max).unwrap_or(u32::MAX);
        let drain = Duration::from_millis(config.drain_ms);
        if tokio::time::timeout(drain, open.acquire_many(all)).await.is_err() {
            let left = config.connections_max - open.available_permits();
            tracing::warn!(connections = left, "closing connections that did not end in time");
        }
        self.app.predictor.drain();
        self.app.phase.send_replace(Phase::End);
        Ok(())
    }

    fn doors(&self, listeners: Vec<Listener>) -> Doors {
        let listeners = listeners.into_iter().map(|Listener { socket, speaks, tls }| {
            (socket, Connection::new(&self.app, tls, speaks))
        });
        Doors {
            open: Arc::new(Semaphore::new(self.app.config.connections_max)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            listeners: listeners.collect(),
        }
    }
}

impl Doors {
    /// Takes connections, for ever.
    async fn accept(&self) {
        let doors = self.listeners.iter();
        join_all(doors.map(|(listener, connection)| self.accept_at(listener, connection))).await;
    }

    async fn accept_at(&self, listener: &TcpListener, connection: &Connection) {
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
                tokio::spawn(connection.clone().run(stream, permit));
            } else if let Ok(permit) = Arc::clone(&self.turned_away).try_acquire_owned() {
                tokio::spawn(connection.clone().turn_away(stream, permit));
            }
        }
    }
}
