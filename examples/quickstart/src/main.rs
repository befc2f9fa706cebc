//! From a CSV file to a compressed endpoint, over HTTP.
//!
//! ```text
//! innkeeper serve --dev                                   # in one terminal
//! innkeeper build plugins/mlp                             # in another
//! cargo run --release -p quickstart
//! ```
//!
//! `INNKEEPER_URL` and `INNKEEPER_KEY` say where the server is, and who calls.

mod walk;

use std::env::var;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let url = var("INNKEEPER_URL").unwrap_or_else(|_| "http://127.0.0.1:8000".into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let bundle = std::fs::read(format!("{root}/plugins/mlp/mlp.bundle")).context(
        "plugins/mlp/mlp.bundle is not there; make it with `innkeeper build plugins/mlp`",
    )?;
    let csv = include_bytes!("../iris.csv");
    walk::walk(&walk::Client::new(url, var("INNKEEPER_KEY").ok()), &bundle, csv)
}
