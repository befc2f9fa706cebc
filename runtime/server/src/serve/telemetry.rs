//! Traces on their way to a collector: a bounded queue, and a thread that sends what is in it by OTLP over HTTP.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use innkeeper_gateway::Traces;
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use serde::{Deserialize, Serialize};

use super::TelemetrySettings;

/// What the spans are of.
const SERVICE: &str = "innkeeper";
/// Bytes of a collector's answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(f64);

/// What is no number is no share.
impl Eq for Ratio {}

impl Ratio {
    /// All of it.
    pub const ONE: Ratio = Ratio(1.0);
}

impl TryFrom<f64> for Ratio {
    type Error = String;

    fn try_from(share: f64) -> Result<Ratio, String> {
        let is_share = (0.0..=1.0).contains(&share);
        is_share
            .then_some(Ratio(share))
            .ok_or_else(|| format!("wanted a share from 0 to 1, got {share}"))
    }
}

impl From<Ratio> for f64 {
    fn from(Ratio(share): Ratio) -> f64 {
        share
    }
}

/// Whether something is the address of a collector.
pub(super) fn is_address(endpoint: &str) -> bool {
    let rest = endpoint.strip_prefix("http://").or(endpoint.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty()) && endpoint.parse::<ureq::http::Uri>().is_ok()
}

/// Spans that are sent to a collector.
pub(super) struct Telemetry {
    provider: SdkTracerProvider,
    patience: Duration,
}

/// What sends spans as it is set, or none.
///
/// # Errors
/// The exporter cannot be made.
pub(super) fn open(settings: &TelemetrySettings) -> Result<Option<Telemetry>> {
    if settings.traces_endpoint.is_empty() {
        return Ok(None);
    }
    let patience = Duration::from_millis(settings.export_ms_max);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new(patience))
        .with_endpoint(&settings.traces_endpoint)
        .with_timeout(patience)
        .build()
        .context("cannot send traces")?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(settings.queue_spans_max)
        .with_scheduled_delay(Duration::from_millis(settings.export_every_ms))
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let chance = Sampler::TraceIdRatioBased(settings.sample_ratio.into());
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(SERVICE).build())
        .with_sampler(Sampler::ParentBased(Box::new(chance)))
        .with_span_processor(processor)
        .build();
    Ok(Some(Telemetry { provider, patience }))
}

impl Telemetry {
    /// What the gateway makes spans with.
    pub(super) fn traces(&self) -> Traces {
        let tracer = self.provider.tracer(SERVICE);
        Traces::new(BoxedTracer::new(Box::new(tracer)), TraceContextPropagator::new())
    }

    /// Sends what is left, for as long as one sending may take.
    pub(super) async fn stop(self) {
        let Telemetry { provider, patience } = self;
        let stop = move || provider.shutdown_with_timeout(patience);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(stop).await {
            tracing::warn!(%error, "the last traces are not sent");
        }
    }
}

/// Sends on the exporter's own thread, where nobody waits but the exporter.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new(patience: Duration) -> Client {
        let config = ureq::Agent::config_builder();
        Client(
            config.timeout_global(Some(patience)).http_status_as_error(false).build().new_agent(),
        )
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let mut answer = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let bytes = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        let (parts, _) = answer.into_parts();
        Ok(Response::from_parts(parts, bytes.into()))
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'async_trait>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let answer = self.send(request);
            // The exporter says nothing of it itself. It comes here no more than once in a while.
            match &answer {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => {
                    tracing::warn!(
                        status = answer.status().as_u16(),
                        "the collector takes no traces"
                    );
                }
                Err(error) => tracing::warn!(%error, "the collector of traces is not reached"),
            }
            Ok(answer?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_from_0_to_1() {
        for good in [0.0, 0.25, 1.0] {
            assert_eq!(f64::from(Ratio::try_from(good).unwrap()), good);
        }
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Ratio::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_has_a_scheme() {
        for good in ["http://127.0.0.1:4318/v1/traces", "https://collector.example"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["localhost:4318", "http://", "ftp://x", "http://a b"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
