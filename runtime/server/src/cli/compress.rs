//! `innkeeper compress`: weights in fewer bytes, and what that costs.

mod measure;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use innkeeper_deploy::bundle::Bundle;
use innkeeper_deploy::compress::{self, Calibration, Plan, Report, Target};
use serde::Serialize;
use serde_json::{Value, json};

use super::args::{Compress, Host, Push};
use super::client::Client;
use super::infer::ModelRef;
use super::pull::{self, Origin};
use super::{jobs, models, output, push};
use crate::failure::{Code, Failure};
use measure::{Measured, Share};

/// What is written with `--report`.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: &'a Option<Measured>,
}

pub(super) fn run(host: &Host, args: &Compress) -> Result<()> {
    let plan = Plan::new(args.to, args.group, args.prune, args.low_rank)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let is_file = Path::new(&args.source).is_file();
    let wants_files = !args.calibrate.is_empty() || args.out.is_some() || args.report.is_some();
    match is_file || wants_files {
        true => local(host, args, &plan),
        false => served(host, args, &plan),
    }
}

/// A bundle in a file, or one that is fetched since the data to calibrate by are here.
fn local(host: &Host, args: &Compress, plan: &Plan) -> Result<()> {
    let max_drop = args.max_drop.as_deref().map(Share::parse).transpose()?;
    let Origin { bundle, served } = pull::origin(host, &args.source)?;
    // What came from the server goes back there, unless it was to be a file.
    let publish = args.push || (served.is_some() && args.out.is_none());
    if args.alias.is_some() && !publish {
        return Err(Failure::usage("--alias goes with --push, which publishes the bundle").into());
    }
    let version = version(args, &bundle);
    // Rounding to nearest needs to have seen nothing.
    let calibration = match plan.to {
        Some(Target::Int4) => measure::observe(&bundle, &args.calibrate)?,
        _ => Calibration::default(),
    };
    let spinner = output::spinner(&format!("compressing {}", args.source));
    let made = compress::compress(&bundle, plan, &calibration, &version);
    spinner.finish_and_clear();
    let (small, report) = made.map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    output::print(&table(&json!(report)));
    let measured = match &args.calibrate[..] {
        [] => None,
        files => Some(measure::measure(&bundle, &small, files)?),
    };
    if let Some(measured) = &measured {
        output::print(&measured.table());
    }
    if let Some(path) = &args.report {
        let written = Written { report: &report, measured: &measured };
        let mut text = serde_json::to_vec_pretty(&written)?;
        text.push(b'\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let (Some(measured), Some(max_drop)) = (&measured, max_drop) {
        measured.require(max_drop)?;
    }
    if args.out.is_some() || served.is_none() {
        let name = || format!("{}-{version}.bundle", small.manifest.name).into();
        let out: PathBuf = args.out.clone().unwrap_or_else(name);
        push::write(&small, &out)?;
    }
    if !publish {
        return Ok(());
    }
    let alias = args.alias.iter().cloned().collect();
    let to = Push { model: served, version: Some(version), alias, ..Push::default() };
    push::bundle(host, small, &to)
}

/// A version on a server, by a job there.
fn served(host: &Host, args: &Compress, plan: &Plan) -> Result<()> {
    let client = Client::new(host)?;
    let ModelRef { model, version, .. } = models::own(&args.source)?;
    let mut request = json!(plan);
    let fields = request.as_object_mut().context("a plan is an object")?;
    fields.insert("kind".into(), compress::KIND.into());
    fields.insert("model".into(), model.into());
    if let Some(rank) = fields.remove("rank") {
        fields.insert("low_rank".into(), rank);
    }
    if let Some(share) = fields.get("prune").and_then(Value::as_f64) {
        fields.insert("prune".into(), share.to_string().into());
    }
    fields.extend(version.map(|version| ("version".to_owned(), version.into())));
    let into =
        args.version.as_ref().map(|version| ("into".to_owned(), json!({ "version": version })));
    fields.extend(into);
    fields.extend(args.alias.as_ref().map(|name| ("alias".to_owned(), json!({ "name": name }))));
    let job: Value = client.post("/api/v1/jobs", &request)?;
    let id = job["id"].as_str().unwrap_or_default();
    jobs::watch(&client, id)?;
    let told: Value = client.get(&format!("{}/events", jobs::path(id)))?;
    let events = told["events"].as_array().cloned().unwrap_or_default();
    if let Some(report) = events.iter().find(|event| event["kind"] == "report") {
        output::print(&table(&report["data"]));
    }
    Ok(())
}

/// The name that was said, or the bundle's with what was done behind it.
fn version(args: &Compress, bundle: &Bundle) -> String {
    if let Some(version) = &args.version {
        return version.clone();
    }
    let mut name = bundle.manifest.version.clone().unwrap_or_else(|| "1".into());
    if args.prune.is_some() {
        name += "-pruned";
    }
    if let Some(rank) = args.low_rank {
        name += &format!("-rank{rank}");
    }
    match args.to {
        Some(Target::Int8) => name += "-int8",
        Some(Target::Int4) => name += "-int4",
        Some(Target::Bf16) => name += "-bf16",
        Some(Target::Fp16) => name += "-fp16",
        None => {}
    }
    name
}

/// A report as people read it.
fn table(report: &Value) -> String {
    let text = |value: &Value| output::one_line(value.as_str().unwrap_or_default());
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let costs = |it: &Value| {
        [
            it["bytes_before"].to_string(),
            it["bytes_after"].to_string(),
            format!("{:.4e}", number(&it["half_squared_distance"])),
            format!("{:.3e}", number(&it["relative_error"])),
        ]
    };
    let row = |it: &Value| {
        let shape = it["shape"].as_array().cloned().unwrap_or_default();
        let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let remark = if it["note"].is_null() { &it["remark"] } else { &it["note"] };
        let named = [text(&it["name"]), shape.join("x"), text(&it["method"])];
        named.into_iter().chain(costs(it)).chain([text(remark)]).collect::<Vec<String>>()
    };
    let tensors = report["tensors"].as_array().cloned().unwrap_or_default();
    let mut rows: Vec<Vec<String>> = tensors.iter().map(row).collect();
    let total = &report["total"];
    let all = number(&total["compressed"]) + number(&total["left"]);
    let share = number(&total["bytes_after"]) / number(&total["bytes_before"]);
    let named = ["all files".into(), String::new(), format!("{} of {all}", total["compressed"])];
    let share = [format!("{share:.3} of the bytes")];
    rows.push(named.into_iter().chain(costs(total)).chain(share).collect());
    let head = ["TENSOR", "SHAPE", "METHOD", "BEFORE", "AFTER", "HALF-SQUARES", "RELATIVE", ""];
    output::table(&head, &rows)
}
