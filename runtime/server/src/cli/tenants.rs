//! `tenant`, `key`, `limits` and `usage`.

use anyhow::Result;
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::args::{Host, Key, Limits, Period, Tenant, Usage};
use super::client::{Client, segment};
use super::output;
use crate::clock::now_ms;
use crate::failure::Failure;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub(super) fn tenant(host: &Host, args: Tenant) -> Result<()> {
    let client = Client::new(host)?;
    match args {
        Tenant::Create { name } => {
            client.post::<Value>("/api/v1/tenants", &json!({ "name": name }))?;
            output::line(&format!("tenant {name} is created"));
        }
        Tenant::List { json } => {
            let answer: Value = client.get("/api/v1/tenants")?;
            show(json, &answer, || {
                let names = array(&answer["tenants"]).map(|tenant| text(tenant) + "\n");
                names.collect()
            });
        }
    }
    Ok(())
}

pub(super) fn key(host: &Host, args: Key) -> Result<()> {
    let client = Client::new(host)?;
    match args {
        Key::Create { tenant, scopes, expires_days, label } => {
            let tenant = tenant_or_own(&client, tenant)?;
            let mut wish = json!({ "scopes": scopes, "label": label });
            if let Some(days) = expires_days {
                wish["expires_ms"] = json!(now_ms().saturating_add(i64::from(days) * DAY_MS));
            }
            let made: Value =
                client.post(&format!("/api/v1/tenants/{}/keys", segment(&tenant)), &wish)?;
            // The key alone, so that a script can catch it.
            output::line(&text(&made["key"]));
        }
        Key::List { tenant, json } => {
            let tenant = tenant_or_own(&client, tenant)?;
            let path = format!("/api/v1/tenants/{}/keys", segment(&tenant));
            let answer: Value = client.get(&path)?;
            show(json, &answer, || keys(&answer["keys"]));
        }
        Key::Revoke { id } => {
            client.delete(&format!("/api/v1/keys/{}", segment(&id)))?;
            output::line(&format!("key {id} is revoked"));
        }
    }
    Ok(())
}

fn keys(keys: &Value) -> String {
    let date = |value: &Value| value.as_i64().map_or_else(|| "-".into(), output::time);
    let rows: Vec<Vec<String>> = array(keys)
        .map(|key| {
            let scopes: Vec<String> = array(&key["scopes"]).map(text).collect();
            vec![
                text(&key["id"]),
                scopes.join(","),
                date(&key["created_ms"]),
                date(&key["expires_ms"]),
                date(&key["revoked_ms"]),
                text(&key["label"]),
            ]
        })
        .collect();
    output::table(&["ID", "SCOPES", "CREATED", "EXPIRES", "REVOKED", "LABEL"], &rows)
}

pub(super) fn limits(host: &Host, args: &Limits) -> Result<()> {
    let client = Client::new(host)?;
    let tenant = tenant_or_own(&client, args.tenant.clone())?;
    let path = format!("/api/v1/tenants/{}/limits", segment(&tenant));
    if !args.set.is_empty() || !args.unset.is_empty() {
        let now: Value = client.get(&path)?;
        client.put(&path, &changed(&now["set"], &args.set, &args.unset)?)?;
    }
    let answer: Value = client.get(&path)?;
    show(args.json, &answer, || {
        let own = &answer["set"];
        let meanings = innkeeper_predict::Limits::default();
        let rows: Vec<Vec<String>> = meanings
            .rows()
            .into_iter()
            .map(|(name, _, meaning)| {
                let mark = if own.get(name).is_some() { "own" } else { "" };
                vec![
                    name.to_owned(),
                    text(&answer["limits"][name]),
                    mark.to_owned(),
                    meaning.to_owned(),
                ]
            })
            .collect();
        output::table(&["LIMIT", "VALUE", "", "MEANING"], &rows)
    });
    Ok(())
}

/// The tenant's own limits with some set and some taken away.
fn changed(own: &Value, set: &[String], unset: &[String]) -> Result<Value> {
    let mut own: Map<String, Value> = own.as_object().cloned().unwrap_or_default();
    for text in set {
        let pair =
            text.split_once('=').and_then(|(name, value)| Some((name, value.parse::<u64>().ok()?)));
        let Some((name, value)) = pair else {
            let text = format!("--set {text}: wanted NAME=NUMBER, such as deadline_ms_max=500");
            return Err(Failure::usage(text).into());
        };
        own.insert(name.to_owned(), json!(value));
    }
    for name in unset {
        own.remove(name);
    }
    Ok(Value::Object(own))
}

pub(super) fn usage(host: &Host, args: &Usage) -> Result<()> {
    let client = Client::new(host)?;
    if let Some(by) = args.by {
        return periods(&client, args, by);
    }
    let tenant = tenant_or_own(&client, args.tenant.clone())?;
    let answer: Value = client.get(&format!("/api/v1/tenants/{}/usage", segment(&tenant)))?;
    show(args.json, &answer, || output::table(&["WHAT", "USED", "LIMIT"], &used(&answer)));
    Ok(())
}

/// What was used, period by period.
fn periods(client: &Client, args: &Usage, by: Period) -> Result<()> {
    let by = match by {
        Period::Hour => "hour",
        Period::Day => "day",
        Period::All => "all",
    };
    let mut path = format!("/api/v1/usage?by={by}");
    for (key, value) in [("tenant", &args.tenant), ("from", &args.from), ("to", &args.to)] {
        if let Some(value) = value {
            path += &format!("&{key}={}", segment(value));
        }
    }
    if args.csv {
        path += "&format=csv";
        let answer = client.send(Method::GET, &path, &[], ())?.success()?;
        output::print(&String::from_utf8_lossy(&answer.body).replace("\r\n", "\n"));
        return Ok(());
    }
    let answer: Value = client.get(&path)?;
    show(args.json, &answer, || {
        let columns = ["tenant", "from", "requests", "failures", "compute_us", "device_us"];
        let columns = columns.into_iter().chain(["bytes_in", "bytes_out"]);
        let row = |period: &Value| columns.clone().map(|column| text(&period[column])).collect();
        let rows: Vec<Vec<String>> = array(&answer["usage"]).map(row).collect();
        let head: Vec<String> = columns.clone().map(str::to_uppercase).collect();
        output::table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
    });
    Ok(())
}

/// What is used, each beside the limit of its name.
fn used(answer: &Value) -> Vec<Vec<String>> {
    // That limit is one model's, and this the number of all versions.
    let of_a_model = |name: &str| name == "versions";
    let used = answer["usage"].as_object().into_iter().flatten();
    used.map(|(name, value)| {
        let limit = match of_a_model(name) {
            true => String::new(),
            false => text(&answer["limits"][format!("{name}_max")]),
        };
        vec![name.clone(), text(value), limit]
    })
    .collect()
}

/// The tenant that was named, or the one whose key this is.
fn tenant_or_own(client: &Client, named: Option<String>) -> Result<String> {
    match named {
        Some(tenant) => Ok(tenant),
        None => Ok(text(&client.get::<Value>("/api/v1/whoami")?["tenant"])),
    }
}

/// The answer as it came, or what is made of it for people.
pub(super) fn show(json: bool, answer: &Value, people: impl FnOnce() -> String) {
    output::print(&if json { format!("{answer}\n") } else { people() });
}

pub(super) fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text without its quotes, anything else as JSON has it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_changed_one_by_one() {
        let own = json!({"deadline_ms_max": 5, "handles_max": 7});
        let set = ["deadline_ms_max=9".to_owned(), "versions_max=1".to_owned()];
        let wanted = json!({"deadline_ms_max": 9, "versions_max": 1});
        assert_eq!(changed(&own, &set, &["handles_max".to_owned()]).unwrap(), wanted);
        for wrong in ["deadline_ms_max", "deadline_ms_max=soon", "=", "x=-1"] {
            assert!(changed(&own, &[wrong.to_owned()], &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn use_stands_beside_its_limit() {
        let answer = json!({
            "usage": {"models": 2, "versions": 5, "requests": 9},
            "limits": {"models_max": 10, "versions_max": 3},
        });
        let wanted = [["models", "2", "10"], ["requests", "9", ""], ["versions", "5", ""]];
        assert_eq!(used(&answer), wanted);
    }
}
