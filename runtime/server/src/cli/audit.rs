//! `innkeeper audit`: who changed what.

use anyhow::Result;
use serde_json::Value;

use super::args::{Audit, Host};
use super::client::{Client, segment};
use super::output;
use super::tenants::{array, text};

/// Entries that are fetched at once.
const PAGE: usize = 1_000;

pub(super) fn run(host: &Host, args: &Audit) -> Result<()> {
    let client = Client::new(host)?;
    let tenant = args.tenant.as_ref().map(|tenant| format!("&tenant={}", segment(tenant)));
    let tenant = tenant.unwrap_or_default();
    let mut rows = Vec::new();
    let mut before = String::new();
    while rows.len() < args.max {
        let max = (args.max - rows.len()).min(PAGE);
        let answer: Value = client.get(&format!("/api/v1/audit?max={max}{before}{tenant}"))?;
        for entry in array(&answer["entries"]) {
            if args.json {
                output::line(&entry.to_string());
            }
            rows.push(row(entry));
        }
        let Some(next) = answer["next"].as_i64() else { break };
        before = format!("&before={next}");
    }
    if !args.json {
        let head = ["WHEN", "TENANT", "BY", "KEY", "WHAT", "TO", "OUTCOME"];
        output::print(&output::table(&head, &rows));
    }
    Ok(())
}

fn row(entry: &Value) -> Vec<String> {
    let mut row = vec![output::time(entry["began_ms"].as_i64().unwrap_or_default())];
    let columns = ["tenant", "actor", "key_id", "act", "target", "outcome"];
    row.extend(columns.map(|column| output::one_line(&text(&entry[column]))));
    row
}
