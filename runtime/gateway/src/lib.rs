//! The edge: HTTP, TLS, JSON, gRPC and status codes, and no other crate knows them.
//!
//! This crate knows no WebAssembly, opens no file and keeps nothing that must outlive the process. It decides who a
//! caller is and what a key may do; what a model is and how it runs is for `innkeeper-predict` and `innkeeper-deploy`.
//!
//! Every request goes through one function, `App::answer`, or `grpc::answer` for calls: a request id, the route, the one
//! gate, the handler, the journal. Only liveness and readiness pass without a credential, and a route that does not
//! exist is refused behind the gate like any other.

#![forbid(unsafe_code)]

mod config;
mod connection;
mod counted;
mod serve;
mod tls;

mod app;
mod cors;
mod gate;
mod journal;
mod jwt;
mod route;
mod traces;

mod grpc;
mod interface;
mod logging;
mod manage;
mod metrics;
mod model_config;
mod model_stats;
mod openapi;
mod repository;
mod v1;
mod v2;

mod body;
mod call;
mod coding;
mod error;
mod linger;
mod query;
mod reply;

pub use config::GatewayConfig;
pub use cors::Cors;
pub use jwt::{Fetching, JwtConfig, KeySource, TokenIssuer};
pub use serve::{Gateway, Listener, Speaks};
pub use tls::{ClientCertificates, Tls, TlsError, TlsFiles};
pub use traces::Traces;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use {grpc::fuzzing as grpc_fuzzing, v2::fuzzing};
