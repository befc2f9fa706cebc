//! Every key of the configuration file with its meaning and default, in one table.

use innkeeper_catalog::CatalogConfig;
use innkeeper_deploy::DeployConfig;
use innkeeper_gateway::GatewayConfig;
use innkeeper_predict::{Breaker, PredictorConfig};
use innkeeper_sandbox::{CompileLimits, ComponentLimits, EngineConfig};
use serde::{Deserialize, Serialize};

use super::LogFormat;
use super::telemetry::Ratio;
use super::tls::Clients;

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $section:ident {
            $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $($(#[doc = $doc])+ pub $name: $type,)*
        }

        impl Default for $section {
            fn default() -> $section {
                $section { $($name: $default,)* }
            }
        }

        impl $section {
            /// What the section is about.
            pub(super) const ABOUT: &[&str] = &[$($about),+];
            /// What each key means.
            pub(super) const MEANINGS: &[(&str, &[&str])] =
                &[$((stringify!($name), &[$($doc),+])),*];
        }
    };
}

section! {
    /// Where the server listens and keeps its data, and how long it waits for callers.
    pub struct ServerSettings {
        /// The address for REST and gRPC over HTTP/1.1 and HTTP/2; port 0 takes a free one. Give `[tls]` files, or put a
        /// proxy in front, for any address that others can reach.
        http: String = "127.0.0.1:8000".into();
        /// One more address, for gRPC alone, such as "127.0.0.1:8001"; none when empty.
        grpc: String = String::new();
        /// The folder for everything that must outlive the process. One server at a time may use it.
        data: String = "innkeeper-data".into();
        /// No keys: every caller is the tenant "dev" and may do everything. Refused on addresses that are not loopback.
        dev: bool = false;
        /// Connections open at once. Whoever comes when they are all taken is answered 503.
        connections_max: usize = GatewayConfig::default().connections_max;
        /// Milliseconds for a request's line and headers, and for which a connection is kept between requests.
        header_read_ms: u64 = GatewayConfig::default().header_read_ms;
        /// Milliseconds between two parts of a body.
        body_idle_ms: u64 = GatewayConfig::default().body_idle_ms;
        /// Headers of one request.
        headers_max: usize = GatewayConfig::default().headers_max;
        /// Bytes of a request's line and headers together.
        header_bytes_max: usize = GatewayConfig::default().header_bytes_max;
        /// Requests that one HTTP/2 connection may have open at once.
        http2_streams_max: u32 = GatewayConfig::default().http2_streams_max;
        /// Bytes of all request bodies that are held at once, over all tenants.
        bodies_bytes_max: u64 = GatewayConfig::default().bodies_bytes_max;
        /// Bytes of a bundle, which is held in memory whole. Larger assets go up on their own, as `innkeeper push` does it.
        bundle_bytes_max: u64 = GatewayConfig::default().bundle_bytes_max;
        /// Uploads that a tenant may have open at once.
        uploads_max: u64 = GatewayConfig::default().uploads_max;
        /// Milliseconds after SIGTERM or SIGINT in which idle connections may still bring a request.
        drain_idle_ms: u64 = GatewayConfig::default().drain_idle_ms;
        /// Milliseconds after SIGTERM or SIGINT for requests that run to come to their end.
        drain_ms: u64 = GatewayConfig::default().drain_ms;
    }
}

section! {
    /// TLS 1.2 and 1.3 on every address, once there are certificates. Changed files are taken into use as they change:
    /// connections that are open keep what they have.
    pub struct TlsSettings {
        /// The file with the server's certificate in PEM, and the ones between it and its root behind it; no TLS when
        /// empty.
        certificates: String = String::new();
        /// The file with its key in PEM, not encrypted.
        key: String = String::new();
        /// The file with the authorities of clients' certificates in PEM; clients are asked for none when empty.
        client_authorities: String = String::new();
        /// Whether clients must have a certificate, where there are authorities: "required" or "optional". It says who
        /// may connect; the tenant is the key's as ever.
        clients: Clients = Clients::Required;
        /// Milliseconds between two looks at the files.
        look_every_ms: u64 = 5_000;
    }
}

section! {
    /// Tokens (JWT) of one issuer, such as an OpenID Connect provider, taken beside keys: RS256, ES256 and EdDSA.
    pub struct JwtSettings {
        /// The claim "iss" of its tokens; no tokens are taken when empty.
        issuer: String = String::new();
        /// What their claim "aud" must have in it.
        audience: String = String::new();
        /// Its public keys, as a JSON Web Key Set: a file, or an address that begins with https:// or http://. They are
        /// kept for ten minutes; a key that is not among them is looked for, at most once a minute.
        keys: String = String::new();
        /// The claim with the name of the tenant, who must exist here.
        tenant_claim: String = "tenant".into();
        /// The claim with the scopes, among other words: predict, publish, admin.
        scopes_claim: String = "scope".into();
        /// By how many seconds the issuer's clock may differ.
        leeway_s: u64 = 60;
    }
}

section! {
    /// Pages of other sites that may call from a browser (CORS).
    pub struct CorsSettings {
        /// Their sites, such as `["https://app.example"]`; `"*"` is any. By default none may.
        origins: Vec<String> = Vec::new();
        /// Whether they may let the browser add what it keeps for this server. Keys and tokens need nothing of it.
        credentials: bool = false;
        /// Seconds for which a browser need not ask again.
        max_age_s: u64 = 600;
    }
}

section! {
    /// What the server writes on standard error.
    pub struct LogSettings {
        /// "text", "json" (one object a line), or "auto": text on a terminal, else json.
        format: LogFormat = LogFormat::Auto;
        /// What is written, as tracing-subscriber's filters put it: "info", "warn,innkeeper_gateway=debug".
        filter: String = "info".into();
    }
}

section! {
    /// Traces of requests, sent to a collector by OTLP over HTTP. A request's `traceparent` is gone on with, and the answer has
    /// one. What a collector wants beside them goes into the environment variable OTEL_EXPORTER_OTLP_HEADERS.
    pub struct TelemetrySettings {
        /// Where the collector takes traces, such as "http://127.0.0.1:4318/v1/traces"; nothing is traced when empty.
        traces_endpoint: String = String::new();
        /// The share of requests that are traced, from 0 to 1. Whoever sends a `traceparent` has decided it.
        sample_ratio: Ratio = Ratio::ONE;
        /// Spans that wait to be sent. What comes beyond them is lost: no request waits for the collector.
        queue_spans_max: usize = 2_048;
        /// Milliseconds between two sendings.
        export_every_ms: u64 = 5_000;
        /// Milliseconds that one may take, also when the server stops.
        export_ms_max: u64 = 10_000;
    }
}

section! {
    /// The engine that runs guests, for all tenants together.
    pub struct EngineSettings {
        /// Instances that may live at once. Each takes 4 GiB of address space and some eight memory mappings, of which
        /// Linux by default gives a process 65,530.
        instances_max: u32 = EngineConfig::default().instances_max;
        /// The most bytes of linear memory that any instance may be given.
        guest_memory_bytes_max: u64 = EngineConfig::default().guest_memory_bytes_max;
        /// Bytes of stack of one call into a guest.
        stack_bytes_max: usize = EngineConfig::default().stack_bytes_max;
        /// How often a running guest is looked at, in microseconds: the grain of deadlines and cancellation.
        epoch_us: u64 = EngineConfig::default().epoch_us;
        /// Threads for guests that run longer than that; 0 means one for each core.
        threads: usize = 0;
        /// Threads that one tensor operation may use, of a pool that all operations share fairly; 0 means one for each
        /// core.
        kernel_threads: usize = 0;
    }
}

section! {
    /// What a component may be made of. This is checked before anything of it is compiled.
    pub struct ComponentSettings {
        /// Bytes of the whole component.
        component_bytes_max: usize = ComponentLimits::default().component_bytes_max;
        /// Functions in all its modules.
        functions_max: usize = ComponentLimits::default().functions_max;
        /// Bytes of one function's body.
        function_bytes_max: usize = ComponentLimits::default().function_bytes_max;
        /// Locals of one function.
        locals_max: u64 = ComponentLimits::default().locals_max;
        /// Modules and components nested in it.
        nested_max: usize = ComponentLimits::default().nested_max;
    }
}

section! {
    /// Publishing: compilers run in processes of their own, under these limits.
    pub struct DeploySettings {
        /// Milliseconds that one compilation may take.
        compile_ms_max: u64 = CompileLimits::default().compile_ms_max;
        /// Bytes of address space of one compiler.
        compile_memory_bytes_max: u64 = CompileLimits::default().compile_memory_bytes_max;
        /// Compilers that may run at once.
        compiles_max: usize = DeployConfig::new("").compiles_max;
        /// Versions that one tenant may be publishing at once.
        publishes_max: usize = DeployConfig::new("").publishes_max;
        /// Bytes of compiled code that are kept on disk; what was not used for longest goes first.
        artefact_bytes_max: u64 = DeployConfig::new("").artefact_bytes_max;
        /// Jobs of all tenants that run at once.
        jobs_running_max: u64 = 2;
        /// Milliseconds that reading one file of rows may take, in a process of its own.
        import_ms_max: u64 = 600_000;
        /// Bytes of address space of that process.
        import_memory_bytes_max: u64 = 2 << 30;
        /// Such processes that may run at once; files beyond wait.
        imports_max: usize = 2;
    }
}

section! {
    /// Predictions, beyond the limits of tenants.
    pub struct PredictSettings {
        /// Failures in a row after which a model is left alone for a while.
        breaker_failures_max: u32 = Breaker::default().failures_max;
        /// Milliseconds for which it is left alone.
        breaker_rest_ms: u64 = Breaker::default().rest_ms;
        /// Milliseconds without a request after which a model's instances and code leave memory.
        warm_idle_ms_max: u64 = 300_000;
        /// Bytes of the assets of all tenants, with what the host derives from them, from which on versions that nobody
        /// uses leave memory, those first that were not used for longest. What is in use stays.
        asset_memory_total_bytes_max: u64 = PredictorConfig::default().asset_memory_total_bytes_max;
    }
}

section! {
    /// Housekeeping of what is stored.
    pub struct CatalogSettings {
        /// Milliseconds for which a blob is kept that no version refers to.
        unreferenced_blob_ttl_ms: i64 = CatalogConfig::default().unreferenced_blob_ttl_ms;
        /// Milliseconds for which an upload is kept that nobody continues.
        stale_upload_ttl_ms: i64 = CatalogConfig::default().stale_upload_ttl_ms;
        /// Milliseconds for which an entry of the audit log is kept.
        audit_ttl_ms: i64 = CatalogConfig::default().audit.ttl_ms;
        /// Entries of the audit log that are kept of each tenant.
        audit_entries_max: u32 = CatalogConfig::default().audit.entries_max;
        /// Milliseconds after which what tenants used is moved from its counters to the disk for good. A killed process
        /// loses nothing of it, a power loss at most this much.
        usage_flush_ms: u64 = 10_000;
        /// Milliseconds between two sweeps for all of these.
        sweep_every_ms: u64 = 600_000;
    }
}
