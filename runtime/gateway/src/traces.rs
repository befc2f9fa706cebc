//! Traces: a span for each request that is sampled, with one for each station that it passed. What a span says goes to
//! whoever the binary hands in; this crate knows no collector.
//!
//! Nothing is done while a request runs but to note the time. Its spans are made when it ends.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use innkeeper_predict::{Stations, Timeline};
use opentelemetry::global::BoxedTracer;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};

/// Where the spans of requests go, and how a trace comes from elsewhere and goes on.
#[derive(Clone)]
pub struct Traces(Arc<Inner>);

struct Inner {
    tracer: BoxedTracer,
    propagator: Box<dyn TextMapPropagator + Send + Sync>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

impl Traces {
    /// Spans that `tracer` makes, of traces that `propagator` reads from a request's headers.
    pub fn new(
        tracer: BoxedTracer,
        propagator: impl TextMapPropagator + Send + Sync + 'static,
    ) -> Traces {
        Traces(Arc::new(Inner { tracer, propagator: Box::new(propagator) }))
    }

    /// The span of a request that begins now.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Trace {
        let parent = self.0.propagator.extract(&Headers(headers));
        let began = Began { at: Instant::now(), time: SystemTime::now() };
        let span = self.0.tracer.span_builder("request").with_kind(SpanKind::Server);
        let span = span.with_start_time(began.time).start_with_context(&self.0.tracer, &parent);
        let is_sampled = span.is_recording();
        let timeline = is_sampled.then(Timeline::default);
        Trace { traces: self.clone(), context: parent.with_span(span), timeline, began }
    }
}

/// The trace of one request.
pub(crate) struct Trace {
    traces: Traces,
    context: Context,
    /// None where the request is not sampled.
    timeline: Option<Timeline>,
    began: Began,
}

/// One moment by both clocks: stations are told by the one, spans by the other.
#[derive(Clone, Copy)]
struct Began {
    at: Instant,
    time: SystemTime,
}

impl Began {
    fn time(self, at: Instant) -> SystemTime {
        self.time + at.saturating_duration_since(self.at)
    }
}

impl Trace {
    /// Where a prediction leaves its stations, if the request is sampled.
    pub(crate) fn timeline(&self) -> Option<Timeline> {
        self.timeline.clone()
    }

    /// The headers by which a caller finds the trace.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        self.traces.0.propagator.inject_context(&self.context, &mut HeadersMut(headers));
    }

    /// Ends it: the stations' spans first, then its own.
    pub(crate) fn end(&self, name: String, status: StatusCode, attributes: Vec<KeyValue>) {
        let Some(timeline) = &self.timeline else { return };
        if let Some(stations) = timeline.stations() {
            self.stations(stations);
        }
        let span = self.context.span();
        span.update_name(name);
        span.set_attributes(attributes);
        if status.is_server_error() {
            span.set_status(Status::error(status.as_str().to_owned()));
        }
        span.end();
    }

    fn stations(&self, stations: &Stations) {
        let Stations { began, admitted, wanted, instance, guest, kernels, check, .. } = *stations;
        let part = |name, context: &Context, at: Instant, took: Duration, what| {
            self.part(name, context, at, took, what)
        };
        let none = Vec::new;
        let ready = wanted + instance;
        part("queue", &self.context, began, admitted.saturating_duration_since(began), none());
        part("instance", &self.context, wanted, instance, none());
        let rows = vec![KeyValue::new("innkeeper.rows", whole(stations.rows))];
        let inside = part("guest", &self.context, ready, guest, rows);
        if stations.operations > 0 {
            // One span for all of them: it is as long as they took together, and they were spread over the guest's.
            let count = vec![KeyValue::new("innkeeper.operations", whole(stations.operations))];
            part("kernels", &inside, ready, kernels, count);
        }
        part("check", &self.context, ready + guest, check, none());
    }

    /// A span that is over, and the context in which others are its parts.
    fn part(
        &self,
        name: &'static str,
        parent: &Context,
        at: Instant,
        took: Duration,
        what: Vec<KeyValue>,
    ) -> Context {
        let (tracer, from) = (&self.traces.0.tracer, self.began.time(at));
        let span = tracer.span_builder(name).with_start_time(from).with_attributes(what);
        let mut span = span.start_with_context(tracer, parent);
        span.end_with_timestamp(from + took);
        parent.with_span(span)
    }
}

/// Numbers of spans are signed.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = HeaderName::try_from(key).ok();
        if let Some((name, value)) = name.zip(HeaderValue::try_from(value).ok()) {
            self.0.insert(name, value);
        }
    }
}
