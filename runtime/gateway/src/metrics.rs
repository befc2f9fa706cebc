//! `GET /metrics`, in the text format of Prometheus: Triton's names, and our own.

use std::collections::HashSet;
use std::fmt::{Display, Write};
use std::sync::{Mutex, PoisonError};

use hyper::StatusCode;
use hyper::header::HeaderValue;
use innkeeper_catalog::{Scope, TenantName};
use innkeeper_predict::{Deployment, LATENCY_BOUNDS_US, Predictor, Statistics, Usage};

use crate::app::Exchange;
use crate::reply::{Reply, with_type};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// Tenants that have a label of their own, so that a host with many keeps its series few.
const TENANTS_MAX: usize = 200;
/// The label of all others. No tenant can have this name.
const OTHERS: &str = "_other";

/// The tenants that have a label of their own: the first that were seen. They keep it, so that counters never fall.
#[derive(Debug, Default)]
pub(crate) struct Labels(Mutex<HashSet<TenantName>>);

impl Labels {
    fn of<'a>(&self, tenant: &'a TenantName) -> &'a str {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if named.contains(tenant) {
            return tenant.as_str();
        }
        if named.len() == TENANTS_MAX {
            return OTHERS;
        }
        named.insert(tenant.clone());
        tenant.as_str()
    }
}

/// What one caller did with one version.
struct Series {
    labels: String,
    counted: Statistics,
}

/// What `GET /metrics` answers: an administrator sees all tenants, everybody else what is their own.
pub(crate) fn metrics(at: Exchange<'_>) -> Reply {
    let app = at.app;
    let only = at.caller.require(Scope::Admin).is_err().then_some(&at.caller.tenant);
    let mut text = String::new();
    predictions(&mut text, &series(&app.predictor, &app.labels, only));
    let usage = usage(&app.predictor, &app.labels, only);
    tenants(&mut text, &usage);
    with_type(StatusCode::OK, TEXT, text.into_bytes().into())
}

/// Calls by `only` and calls of its models; all without it. Who else calls a model is not its owner's to know.
fn series(predictor: &Predictor, labels: &Labels, only: Option<&TenantName>) -> Vec<Series> {
    let mut found: Vec<Series> = Vec::new();
    for endpoint in predictor.all_endpoints() {
        let owner = &endpoint.key.owner;
        for deployment in &endpoint.versions {
            let begin = found.len();
            for (caller, counted) in deployment.statistics() {
                let who = match only {
                    Some(own) if caller != *own && owner != own => continue,
                    Some(own) if caller != *own => OTHERS,
                    _ => labels.of(&caller),
                };
                let labels = labels_of(deployment, who, labels.of(owner));
                match found[begin..].iter_mut().find(|series| series.labels == labels) {
                    Some(series) => series.counted.add(&counted),
                    None => found.push(Series { labels, counted }),
                }
            }
        }
    }
    found
}

/// Names hold no character that a label would have to escape.
fn labels_of(deployment: &Deployment, caller: &str, owner: &str) -> String {
    let (model, version) = (&deployment.model.name, &deployment.version);
    format!("model=\"{model}\",version=\"{version}\",namespace=\"{owner}\",tenant=\"{caller}\"")
}

fn usage(
    predictor: &Predictor,
    labels: &Labels,
    only: Option<&TenantName>,
) -> Vec<(String, Usage)> {
    let mut found: Vec<(String, Usage)> = Vec::new();
    for (tenant, usage) in predictor.usages() {
        if only.is_some_and(|own| *own != tenant) {
            continue;
        }
        let label = format!("tenant=\"{}\"", labels.of(&tenant));
        match found.iter_mut().find(|(other, _)| *other == label) {
            Some((_, all)) => all.add(&usage),
            None => found.push((label, usage)),
        }
    }
    found
}

/// One metric: its head, and a line for each series.
fn family<'a, V: Display>(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    lines: impl IntoIterator<Item = (&'a str, V)>,
) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in lines {
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}

type Counter = (&'static str, &'static str, fn(&Statistics) -> u64);

/// Triton's counters; durations are in microseconds.
const COUNTERS: [Counter; 10] = [
    ("nv_inference_request_success", "Predictions that were answered", |s| s.success.count),
    ("nv_inference_count", "Rows that were answered by running the model", |s| s.inference_count),
    ("nv_inference_exec_count", "Runs of the model", |s| s.execution_count),
    ("nv_inference_request_duration_us", "Microseconds of answered predictions", |s| {
        s.success.ns / 1_000
    }),
    ("nv_inference_queue_duration_us", "Microseconds of waiting for a place", |s| {
        s.queue.ns / 1_000
    }),
    ("nv_inference_compute_input_duration_us", "Microseconds of getting an instance", |s| {
        s.compute_input.ns / 1_000
    }),
    ("nv_inference_compute_infer_duration_us", "Microseconds of the model at work", |s| {
        s.compute_infer.ns / 1_000
    }),
    ("nv_inference_compute_output_duration_us", "Microseconds of checking outputs", |s| {
        s.compute_output.ns / 1_000
    }),
    ("nv_cache_num_hits_per_model", "Answers that came from a cache", |s| s.cache_hit.count),
    ("nv_cache_num_misses_per_model", "Looks into a cache that found nothing", |s| {
        s.cache_miss.count
    }),
];

fn predictions(text: &mut String, series: &[Series]) {
    for (name, help, value) in COUNTERS {
        let lines = series.iter().map(|one| (one.labels.as_str(), value(&one.counted)));
        family(text, name, "counter", help, lines);
    }
    failures(text, series);
    let waiting = series.iter().map(|one| (one.labels.as_str(), one.counted.waiting));
    let help = "Predictions that wait for a place";
    family(text, "nv_inference_pending_request_count", "gauge", help, waiting);
    let running = series.iter().map(|one| (one.labels.as_str(), one.counted.running));
    family(text, "innkeeper_predictions_running", "gauge", "Predictions that run", running);
    latency(text, series);
}

fn failures(text: &mut String, series: &[Series]) {
    type Value = fn(&Statistics) -> u64;
    let reasons: [(&str, Value); 4] = [
        ("REJECTED", |s| s.failures.rejected),
        ("CANCELED", |s| s.failures.canceled),
        ("BACKEND", |s| s.failures.backend),
        ("OTHER", |s| s.failures.other),
    ];
    let lines: Vec<(String, u64)> = series
        .iter()
        .flat_map(|one| {
            reasons.iter().map(move |(reason, value)| {
                (format!("{},reason=\"{reason}\"", one.labels), value(&one.counted))
            })
        })
        .collect();
    let lines = lines.iter().map(|(labels, value)| (labels.as_str(), value));
    let help = "Predictions that were not answered, by reason";
    family(text, "nv_inference_request_failure", "counter", help, lines);
}

fn latency(text: &mut String, series: &[Series]) {
    let name = "innkeeper_prediction_duration_seconds";
    family::<u64>(text, name, "histogram", "How long answered predictions took", []);
    for Series { labels, counted } in series {
        let mut below = 0;
        for (bound, count) in LATENCY_BOUNDS_US.iter().zip(counted.latency) {
            below += count;
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{seconds}\"}} {below}");
        }
        let all: u64 = counted.latency.iter().sum();
        let seconds = counted.success.ns as f64 / 1e9;
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {all}");
        let _ = writeln!(text, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {all}");
    }
}

fn tenants(text: &mut String, usage: &[(String, Usage)]) {
    type Row = (&'static str, &'static str, &'static str, fn(&Usage) -> f64);
    let rows: [Row; 9] = [
        ("innkeeper_tenant_requests_total", "counter", "Predictions", |u| u.requests as f64),
        ("innkeeper_tenant_failures_total", "counter", "Predictions that failed", |u| {
            u.failures as f64
        }),
        ("innkeeper_tenant_compute_seconds_total", "counter", "Seconds that guests ran", |u| {
            u.compute_us as f64 / 1e6
        }),
        ("innkeeper_tenant_requests_in_flight", "gauge", "Predictions that run", |u| {
            u.requests_in_flight as f64
        }),
        ("innkeeper_tenant_requests_queued", "gauge", "Predictions that wait", |u| {
            u.requests_queued as f64
        }),
        ("innkeeper_tenant_tensor_bytes", "gauge", "Bytes behind tensor handles", |u| {
            u.tensor_bytes as f64
        }),
        ("innkeeper_tenant_asset_memory_bytes", "gauge", "Bytes of assets in memory", |u| {
            u.asset_memory_bytes as f64
        }),
        ("innkeeper_tenant_cache_bytes", "gauge", "Bytes of answers that are kept", |u| {
            u.cache_bytes as f64
        }),
        ("innkeeper_tenant_sequences", "gauge", "Sequences that are open", |u| u.sequences as f64),
    ];
    for (name, kind, help, value) in rows {
        let lines = usage.iter().map(|(labels, usage)| (labels.as_str(), value(usage)));
        family(text, name, kind, help, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_beyond_the_first_share_a_label() {
        let labels = Labels::default();
        let name = |n: usize| format!("t{n}").parse::<TenantName>().unwrap();
        for n in 0..TENANTS_MAX {
            assert_eq!(labels.of(&name(n)), format!("t{n}"));
        }
        assert_eq!(labels.of(&name(TENANTS_MAX)), OTHERS);
        assert_eq!(labels.of(&name(7)), "t7", "who has a label keeps it");
        assert!(OTHERS.parse::<TenantName>().is_err());
    }

    #[test]
    fn buckets_add_up() {
        let mut counted = Statistics::default();
        (counted.latency[0], counted.latency[16]) = (2, 1);
        let mut text = String::new();
        latency(&mut text, &[Series { labels: "model=\"m\"".into(), counted }]);
        assert!(text.contains("_bucket{model=\"m\",le=\"0.0001\"} 2\n"), "{text}");
        assert!(text.contains("_bucket{model=\"m\",le=\"10\"} 2\n"), "{text}");
        assert!(text.contains("_bucket{model=\"m\",le=\"+Inf\"} 3\n"), "{text}");
    }
}
