//! `innkeeper bench`: how fast a model answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use ureq::http::Method;

use super::args::{Bench, Host};
use super::client::{Client, segment};
use super::infer::{HEADER_LENGTH, ModelRef, OCTETS, encode, metadata};
use super::{input, output};
use crate::failure::{Code, Failure};

/// Latencies are told apart up to an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// The percentiles that are shown.
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];
/// Characters of the longest bar.
const BAR_CHARS: u64 = 40;

/// One request, as often as it is sent.
struct Shot {
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// When requests are due.
struct Schedule {
    /// When the first is.
    begin: Instant,
    /// From when on they are measured.
    measured: Instant,
    end: Instant,
    /// Between two of them; none where each connection sends when it can.
    every: Option<Duration>,
    next: AtomicU64,
}

/// What came of it.
struct Tally {
    latencies_us: Histogram<u64>,
    /// Answers that were no success, by status.
    errors: BTreeMap<u16, u64>,
    /// What the first of them said.
    said: Option<String>,
}

pub(super) fn run(host: &Host, args: &Bench) -> Result<()> {
    let client = Client::new(host)?;
    let shot = shot(&client, args)?;
    // A request that cannot work is told before hundreds of threads try.
    shot.send(&client)?.success()?;
    let begin = Instant::now();
    let measured = begin + Duration::from_secs(args.warmup.into());
    let schedule = Schedule {
        begin,
        measured,
        end: measured + Duration::from_secs(args.duration.into()),
        every: args.rate.map(|rate| Duration::from_secs(1) / rate),
        next: AtomicU64::new(0),
    };
    let tallies: Vec<Result<Tally>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..args.connections)
            .map(|_| {
                scope.spawn(|| Client::new(host).and_then(|own| shoot(&own, &shot, &schedule)))
            })
            .collect();
        let gone = |_| Err(anyhow::anyhow!("a thread of the benchmark panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(gone)).collect()
    });
    let seconds = schedule.measured.elapsed().as_secs_f64();
    let mut all = Tally::new()?;
    for tally in tallies {
        all.add(tally?)?;
    }
    let report = all.report(args, seconds);
    if args.json {
        output::line(&report.to_string());
    } else {
        output::print(&all.table(args, &report));
    }
    match &all.said {
        Some(said) => {
            let count: u64 = all.errors.values().sum();
            let text = format!("{count} requests failed; the first: {said}");
            Err(Failure::new(Code::Failed, text).into())
        }
        None => Ok(()),
    }
}

fn shot(client: &Client, args: &Bench) -> Result<Shot> {
    let model = ModelRef::parse(&args.model);
    let path = format!("{}/infer", model.path());
    if args.input.is_empty() {
        let body = example(client, &model)?;
        let headers = vec![("content-type", "application/json".to_owned())];
        return Ok(Shot { path, headers, body: body.to_string().into_bytes() });
    }
    let inputs = input::read(&args.input, &metadata(client, &model)?.inputs)?;
    let (head, body) = encode(&inputs);
    let headers = vec![("content-type", OCTETS.to_owned()), (HEADER_LENGTH, head.to_string())];
    Ok(Shot { path, headers, body })
}

/// The example in the model's interface.
fn example(client: &Client, model: &ModelRef) -> Result<Value> {
    let version = match &model.version {
        Some(version) => version.clone(),
        None => {
            let known: Value = client.get(&model.path())?;
            let newest = known["versions"].as_array().and_then(|versions| versions.last());
            newest.and_then(Value::as_str).context("the model has no versions")?.to_owned()
        }
    };
    let owner = model.owner.as_ref().map(|owner| format!("/t/{}", segment(owner)));
    let interface: Value = client.get(&format!(
        "{}/api/v1/models/{}/versions/{}/interface",
        owner.unwrap_or_default(),
        segment(&model.model),
        segment(&version)
    ))?;
    let paths = interface["paths"].as_object().and_then(|paths| paths.values().next());
    let body = paths.map(|path| &path["post"]["requestBody"]["content"]["application/json"]);
    match body.map(|body| &body["example"]) {
        Some(example) if example.is_object() => Ok(example.clone()),
        _ => bail!("the model's interface has no example; say by --input what to send"),
    }
}

impl Shot {
    fn send(&self, client: &Client) -> Result<super::client::Answer> {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        client.send(Method::POST, &self.path, &headers, &self.body[..])
    }
}

impl Schedule {
    /// When the next request is due; none when all are.
    fn next(&self) -> Option<Instant> {
        let due = match self.every {
            None => Instant::now(),
            Some(every) => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let after = every.as_nanos().saturating_mul(u128::from(number));
                self.begin + Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX / 2))
            }
        };
        (due < self.end).then_some(due)
    }
}

/// Sends requests over one connection until the end.
fn shoot(client: &Client, shot: &Shot, schedule: &Schedule) -> Result<Tally> {
    let mut tally = Tally::new()?;
    while let Some(due) = schedule.next() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = shot.send(client)?;
        if due >= schedule.measured {
            tally.note(due.elapsed(), answer)?;
        }
    }
    Ok(tally)
}

impl Tally {
    fn new() -> Result<Tally> {
        let latencies_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        Ok(Tally { latencies_us, errors: BTreeMap::new(), said: None })
    }

    fn note(&mut self, took: Duration, answer: super::client::Answer) -> Result<()> {
        if !(200..300).contains(&answer.status) {
            *self.errors.entry(answer.status).or_default() += 1;
            self.said = self.said.take().or_else(|| Some(answer.success().err()?.to_string()));
            return Ok(());
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latencies_us.saturating_record(us.clamp(1, LATENCY_US_MAX));
        Ok(())
    }

    fn add(&mut self, other: Tally) -> Result<()> {
        self.latencies_us.add(&other.latencies_us)?;
        for (status, count) in other.errors {
            *self.errors.entry(status).or_default() += count;
        }
        self.said = self.said.take().or(other.said);
        Ok(())
    }

    fn report(&self, args: &Bench, seconds: f64) -> Value {
        let latencies = &self.latencies_us;
        let ms = |us: u64| us as f64 / 1_000.0;
        let mut latency = json!({
            "min": ms(latencies.min()),
            "mean": latencies.mean() / 1_000.0,
            "max": ms(latencies.max()),
        });
        for (name, quantile) in PERCENTILES {
            latency[name] = json!(ms(latencies.value_at_quantile(quantile)));
        }
        let histogram: Vec<Value> = self
            .bars()
            .into_iter()
            .map(|(from, to, count)| json!({ "from_us": from, "to_us": to, "count": count }))
            .collect();
        json!({
            "model": args.model,
            "connections": args.connections,
            "rate": args.rate,
            "seconds": seconds,
            "requests": latencies.len(),
            "requests_per_second": latencies.len() as f64 / seconds,
            "errors": self.errors,
            "latency_ms": latency,
            "histogram": histogram,
        })
    }

    /// Runs of latencies that each are twice as long as the one before: from, to, and how many.
    fn bars(&self) -> Vec<(u64, u64, u64)> {
        let latencies = &self.latencies_us;
        if latencies.is_empty() {
            return Vec::new();
        }
        let (mut bars, mut from) = (Vec::new(), 1u64 << latencies.min().max(1).ilog2());
        while from <= latencies.max() {
            let to = from * 2;
            bars.push((from, to, latencies.count_between(from, to - 1)));
            from = to;
        }
        bars
    }

    fn table(&self, args: &Bench, report: &Value) -> String {
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        let how = match args.rate {
            Some(rate) => {
                format!("{rate} requests due in a second over {} connections", args.connections)
            }
            None => format!("{} connections, each busy all the time", args.connections),
        };
        let failed: u64 = self.errors.values().sum();
        let mut text = format!(
            "{}: {how}, {:.1} s\n{} answers, {:.0} a second; {failed} failures\n\n",
            args.model,
            number(&report["seconds"]),
            self.latencies_us.len(),
            number(&report["requests_per_second"]),
        );
        let latency = &report["latency_ms"];
        let names =
            ["min", "mean"].into_iter().chain(PERCENTILES.map(|(name, _)| name)).chain(["max"]);
        let rows: Vec<Vec<String>> = names
            .map(|name| vec![name.to_owned(), format!("{:>9.3} ms", number(&latency[name]))])
            .collect();
        text += &output::table(&["LATENCY", ""], &rows);
        let bars = self.bars();
        let most = bars.iter().map(|bar| bar.2).max().unwrap_or(1).max(1);
        let rows: Vec<Vec<String>> = bars
            .into_iter()
            .map(|(_, to, count)| {
                let bar = "#".repeat((count * BAR_CHARS).div_ceil(most) as usize);
                vec![format!("{:>9.3} ms", to as f64 / 1_000.0), count.to_string(), bar]
            })
            .collect();
        text.push('\n');
        text + &output::table(&["UP TO", "ANSWERS", ""], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_stands_in_one_bar() {
        let mut tally = Tally::new().unwrap();
        for us in [100, 120, 130, 900, 70_000] {
            tally.latencies_us.record(us).unwrap();
        }
        let bars = tally.bars();
        assert_eq!(bars.iter().map(|bar| bar.2).sum::<u64>(), 5);
        assert_eq!(bars[0], (64, 128, 2));
        assert!(bars.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert_eq!(Tally::new().unwrap().bars(), []);
    }

    #[test]
    fn requests_are_due_at_their_rate_until_the_end() {
        let begin = Instant::now();
        let every = Some(Duration::from_millis(100));
        let end = begin + Duration::from_secs(1);
        let schedule = Schedule { begin, measured: begin, end, every, next: AtomicU64::new(0) };
        let due: Vec<Duration> =
            std::iter::from_fn(|| schedule.next()).map(|due| due - begin).collect();
        assert_eq!(due.len(), 10);
        assert_eq!(due[9], Duration::from_millis(900));
    }
}
