//! The walk itself, step by step.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::http::Request;
use ureq::http::request::Builder;

/// Pushes a plugin that can be trained, trains it on a CSV file, compresses what came of it, and asks both.
pub(crate) fn walk(innkeeper: &Client, plugin: &[u8], csv: &[u8]) -> Result<()> {
    // A bundle is immutable: the same one again is a success that changes nothing.
    innkeeper.post("/api/v1/models/mlp/versions/1", "application/x-tar", plugin)?;
    let data = innkeeper.post("/api/v1/datasets/iris?format=csv", "text/csv", csv)?;
    println!("dataset iris: {} rows, {} columns", data["rows"], length(&data["columns"]));

    let trained = innkeeper.job(&json!({
        "kind": "train",
        "model": "mlp",
        "dataset": "iris",
        "hyperparameters": { "target": "species", "layers": [64, 64], "epochs": 40 },
        "seed": 7,
        "into": { "model": "iris" },
        "alias": { "name": "stable", "metric": "val_accuracy", "at_least": 0.85 },
    }))?;
    let accuracy = &trained["result"]["metrics"]["val_accuracy"];
    println!(
        "trained iris@{}: val_accuracy {accuracy}",
        trained["result"]["version"].as_str().unwrap_or_default()
    );

    let compressed = innkeeper.job(&json!({
        "kind": "compress",
        "model": "iris",
        "version": "stable",
        "to": "int8",
        "alias": { "name": "small" },
    }))?;
    println!("compressed: {}", compressed["result"]);

    for alias in ["stable", "small"] {
        let answer = innkeeper.infer("iris", alias, &[5.1, 3.5, 1.4, 0.2])?;
        println!("iris@{alias} says {}", answer["outputs"][0]["data"]);
    }
    Ok(())
}

fn length(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// A caller of one server.
pub(crate) struct Client {
    url: String,
    key: Option<String>,
    agent: ureq::Agent,
}

impl Client {
    /// `key` may be none for a server that was started with `--dev`.
    pub(crate) fn new(url: String, key: Option<String>) -> Client {
        // So that an error's text can be read, whatever its status.
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        Client { url, key, agent: config.into() }
    }

    /// Asks the Open Inference Protocol for one row's answer.
    fn infer(&self, model: &str, alias: &str, row: &[f32]) -> Result<Value> {
        let path = format!("/v2/models/{model}/versions/{alias}/infer");
        let input =
            json!({ "name": "INPUT0", "datatype": "FP32", "shape": [1, row.len()], "data": row });
        self.post_json(&path, &json!({ "inputs": [input] }))
    }

    /// Begins a job and waits until it has ended.
    fn job(&self, request: &Value) -> Result<Value> {
        let mut job = self.post_json("/api/v1/jobs", request)?;
        let id = job["id"].as_str().context("a job has no id")?.to_owned();
        while matches!(job["state"].as_str(), Some("queued" | "running")) {
            sleep(Duration::from_millis(100));
            job = self.send(Request::get(self.url.clone() + "/api/v1/jobs/" + &id), b"")?;
        }
        match job["state"].as_str() {
            Some("succeeded") => Ok(job),
            _ => bail!("job {id} did not end well: {job}"),
        }
    }

    fn post_json(&self, path: &str, body: &Value) -> Result<Value> {
        self.post(path, "application/json", body.to_string().as_bytes())
    }

    fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Value> {
        let request = Request::post(self.url.clone() + path).header("content-type", content_type);
        self.send(request, body)
    }

    fn send(&self, mut request: Builder, body: &[u8]) -> Result<Value> {
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(body)?;
        let asked = format!("{} {}", request.method(), request.uri());
        let mut answer = self.agent.run(request).context(asked.clone())?;
        let text = answer.body_mut().read_to_string()?;
        if !answer.status().is_success() {
            bail!("{asked}: {} {text}", answer.status());
        }
        serde_json::from_str(&text).with_context(|| format!("{asked}: the answer is no JSON"))
    }
}
