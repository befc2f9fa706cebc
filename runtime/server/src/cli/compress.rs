//! `innkeeper compress`: a bundle's weights in fewer bytes, and what that costs.

mod measure;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use innkeeper_deploy::bundle::Bundle;
use innkeeper_deploy::compress::{self, Plan, Report, Target, TensorReport};
use serde::Serialize;

use super::args::{Compress, Host, Push};
use super::{build, output, push};
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
    let max_drop = args.max_drop.as_deref().map(Share::parse).transpose()?;
    let bundle = push::read(&args.bundle)?;
    let version = version(args, &bundle);
    let spinner = output::spinner(&format!("compressing {}", args.bundle.display()));
    let made = compress::compress(&bundle, &plan, &version);
    spinner.finish_and_clear();
    let (small, report) = made.map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    output::print(&table(&report));
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
    let out = match &args.out {
        Some(path) => path.clone(),
        None => format!("{}-{version}.bundle", small.manifest.name).into(),
    };
    write(&small, &out)?;
    let bytes = fs::metadata(&out).map_or(0, |file| file.len());
    output::line(&format!("{} ({}, {})", out.display(), output::size(bytes), small.digest()));
    if !args.push {
        return Ok(());
    }
    let (alias, force) = (args.alias.clone(), false);
    push::run(host, &Push { bundle: out, model: None, version: Some(version), alias, force })
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

fn table(report: &Report) -> String {
    let row = |it: &TensorReport| {
        let shape: Vec<String> = it.shape.iter().map(ToString::to_string).collect();
        let remark = it.note.as_ref().or(it.remark.as_ref());
        vec![
            output::one_line(&it.name),
            shape.join("x"),
            it.method.clone(),
            it.bytes_before.to_string(),
            it.bytes_after.to_string(),
            format!("{:.4e}", it.half_squared_distance),
            format!("{:.3e}", it.relative_error),
            remark.map(|text| output::one_line(text)).unwrap_or_default(),
        ]
    };
    let mut rows: Vec<Vec<String>> = report.tensors.iter().map(row).collect();
    let total = &report.total;
    rows.push(vec![
        "all files".into(),
        String::new(),
        format!("{} of {}", total.compressed, total.compressed + total.left),
        total.bytes_before.to_string(),
        total.bytes_after.to_string(),
        format!("{:.4e}", total.half_squared_distance),
        format!("{:.3e}", total.relative_error),
        format!("{:.3} of the bytes", total.bytes_after as f64 / total.bytes_before.max(1) as f64),
    ]);
    let head = ["TENSOR", "SHAPE", "METHOD", "BEFORE", "AFTER", "HALF-SQUARES", "RELATIVE", ""];
    output::table(&head, &rows)
}

/// Writes the bundle beside its place and moves it there, so that a half one is never found.
fn write(bundle: &Bundle, out: &Path) -> Result<()> {
    let doing = || format!("cannot write {}", out.display());
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let partial = tempfile::Builder::new().permissions(build::readable()).tempfile_in(folder);
    let mut partial = partial.with_context(doing)?;
    partial.write_all(&bundle.to_bytes()).with_context(doing)?;
    partial.persist(out).with_context(doing)?;
    Ok(())
}
