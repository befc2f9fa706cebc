//! `innkeeper logs`: what a model has written.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::args::{Host, Logs};
use super::client::{Client, segment};
use super::output;
use super::tenants::{array, text};

/// Lines that are fetched at once.
const LINES: u64 = 1_000;
/// How often `--follow` asks for more.
const ASK_EVERY: Duration = Duration::from_millis(500);

pub(super) fn run(host: &Host, args: &Logs) -> Result<()> {
    let client = Client::new(host)?;
    let mut since = 0;
    loop {
        let path =
            format!("/api/v1/models/{}/logs?since={since}&max={LINES}", segment(&args.model));
        let answer: Value = client.get(&path)?;
        let lines: Vec<&Value> = array(&answer["lines"]).collect();
        for line in &lines {
            output::line(&if args.json { line.to_string() } else { readable(line) });
        }
        since = answer["next"].as_u64().unwrap_or(since);
        if lines.is_empty() {
            if !args.follow {
                return Ok(());
            }
            sleep(ASK_EVERY);
        }
    }
}

fn readable(line: &Value) -> String {
    let time = output::time(line["time_ms"].as_i64().unwrap_or_default());
    let [level, version, request, message] =
        ["level", "version", "request_id", "message"].map(|key| text(&line[key]));
    format!("{time} {level:5} {version} {request} {}", output::one_line(&message))
}
