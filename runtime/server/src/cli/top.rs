//! `innkeeper top`: what models do, again and again.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::args::Host;
use super::client::Client;
use super::output;

/// An administrator sees the models of all tenants, any other key its tenant's and what that calls.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Once, over the time that --every says, and not again
    #[arg(long)]
    pub(super) once: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(super) every: f64,
    /// What comes first
    #[arg(long, value_enum, default_value = "requests")]
    pub(super) sort: By,
    /// The most rows of the table
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(super) max: usize,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum By {
    Requests,
    P99,
    Memory,
}

/// What a server has counted so far.
#[derive(Deserialize)]
struct Sample {
    latency_bounds_us: Vec<u64>,
    models: Vec<Counted>,
}

#[derive(Clone, Deserialize)]
struct Counted {
    owner: String,
    model: String,
    version: String,
    requests: u64,
    failures: u64,
    latency: Vec<u64>,
    waiting: u64,
    running: u64,
    warm_instances: u64,
    asset_bytes: Option<u64>,
}

/// What happened between two samples.
#[derive(Debug, PartialEq, Serialize)]
struct Shown {
    seconds: f64,
    models: Vec<Row>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Row {
    owner: String,
    model: String,
    version: String,
    requests_per_second: f64,
    failures_per_second: f64,
    /// None without a request; from the buckets of a histogram, so that they are not exact.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    waiting: u64,
    running: u64,
    /// Those that run and those that wait for a request.
    instances: u64,
    asset_bytes: Option<u64>,
}

pub(super) fn run(host: &Host, args: &Top) -> Result<()> {
    let client = Client::new(host)?;
    let every = Duration::from_secs_f64(args.every);
    let (mut before, mut at) = (sample(&client)?, Instant::now());
    loop {
        sleep(every);
        let now = sample(&client)?;
        let took = at.elapsed();
        at += took;
        let shown = shown(&before, &now, took, args.sort);
        match (args.json, args.once) {
            (true, _) => output::line(&serde_json::to_string(&shown)?),
            (false, true) => output::print(&text(&host.url, &shown, args.max)),
            (false, false) => output::again(&text(&host.url, &shown, args.max)),
        }
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

/// A time that a person waits for.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "wanted a number of seconds".to_owned())?;
    let is_sane = (0.1..=3_600.0).contains(&seconds);
    is_sane.then_some(seconds).ok_or_else(|| "wanted 0.1 to 3600 seconds".to_owned())
}

fn sample(client: &Client) -> Result<Sample> {
    client.get("/api/v1/activity")
}

fn shown(before: &Sample, now: &Sample, took: Duration, by: By) -> Shown {
    let seconds = took.as_secs_f64();
    let bounds = &now.latency_bounds_us;
    let mut models: Vec<Row> = now
        .models
        .iter()
        .map(|now| {
            let same = |one: &&Counted| {
                (&one.owner, &one.model, &one.version) == (&now.owner, &now.model, &now.version)
            };
            row(before.models.iter().find(same), now, bounds, seconds)
        })
        .collect();
    // What is equal stays in the server's order, which is that of the names.
    models.sort_by(|a, b| measure(b, by).total_cmp(&measure(a, by)));
    Shown { seconds, models }
}

fn measure(row: &Row, by: By) -> f64 {
    match by {
        By::Requests => row.requests_per_second,
        By::P99 => row.p99_ms.unwrap_or(-1.0),
        By::Memory => row.asset_bytes.unwrap_or(0) as f64,
    }
}

fn row(before: Option<&Counted>, now: &Counted, bounds: &[u64], seconds: f64) -> Row {
    // Counters begin anew when the server or the version does.
    let since = |was: u64, is: u64| if was <= is { is - was } else { is };
    let rate = |field: fn(&Counted) -> u64| {
        since(before.map_or(0, field), field(now)) as f64 / seconds.max(1e-9)
    };
    let was = |bucket: usize| before.and_then(|before| before.latency.get(bucket)).copied();
    let latency: Vec<u64> = (now.latency.iter().enumerate())
        .map(|(bucket, &count)| since(was(bucket).unwrap_or(0), count))
        .collect();
    Row {
        owner: now.owner.clone(),
        model: now.model.clone(),
        version: now.version.clone(),
        requests_per_second: rate(|counted| counted.requests),
        failures_per_second: rate(|counted| counted.failures),
        p50_ms: quantile(&latency, bounds, 0.5),
        p99_ms: quantile(&latency, bounds, 0.99),
        waiting: now.waiting,
        running: now.running,
        instances: now.running + now.warm_instances,
        asset_bytes: now.asset_bytes,
    }
}

/// Milliseconds within which that share of the requests was answered. Those of one bucket are taken to be spread over it
/// evenly, and those of the last to end where it begins.
fn quantile(latency: &[u64], bounds: &[u64], share: f64) -> Option<f64> {
    let all: u64 = latency.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = all as f64 * share;
    let mut below = 0.0;
    for (bucket, &count) in latency.iter().enumerate() {
        let low = if bucket == 0 { 0 } else { *bounds.get(bucket - 1)? } as f64;
        let count = count as f64;
        if below + count >= wanted && count > 0.0 {
            let high = bounds.get(bucket).map_or(low, |&bound| bound as f64);
            return Some((low + (high - low) * (wanted - below) / count) / 1_000.0);
        }
        below += count;
    }
    None
}

fn text(url: &str, shown: &Shown, max: usize) -> String {
    let sum = |field: fn(&Row) -> f64| shown.models.iter().map(field).sum::<f64>();
    let head = format!(
        "{url}: {} versions, {:.1} requests/s, {:.1} failures/s, {} running, {} waiting",
        shown.models.len(),
        sum(|row| row.requests_per_second),
        sum(|row| row.failures_per_second),
        sum(|row| row.running as f64),
        sum(|row| row.waiting as f64),
    );
    let rows: Vec<Vec<String>> = shown.models.iter().take(max).map(cells).collect();
    let names =
        ["MODEL", "REQ/S", "FAIL/S", "P50", "P99", "RUNNING", "WAITING", "INSTANCES", "MEMORY"];
    let more = match shown.models.len().saturating_sub(max) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    format!("{head}\n\n{}{more}", output::table(&names, &rows))
}

fn cells(row: &Row) -> Vec<String> {
    let ms = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.2} ms"));
    vec![
        format!("{}/{}@{}", row.owner, row.model, row.version),
        format!("{:.1}", row.requests_per_second),
        format!("{:.1}", row.failures_per_second),
        ms(row.p50_ms),
        ms(row.p99_ms),
        row.running.to_string(),
        row.waiting.to_string(),
        row.instances.to_string(),
        row.asset_bytes.map_or("-".to_owned(), output::size),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 3] = [100, 1_000, 10_000];

    fn counted(model: &str, requests: u64, latency: [u64; 4]) -> Counted {
        Counted {
            owner: "acme".into(),
            model: model.into(),
            version: "1".into(),
            requests,
            failures: 0,
            latency: latency.to_vec(),
            waiting: 0,
            running: 1,
            warm_instances: 2,
            asset_bytes: Some(2_048),
        }
    }

    fn between(before: &[Counted], now: &[Counted]) -> Shown {
        let sample = |models: &[Counted]| Sample {
            latency_bounds_us: BOUNDS.to_vec(),
            models: models.to_vec(),
        };
        shown(&sample(before), &sample(now), Duration::from_secs(2), By::Requests)
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        for (latency, share, wanted) in [
            ([0, 0, 0, 0], 0.5, None),
            ([10, 0, 0, 0], 0.5, Some(0.05)),
            ([50, 50, 0, 0], 0.5, Some(0.1)),
            ([0, 0, 0, 4], 0.5, Some(10.0)),
            ([98, 0, 2, 0], 0.99, Some(5.5)),
        ] {
            assert_eq!(quantile(&latency, &BOUNDS, share), wanted, "{latency:?}");
        }
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let before = [counted("a", 100, [100, 0, 0, 0]), counted("b", 5, [5, 0, 0, 0])];
        let now = [counted("a", 110, [110, 0, 0, 0]), counted("b", 45, [5, 40, 0, 0])];
        let shown = between(&before, &now);
        let rates: Vec<(&str, f64)> =
            shown.models.iter().map(|row| (row.model.as_str(), row.requests_per_second)).collect();
        assert_eq!(rates, [("b", 20.0), ("a", 5.0)]);
        assert_eq!(shown.models[0].p50_ms, Some(0.55));
        // A version that is new, and one whose counters began anew.
        let shown = between(&[counted("a", 100, [100, 0, 0, 0])], &[counted("a", 4, [4, 0, 0, 0])]);
        assert_eq!(shown.models[0].requests_per_second, 2.0);
        assert_eq!(between(&[], &now).models.len(), 2);
    }

    #[test]
    fn people_see_a_table() {
        let now = [counted("a", 10, [10, 0, 0, 0]), counted("b", 0, [0; 4])];
        let wanted = "\
http://x: 2 versions, 5.0 requests/s, 0.0 failures/s, 2 running, 0 waiting

MODEL     REQ/S  FAIL/S  P50      P99      RUNNING  WAITING  INSTANCES  MEMORY
acme/a@1  5.0    0.0     0.05 ms  0.10 ms  1        0        3          2.00 KiB
and 1 more
";
        assert_eq!(text("http://x", &between(&[], &now), 1), wanted);
    }
}
