//! `innkeeper policy`: which versions are served and kept.

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{Host, Policy};
use super::client::{Client, segment};
use super::tenants::{array, show, text};

pub(super) fn run(host: &Host, args: &Policy) -> Result<()> {
    let client = Client::new(host)?;
    let path = format!("/api/v1/models/{}/policy", segment(&args.model));
    let mut policy: Value = client.get(&path)?;
    if let Some(wish) = wish(args, &policy) {
        client.put(&path, &wish)?;
        policy = client.get(&path)?;
    }
    show(args.json, &policy, || readable(&policy));
    Ok(())
}

/// The policy with what is asked for put in its place; none where nothing is.
fn wish(args: &Policy, present: &Value) -> Option<Value> {
    let serve = match (args.all, args.latest, &args.versions[..]) {
        (true, ..) => Some(json!("all")),
        (_, Some(count), _) => Some(json!({ "latest": count })),
        (.., []) => None,
        (.., versions) => Some(json!({ "versions": versions })),
    };
    let keep = match (args.keep_all, args.keep) {
        (true, _) => Some(Value::Null),
        (false, keep) => keep.map(|keep| json!(keep)),
    };
    if serve.is_none() && keep.is_none() {
        return None;
    }
    let serve = serve.unwrap_or_else(|| present["serve"].clone());
    let keep = keep.unwrap_or_else(|| present["keep"].clone());
    Some(json!({ "serve": serve, "keep": keep }))
}

fn readable(policy: &Value) -> String {
    let serve = &policy["serve"];
    let served = match (serve["latest"].as_u64(), &serve["versions"]) {
        (Some(count), _) => format!("the latest {count}"),
        (_, Value::Array(_)) => {
            let versions: Vec<String> = array(&serve["versions"]).map(text).collect();
            format!("the versions {}", versions.join(" "))
        }
        _ => "all versions".into(),
    };
    let kept = match policy["keep"].as_u64() {
        Some(count) => format!("the latest {count}"),
        None => "all versions".into(),
    };
    format!(
        "serves {served}, and what aliases stand for\nkeeps {kept}, and what aliases stand for\n"
    )
}
