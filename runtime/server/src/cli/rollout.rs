//! `innkeeper rollout`: a version behind an alias, tried on some of its callers.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use ureq::http::Method;

use super::args::{Host, Rollout};
use super::client::{Client, segment};
use super::output;
use super::tenants::text;
use crate::failure::{Code, Failure};

/// How often `--watch` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(host: &Host, args: &Rollout) -> Result<()> {
    let client = Client::new(host)?;
    let alias = format!("/api/v1/models/{}/aliases/{}", segment(&args.model), segment(&args.alias));
    if args.promote || args.rollback {
        return end(&client, &alias, args);
    }
    let path = format!("{alias}/rollout");
    if args.to.is_some() || args.canary.is_some() || args.shadow.is_some() {
        let present = match args.to {
            Some(_) => Value::Null,
            None => client.get(&path)?,
        };
        client.put(&path, &wish(args, &present))?;
    }
    if args.watch {
        return watch(&client, &alias, args);
    }
    let report: Value = client.get(&path)?;
    show(args, &report, output::print);
    Ok(())
}

/// What is asked for: all of it anew with `--to`, else what is there with other shares.
fn wish(args: &Rollout, present: &Value) -> Value {
    let Some(to) = &args.to else {
        let mut wish = json!({ "force": true });
        for field in ["candidate", "canary_percent", "shadow_percent", "sticky", "bounds"] {
            wish[field] = present[field].clone();
        }
        for (field, share) in shares(args) {
            share.into_iter().for_each(|share| wish[field] = json!(share));
        }
        return wish;
    };
    let mut bounds = json!({});
    let given = [
        ("errors_percent_max", args.max_errors.map(|bound| json!(bound.0))),
        ("traps_percent_max", args.max_traps.map(|bound| json!(bound.0))),
        ("p99_ms_max", args.max_p99_ms.map(|ms| json!(ms))),
        ("requests_min", args.min_requests.map(|requests| json!(requests))),
        ("difference_max", args.max_difference.map(|part| json!(part))),
        ("window_ms", args.window.map(|seconds| json!(seconds.saturating_mul(1_000)))),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            bounds[name] = value;
        }
    }
    let mut wish = json!({ "candidate": to, "force": args.force, "bounds": bounds });
    for (field, share) in shares(args) {
        wish[field] = json!(share.unwrap_or(0.0));
    }
    if let Some(sticky) = &args.sticky {
        wish["sticky"] = json!(sticky);
    }
    wish
}

fn shares(args: &Rollout) -> [(&'static str, Option<f64>); 2] {
    [("canary_percent", args.canary), ("shadow_percent", args.shadow)]
}

fn end(client: &Client, alias: &str, args: &Rollout) -> Result<()> {
    let now: Value = if args.promote {
        client.post(&format!("{alias}/promote"), &json!({}))?
    } else {
        client.post(&format!("{alias}/rollback"), &json!({ "why": args.why }))?
    };
    let line = format!("{}@{} is {}", args.model, args.alias, text(&now["version"]));
    output::print(&if args.json { format!("{now}\n") } else { format!("{line}\n") });
    Ok(())
}

/// Shows it until it ends.
fn watch(client: &Client, alias: &str, args: &Rollout) -> Result<()> {
    loop {
        let answer = client.send(Method::GET, &format!("{alias}/rollout"), &[], ())?;
        if answer.status == 404 && answer.json::<Value>()?["code"] == "no_rollout" {
            return ended(client, alias, args);
        }
        show(args, &answer.success()?.json()?, output::again);
        sleep(LOOK_EVERY);
    }
}

/// How it ended, from the history of the alias.
fn ended(client: &Client, alias: &str, args: &Rollout) -> Result<()> {
    let history: Value = client.get(&format!("{alias}/history?max=1"))?;
    let last = &history["changes"][0];
    if args.json {
        output::line(&last.to_string());
    }
    let name = format!("{}@{}", args.model, args.alias);
    let (version, why) = (text(&last["version"]), text(&last["why"]));
    if last["act"] == "rolled-back" {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let line = format!("{} is rolled back{why}; {name} is {version}", text(&last["candidate"]));
        return Err(Failure::new(Code::Failed, line).into());
    }
    if !args.json {
        output::line(&format!("{name} is {version}"));
    }
    Ok(())
}

fn show(args: &Rollout, report: &Value, print: impl Fn(&str)) {
    if args.json {
        output::line(&report.to_string());
    } else {
        print(&table(report));
    }
}

fn table(report: &Value) -> String {
    let [model, alias, current, candidate] =
        ["model", "alias", "current", "candidate"].map(|field| text(&report[field]));
    let since = output::time(report["created_ms"].as_i64().unwrap_or_default());
    let canary = report["canary_percent"].as_f64().unwrap_or_default();
    let rows = [
        side("current", &current, 100.0 - canary, &report["sides"]["current"]),
        side("candidate", &candidate, canary, &report["sides"]["candidate"]),
    ];
    let head = ["", "VERSION", "SHARE", "REQUESTS", "ERRORS", "TRAPS", "P50", "P99", "IN ALL"];
    format!(
        "{model}@{alias} is {current}; {candidate} is tried since {since}\n\n{}\n{}{}\n",
        output::table(&head, &rows),
        shadow(report),
        bounds(&report["bounds"])
    )
}

fn side(name: &str, version: &str, share: f64, report: &Value) -> Vec<String> {
    let count = |field: &str| report[field].as_u64().unwrap_or_default();
    let requests = count("requests");
    let part = |field: &str| match count(field) {
        0 => "0".to_owned(),
        part => format!("{part} ({:.1} %)", part as f64 * 100.0 / requests as f64),
    };
    let ms = |field: &str| match requests {
        0 => "-".to_owned(),
        _ => format!("{:.2} ms", report[field].as_f64().unwrap_or_default()),
    };
    vec![
        name.to_owned(),
        version.to_owned(),
        format!("{} %", (share * 100.0).round() / 100.0),
        requests.to_string(),
        part("errors"),
        part("traps"),
        ms("p50_ms"),
        ms("p99_ms"),
        count("requests_total").to_string(),
    ]
}

/// What came of the requests that the candidate was shown, as a sentence; nothing where it is shown none.
fn shadow(report: &Value) -> String {
    let (shadow, percent) = (&report["shadow"], report["shadow_percent"].as_f64());
    let count = |field: &str| shadow[field].as_u64().unwrap_or_default();
    let [requests, same, different, errors, dropped] =
        ["requests", "same", "different", "errors", "dropped"].map(count);
    let percent = percent.unwrap_or_default();
    if percent == 0.0 && requests + dropped == 0 {
        return String::new();
    }
    let largest = shadow["largest_difference"].as_f64().unwrap_or_default();
    format!(
        "shown {percent} % of them besides: {requests} run, {same} answered alike, {different} otherwise (numbers by up to \
         {largest:.6}), {errors} failed; {dropped} not run, since there was too much to do\n\n"
    )
}

/// When it is rolled back by itself, as a sentence.
fn bounds(bounds: &Value) -> String {
    let window = bounds["window_ms"].as_f64().unwrap_or_default() / 1_000.0;
    let over = [
        ("errors_percent_max", "errors are over", " %"),
        ("traps_percent_max", "traps are over", " %"),
        ("p99_ms_max", "p99 is over", " ms"),
    ];
    let over = over.iter().filter_map(|(field, text, unit)| {
        Some(format!("{text} {}{unit}", bounds[field].as_f64()?))
    });
    let over: Vec<String> = over.collect();
    if over.is_empty() {
        return format!("requests of the last {window} s; nothing rolls it back by itself");
    }
    format!(
        "requests of the last {window} s; rolled back by itself once, of {} or more, {}",
        text(&bounds["requests_min"]),
        over.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_stand_under_each_other() {
        let side = |requests: u64, errors: u64| {
            json!({"requests": requests, "errors": errors, "traps": 0, "p50_ms": 0.5, "p99_ms": 1.25,
                "requests_total": requests})
        };
        let report = json!({
            "model": "m", "alias": "stable", "current": "1", "candidate": "2", "created_ms": 0,
            "canary_percent": 10.0,
            "sides": {"current": side(90, 0), "candidate": side(10, 1)},
            "bounds": {"window_ms": 60_000, "requests_min": 50, "errors_percent_max": 5.0},
        });
        let wanted = "\
m@stable is 1; 2 is tried since 1970-01-01T00:00:00Z

           VERSION  SHARE  REQUESTS  ERRORS      TRAPS  P50      P99      IN ALL
current    1        90 %   90        0           0      0.50 ms  1.25 ms  90
candidate  2        10 %   10        1 (10.0 %)  0      0.50 ms  1.25 ms  10

requests of the last 60 s; rolled back by itself once, of 50 or more, errors are over 5 %
";
        assert_eq!(table(&report), wanted);

        let mut shown = report;
        shown["shadow_percent"] = json!(50.0);
        shown["shadow"] = json!({"requests": 40, "same": 37, "different": 2, "errors": 1, "dropped": 3,
            "largest_difference": 0.25});
        let line = "\nshown 50 % of them besides: 40 run, 37 answered alike, 2 otherwise (numbers by up to 0.250000), \
            1 failed; 3 not run, since there was too much to do\n\nrequests of the last";
        assert!(table(&shown).contains(line), "{}", table(&shown));
    }
}
