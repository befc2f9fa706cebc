//! `innkeeper train` and `innkeeper jobs`: jobs, and how they go.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::args::{DatasetPush, Host, Jobs, Push, Train};
use super::client::{Client, segment};
use super::infer::ModelRef;
use super::{curve, datasets, models, output, push};
use crate::failure::{Code, Failure};

pub(super) fn train(host: &Host, args: &Train) -> Result<()> {
    let client = Client::new(host)?;
    let named = published(host, &args.model)?;
    let ModelRef { model, version, .. } = models::own(&named)?;
    if args.hyperparameters {
        return hyperparameters(&client, &model, version.as_deref().unwrap_or("stable"));
    }
    let Some(data) = &args.data else {
        return Err(Failure::usage("say what to learn from by --data NAME or --data FILE").into());
    };
    let dataset = pushed(&client, data)?;
    let validation = args.validation.as_deref().map(|data| pushed(&client, data)).transpose()?;
    let mut request = json!({
        "kind": "train",
        "model": model,
        "dataset": dataset,
        "seed": args.seed,
        "hyperparameters": settings(&args.set)?,
        "into": into(args)?,
    });
    let fields = request.as_object_mut().expect("it was made as an object");
    let mut put = |name: &str, value: Option<Value>| {
        value.map(|value| fields.insert(name.to_owned(), value));
    };
    put("version", version.map(Value::from));
    put("validation_dataset", validation.map(Value::from));
    put("validation_fraction", args.validation_fraction.map(Value::from));
    put("checkpoint_every_ms", args.checkpoint_every.map(|s| Value::from((s * 1e3) as u64)));
    put("alias", alias(args)?);
    let job: Value = client.post("/api/v1/jobs", &request)?;
    let id = text(&job["id"]);
    if args.detach {
        output::line(&id);
        return Ok(());
    }
    watch(&client, &id)
}

/// A model of that name, or the one in a bundle, which is published first.
fn published(host: &Host, model: &str) -> Result<String> {
    let file = Path::new(model);
    if !file.is_file() {
        return Ok(model.to_owned());
    }
    let bundle = push::read(file)?;
    let name = bundle.manifest.name.clone();
    let Some(version) = bundle.manifest.version.clone() else {
        let text =
            format!("{model} names no version; publish it by `innkeeper push` and train that");
        return Err(Failure::usage(text).into());
    };
    let named = format!("{name}@{version}");
    push::bundle(host, bundle, &Push { version: Some(version), ..Push::default() })?;
    Ok(named)
}

/// A dataset of that name; a file is sent first.
fn pushed(client: &Client, data: &str) -> Result<String> {
    let file = Path::new(data);
    if !file.is_file() {
        return Ok(data.to_owned());
    }
    let args = DatasetPush {
        file: file.to_owned(),
        name: None,
        format: None,
        no_header: false,
        delimiter: None,
        column: Vec::new(),
    };
    datasets::push(client, &args)
}

/// `name=value`, where the value is JSON or else text.
fn settings(set: &[String]) -> Result<Map<String, Value>> {
    let mut settings = Map::new();
    for one in set {
        let Some((name, value)) = one.split_once('=') else {
            let text = format!("--set {one}: wanted NAME=VALUE, such as epochs=20");
            return Err(Failure::usage(text).into());
        };
        let value = match serde_json::from_str(value) {
            Ok(value) => value,
            // 64,64 is what people write for [64, 64].
            Err(_) => serde_json::from_str::<Vec<i64>>(&format!("[{value}]"))
                .map_or_else(|_| Value::from(value), Value::from),
        };
        settings.insert(name.to_owned(), value);
    }
    Ok(settings)
}

fn into(args: &Train) -> Result<Value> {
    let Some(into) = &args.into else { return Ok(json!({})) };
    match into.split_once('@') {
        Some((model, version)) if !model.is_empty() && !version.is_empty() => {
            Ok(json!({ "model": model, "version": version }))
        }
        None => Ok(json!({ "model": into })),
        Some(_) => {
            Err(Failure::usage(format!("--into {into}: wanted MODEL or MODEL@VERSION")).into())
        }
    }
}

/// The alias, and the bar that `--if` says: `val_accuracy>=0.95`.
fn alias(args: &Train) -> Result<Option<Value>> {
    let Some(name) = &args.alias else { return Ok(None) };
    let mut alias = json!({ "name": name, "force": args.force });
    if let Some(bar) = &args.bar {
        let parsed = [(">=", "at_least"), ("<=", "at_most")].into_iter().find_map(|(sign, key)| {
            let (metric, bound) = bar.split_once(sign)?;
            Some((metric.trim().to_owned(), key, bound.trim().parse::<f64>().ok()?))
        });
        let (metric, key, bound) = parsed.ok_or_else(|| {
            Failure::usage(format!("--if {bar}: wanted a metric, >= or <=, and a number"))
        })?;
        alias["metric"] = metric.into();
        alias[key] = bound.into();
    }
    Ok(Some(alias))
}

fn hyperparameters(client: &Client, model: &str, slot: &str) -> Result<()> {
    let path =
        format!("/api/v1/models/{}/versions/{}/hyperparameters", segment(model), segment(slot));
    let answer: Value = client.get(&path)?;
    let all = answer["hyperparameters"].as_array().cloned().unwrap_or_default();
    let row = |one: &Value| {
        let may = match &one["enum"] {
            Value::Array(words) => {
                words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            _ if one["minimum"].is_null() => text(&one["type"]),
            _ => format!("{} {} to {}", text(&one["type"]), one["minimum"], one["maximum"]),
        };
        let default =
            if one["default"].is_null() { "none".into() } else { one["default"].to_string() };
        vec![text(&one["name"]), default, output::one_line(&may), text(&one["meaning"])]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    output::print(&output::table(&["NAME", "DEFAULT", "MAY BE", "MEANING"], &rows));
    Ok(())
}

pub(super) fn jobs(host: &Host, args: Jobs) -> Result<()> {
    let client = Client::new(host)?;
    match args {
        Jobs::List { json } => list(&client, json),
        Jobs::Show { id, json } => show(&client, &id, json),
        Jobs::Watch { id } => watch(&client, &id),
        Jobs::Pause { id } => tell(&client, &id, "pause", "rests after its next step"),
        Jobs::Resume { id } => tell(&client, &id, "resume", "goes on"),
        Jobs::Cancel { id } => tell(&client, &id, "cancel", "is cancelled"),
    }
}

pub(super) fn path(id: &str) -> String {
    format!("/api/v1/jobs/{}", segment(id))
}

fn tell(client: &Client, id: &str, act: &str, said: &str) -> Result<()> {
    client.post::<Value>(&format!("{}/{act}", path(id)), &json!({}))?;
    output::line(&format!("{id} {said}"));
    Ok(())
}

fn list(client: &Client, json: bool) -> Result<()> {
    let answer: Value = client.get("/api/v1/jobs")?;
    if json {
        output::line(&answer.to_string());
        return Ok(());
    }
    let row = |job: &Value| {
        let progress = &job["progress"];
        let epochs = match progress["epochs"].as_u64() {
            Some(0) | None => String::new(),
            Some(epochs) => format!("{}/{epochs}", progress["epoch"]),
        };
        vec![
            text(&job["id"]),
            text(&job["state"]),
            format!("{}@{}", text(&job["model"]), text(&job["version"])),
            epochs,
            output::time(job["created_ms"].as_i64().unwrap_or(0)),
        ]
    };
    let rows: Vec<Vec<String>> =
        answer["jobs"].as_array().map(|all| all.iter().map(row).collect()).unwrap_or_default();
    output::print(&output::table(&["JOB", "STATE", "MAKES", "EPOCHS", "ASKED FOR"], &rows));
    Ok(())
}

fn show(client: &Client, id: &str, json: bool) -> Result<()> {
    let job: Value = client.get(&path(id))?;
    if json {
        output::line(&job.to_string());
        return Ok(());
    }
    output::line(&format!("{} {}", text(&job["id"]), text(&job["state"])));
    output::line(&format!("makes {}@{}", text(&job["model"]), text(&job["version"])));
    epochs(&job["progress"]["history"]);
    ended(&job)
}

/// Shows a job until it ends or rests. Fails when it fails.
pub(super) fn watch(client: &Client, id: &str) -> Result<()> {
    let bar = bar();
    let mut reader = BufReader::new(client.stream(&format!("{}/events", path(id)))?);
    let (mut kind, mut line) = (String::new(), String::new());
    let mut shown_epochs = 0u64;
    loop {
        line.clear();
        if reader.read_line(&mut line).map_err(|error| broken(id, &error))? == 0 {
            break;
        }
        if let Some(text) = line.strip_prefix("event: ") {
            kind = text.trim().to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap_or_default();
            match kind.as_str() {
                "progress" => progress(&bar, &data),
                "epoch" if !std::io::stderr().is_terminal() => {
                    output::line(&epoch(&data));
                    shown_epochs += 1;
                }
                "paused" => break,
                _ => {}
            }
        }
    }
    bar.finish_and_clear();
    let job: Value = client.get(&path(id))?;
    match shown_epochs {
        0 => epochs(&job["progress"]["history"]),
        _ => curves(&job["progress"]["history"]),
    }
    ended(&job)
}

fn broken(id: &str, error: &std::io::Error) -> Failure {
    let text =
        format!("the stream of events broke off: {error}; `innkeeper jobs watch {id}` goes on");
    Failure::new(Code::Unreachable, text)
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} steps") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn progress(bar: &ProgressBar, data: &Value) {
    let steps = data["steps"].as_u64().unwrap_or(0);
    bar.set_length(steps.max(1));
    bar.set_position(data["step"].as_u64().unwrap_or(0));
    let left = data["left_ms"].as_u64().unwrap_or(0).div_ceil(1_000);
    let rate = data["rows_per_second"].as_f64().unwrap_or(0.0);
    let loss = data["metrics"]["loss"].as_f64().map(|loss| format!(", loss {loss:.4}"));
    bar.set_message(format!(
        "epoch {} of {}{}, {rate:.0} rows/s, {left} s left",
        data["epoch"],
        data["epochs"],
        loss.unwrap_or_default()
    ));
}

fn epoch(epoch: &Value) -> String {
    let numbers = epoch.as_object().cloned().unwrap_or_default();
    let told = numbers.iter().filter(|(name, _)| *name != "epoch").map(|(name, value)| {
        format!("{} {:.4}", output::one_line(name), value.as_f64().unwrap_or(f64::NAN))
    });
    format!("epoch {}: {}", epoch["epoch"], told.collect::<Vec<_>>().join(", "))
}

/// Epochs that are shown as lines before a curve says more.
const EPOCHS_SHOWN_MAX: usize = 20;

fn epochs(history: &Value) {
    let Some(history) = history.as_array() else { return };
    let skipped = history.len().saturating_sub(EPOCHS_SHOWN_MAX);
    if skipped > 0 {
        output::line(&format!("... {skipped} epochs before"));
    }
    history[skipped..].iter().for_each(|one| output::line(&epoch(one)));
    curves(&Value::from(history.clone()));
}

fn curves(history: &Value) {
    let Some(history) = history.as_array() else { return };
    let mut curves: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for one in history {
        for name in ["loss", "val_loss"] {
            if let Some(value) = one[name].as_f64() {
                curves.entry(name).or_default().push(value);
            }
        }
    }
    if history.len() > 2 {
        output::print(&curve::drawn(&curves));
    }
}

fn ended(job: &Value) -> Result<()> {
    let (id, version) =
        (text(&job["id"]), format!("{}@{}", text(&job["model"]), text(&job["version"])));
    match job["state"].as_str() {
        Some("succeeded") => {
            let result = &job["result"];
            output::line(&format!("{version} is published"));
            if let Some(alias) = result["alias"].as_str() {
                output::line(&format!("the alias {} stands for it", output::one_line(alias)));
            }
            if let Some(why) = result["no_alias"].as_str() {
                output::line(&format!("the alias was not set: {}", output::one_line(why)));
            }
            Ok(())
        }
        Some("failed") => {
            let why = output::one_line(job["error"]["message"].as_str().unwrap_or_default());
            Err(Failure::new(Code::Failed, format!("{id} failed: {why}")).into())
        }
        Some("cancelled") => Err(Failure::new(Code::Failed, format!("{id} was cancelled")).into()),
        Some("paused") => {
            output::line(&format!("it rests; `innkeeper jobs resume {id}` goes on"));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn text(value: &Value) -> String {
    output::one_line(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_json_or_text() {
        let set = ["epochs=20", "layers=64,64", "layers2=[8]", "loss=auto", "flag=true", "x=1.5"];
        let set: Vec<String> = set.iter().map(|&one| one.to_owned()).collect();
        let wanted = json!({
            "epochs": 20, "layers": [64, 64], "layers2": [8], "loss": "auto", "flag": true, "x": 1.5
        });
        assert_eq!(Value::Object(settings(&set).unwrap()), wanted);
        assert!(settings(&["epochs".to_owned()]).is_err());
    }
}
