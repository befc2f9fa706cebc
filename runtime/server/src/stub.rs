//! stub
#![allow(missing_docs)]
use innkeeper_catalog::*;
use innkeeper_deploy::*;
use innkeeper_predict::*;
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    pub name: String,
    pub version: String,
    pub connections_max: usize,
    pub header_read_ms: u64,
    pub body_idle_ms: u64,
    pub headers_max: usize,
    pub header_bytes_max: usize,
    pub bodies_bytes_max: u64,
    pub bundle_bytes_max: u64,
    pub uploads_max: u64,
    pub drain_idle_ms: u64,
    pub drain_ms: u64,
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
            bodies_bytes_max: 2 << 30,
            bundle_bytes_max: 512 << 20,
            uploads_max: 32,
            drain_idle_ms: 250,
            drain_ms: 30_000,
            dev_tenant: None,
        }
    }
}
pub struct Gateway;
impl Gateway {
    pub async fn new(
        _: GatewayConfig,
        _: Predictor,
        _: Deployer,
        _: Catalog,
    ) -> std::io::Result<Gateway> {
        Ok(Gateway)
    }
    pub async fn serve(
        self,
        _: tokio::net::TcpListener,
        u: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        u.await;
        Ok(())
    }
}
