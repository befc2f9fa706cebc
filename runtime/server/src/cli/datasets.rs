//! `innkeeper dataset`: data to learn from.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use ureq::SendBody;
use ureq::http::Method;

use super::args::{Dataset, DatasetPush, Host};
use super::client::{Client, segment};
use super::output;
use crate::failure::Failure;

pub(super) fn run(host: &Host, args: Dataset) -> Result<()> {
    let client = Client::new(host)?;
    match args {
        Dataset::Push(args) => {
            let name = push(&client, &args)?;
            show(&client, &name, false)
        }
        Dataset::List { json } => list(&client, json),
        Dataset::Show { name, json } => show(&client, &name, json),
        Dataset::Delete { name } => {
            client.delete(&format!("/api/v1/datasets/{}", segment(&name)))?;
            output::line(&format!("{name} is deleted"));
            Ok(())
        }
    }
}

/// Sends a file, and answers the dataset's name.
pub(super) fn push(client: &Client, args: &DatasetPush) -> Result<String> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => stem(&args.file)?,
    };
    let format = match &args.format {
        Some(format) => format.clone(),
        None => format_of(&args.file)?.to_owned(),
    };
    let mut query = format!("format={}", segment(&format));
    if args.no_header {
        query += "&header=false";
    }
    if let Some(delimiter) = args.delimiter {
        query += &format!("&delimiter={}", segment(&delimiter.to_string()));
    }
    for column in &args.column {
        query += &format!("&column={}", segment(column));
    }
    let mut file =
        File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let bytes = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let spinner = output::spinner(&format!("sending {}, {}", name, output::size(bytes)));
    let path = format!("/api/v1/datasets/{}?{query}", segment(&name));
    let length = bytes.to_string();
    let headers =
        [("content-type", "application/octet-stream"), ("content-length", length.as_str())];
    let answer = client.send(Method::POST, &path, &headers, SendBody::from_reader(&mut file));
    spinner.finish_and_clear();
    answer?.success()?;
    Ok(name)
}

/// The name of a file without what it ends in, as a name that a dataset may have.
fn stem(file: &Path) -> Result<String> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let good = |char: char| if char.is_ascii_alphanumeric() { char } else { '-' };
    let name: String = stem.chars().map(good).collect();
    match name.trim_matches('-') {
        "" => Err(Failure::usage("say the dataset's name by --name").into()),
        name => Ok(name.to_owned()),
    }
}

fn format_of(file: &Path) -> Result<&'static str> {
    let end = file.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
    let known = ["csv", "npy", "npz", "parquet", "jsonl"];
    match end.as_deref() {
        Some("ndjson") => Ok("jsonl"),
        Some(end) if known.contains(&end) => {
            Ok(known.into_iter().find(|known| *known == end).unwrap_or("csv"))
        }
        _ => {
            let text = format!(
                "{} does not say its format; say --format csv, npy, npz, parquet or jsonl",
                file.display()
            );
            Err(Failure::usage(text).into())
        }
    }
}

fn list(client: &Client, json: bool) -> Result<()> {
    let answer: Value = client.get("/api/v1/datasets")?;
    if json {
        output::line(&answer.to_string());
        return Ok(());
    }
    let row = |dataset: &Value| {
        vec![
            output::one_line(dataset["name"].as_str().unwrap_or_default()),
            dataset["rows"].to_string(),
            dataset["columns_total"].to_string(),
            output::size(dataset["bytes"].as_u64().unwrap_or(0)),
            output::time(dataset["created_ms"].as_i64().unwrap_or(0)),
        ]
    };
    let rows: Vec<Vec<String>> =
        answer["datasets"].as_array().map(|all| all.iter().map(row).collect()).unwrap_or_default();
    output::print(&output::table(&["NAME", "ROWS", "COLUMNS", "SIZE", "MADE"], &rows));
    Ok(())
}

/// Columns that are shown of a wide table.
const SHOWN_MAX: usize = 30;

fn show(client: &Client, name: &str, json: bool) -> Result<()> {
    let answer: Value = client.get(&format!("/api/v1/datasets/{}", segment(name)))?;
    if json {
        output::line(&answer.to_string());
        return Ok(());
    }
    let columns = answer["columns"].as_array().cloned().unwrap_or_default();
    let row = |column: &Value| {
        let number = |i: usize| {
            column["statistics"][i].as_f64().map(|value| format!("{value:.4}")).unwrap_or_default()
        };
        let shape = column["shape"].to_string();
        vec![
            output::one_line(column["name"].as_str().unwrap_or_default()),
            column["datatype"].as_str().unwrap_or_default().to_owned(),
            if shape == "[]" { String::new() } else { shape },
            number(0),
            number(1),
            number(2),
            number(3),
            classes(&column["categories"]),
        ]
    };
    let rows: Vec<Vec<String>> = columns.iter().take(SHOWN_MAX).map(row).collect();
    let (count, bytes) = (&answer["rows"], answer["bytes"].as_u64().unwrap_or(0));
    output::line(&format!("{name}: {count} rows, {} as kept\n", output::size(bytes)));
    let head = ["COLUMN", "DATATYPE", "SHAPE", "MIN", "MAX", "MEAN", "DEVIATION", "CLASSES"];
    output::print(&output::table(&head, &rows));
    if columns.len() > SHOWN_MAX {
        output::line(&format!("... and {} more", columns.len() - SHOWN_MAX));
    }
    Ok(())
}

fn classes(categories: &Value) -> String {
    let Some(all) = categories.as_array() else { return String::new() };
    let shown: Vec<&str> = all.iter().take(5).filter_map(Value::as_str).collect();
    let more = if all.len() > 5 { format!(", ... ({})", all.len()) } else { String::new() };
    output::one_line(&format!("{}{more}", shown.join(", ")))
}
