//! What can be set.

use innkeeper_catalog::TenantName;

use crate::{Cors, TokenIssuer, Traces};

/// How the gateway serves. Limits of a tenant are not here but in [`innkeeper_predict::Limits`].
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The server's name, as clients see it.
    pub name: String,
    /// The server's version, as clients see it.
    pub version: String,
    /// Connections open at once. Whoever comes when they are all taken is told so with a 503, since a client that is
    /// left waiting in the kernel's backlog cannot tell a full server from a dead one.
    pub connections_max: usize,
    /// Milliseconds for a request's line and headers, and for which a connection is kept between requests.
    pub header_read_ms: u64,
    /// Milliseconds between two parts of a body. Slower clients get a 408.
    pub body_idle_ms: u64,
    /// Headers of one request. More are answered with a 431.
    pub headers_max: usize,
    /// Bytes of a request's line and headers together. More are answered with a 431.
    pub header_bytes_max: usize,
    /// Requests that one HTTP/2 connection may have open at once.
    pub http2_streams_max: u32,
    /// Bytes of all request bodies that are held at once, over all tenants.
    pub bodies_bytes_max: u64,
    /// Bytes of a bundle, which is held in memory whole. Larger assets go up on their own, through `/api/v1/uploads`.
    pub bundle_bytes_max: u64,
    /// Uploads that a tenant may have open at once.
    pub uploads_max: u64,
    /// Milliseconds after the signal to stop in which connections that are idle may still bring a request, so that none
    /// is lost between a client that is about to send and a server that is about to close.
    pub drain_idle_ms: u64,
    /// Milliseconds after the signal to stop for requests that run to come to their end.
    pub drain_ms: u64,
    /// Whose tokens are taken beside keys.
    pub tokens: Option<TokenIssuer>,
    /// Which other sites' pages may call from a browser.
    pub cors: Cors,
    /// Where spans of requests go, if they are traced.
    pub traces: Option<Traces>,
    /// With it, no request needs a key and each is this tenant's, with every scope. Meant for a server that only this
    /// machine can reach; requests that a browser sends for another site are refused.
    pub dev_tenant: Option<TenantName>,
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        GatewayConfig {
            name: "innkeeper".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            connections_max: 16_384,
            header_read_ms: 75_000,
            body_idle_ms: 30_000,
            headers_max: 100,
            header_bytes_max: 32 << 10,
            http2_streams_max: 128,
            bodies_bytes_max: 2 << 30,
            bundle_bytes_max: 512 << 20,
            uploads_max: 32,
            drain_idle_ms: 250,
            drain_ms: 30_000,
            tokens: None,
            cors: Cors::default(),
            traces: None,
            dev_tenant: None,
        }
    }
}
