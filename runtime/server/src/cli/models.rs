//! `list`, `show`, `delete`, `alias` and `share`.

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{Alias, Delete, Host, List, Share, Show};
use super::client::{Client, segment};
use super::infer::{Metadata, ModelRef};
use super::output;
use super::tenants::{array, show as print, text};
use crate::failure::Failure;

pub(super) fn list(host: &Host, args: &List) -> Result<()> {
    let client = Client::new(host)?;
    let answer: Value = client.get("/api/v1/models")?;
    print(args.json, &answer, || {
        let rows: Vec<Vec<String>> = array(&answer["models"]).map(row).collect();
        output::table(&["MODEL", "VERSIONS", "ALIASES", "SHARED WITH"], &rows)
    });
    Ok(())
}

fn row(model: &Value) -> Vec<String> {
    let versions: Vec<String> =
        array(&model["versions"]).map(|version| text(&version["version"])).collect();
    vec![text(&model["name"]), versions.join(" "), aliases(model), sharing(&model["sharing"])]
}

pub(super) fn show(host: &Host, args: &Show) -> Result<()> {
    let client = Client::new(host)?;
    let model = ModelRef::parse(&args.model);
    if model.owner.is_some() || model.version.is_some() {
        return tensors(&client, &model, args.json);
    }
    let answer: Value = client.get(&format!("/api/v1/models/{}", segment(&model.model)))?;
    print(args.json, &answer, || {
        let rows: Vec<Vec<String>> = array(&answer["versions"]).map(version).collect();
        format!(
            "{}, shared with {}\naliases: {}\n\n{}",
            text(&answer["name"]),
            sharing(&answer["sharing"]),
            aliases(&answer),
            output::table(&["VERSION", "CREATED", "SERVED", "DIGEST"], &rows)
        )
    });
    Ok(())
}

fn version(version: &Value) -> Vec<String> {
    vec![
        text(&version["version"]),
        output::time(version["created_ms"].as_i64().unwrap_or_default()),
        text(&version["served"]),
        text(&version["digest"]),
    ]
}

/// What a version takes and gives.
fn tensors(client: &Client, model: &ModelRef, json: bool) -> Result<()> {
    if json {
        output::line(&client.get::<Value>(&model.path())?.to_string());
        return Ok(());
    }
    let Metadata { inputs, outputs } = client.get(&model.path())?;
    let inputs = inputs.iter().map(|spec| ("input", spec));
    let specs = inputs.chain(outputs.iter().map(|spec| ("output", spec)));
    let rows: Vec<Vec<String>> = specs
        .map(|(kind, spec)| {
            let shape = format!("{:?}", spec.shape);
            vec![kind.to_owned(), spec.name.clone(), spec.datatype.clone(), shape]
        })
        .collect();
    output::print(&output::table(&["", "NAME", "DATATYPE", "SHAPE"], &rows));
    batching(client, model)
}

/// How requests for a version of one's own are put together, if they are.
fn batching(client: &Client, model: &ModelRef) -> Result<()> {
    let (None, Some(version)) = (&model.owner, &model.version) else { return Ok(()) };
    let (name, version) = (segment(&model.model), segment(version));
    let document: Value =
        client.get(&format!("/api/v1/models/{name}/versions/{version}/interface"))?;
    if let Some(batching) = document["x-innkeeper"]["batching"].as_object() {
        let words = batching.iter().map(|(key, value)| format!("{key} {value}"));
        output::print(&format!("batching: {}\n", words.collect::<Vec<_>>().join(", ")));
    }
    Ok(())
}

pub(super) fn delete(host: &Host, args: &Delete) -> Result<()> {
    let client = Client::new(host)?;
    let model = own(&args.model)?;
    let mut path = format!("/api/v1/models/{}", segment(&model.model));
    if let Some(version) = &model.version {
        path += &format!("/versions/{}", segment(version));
    }
    client.delete(&path)?;
    output::line(&format!("{} is deleted", args.model));
    Ok(())
}

pub(super) fn alias(host: &Host, args: Alias) -> Result<()> {
    let client = Client::new(host)?;
    let path = |model: &str, alias: &str| {
        format!("/api/v1/models/{}/aliases/{}", segment(model), segment(alias))
    };
    match args {
        Alias::Set { model, alias, version, force } => {
            let wish = json!({ "version": version, "force": force });
            client.put(&path(&model, &alias), &wish)?;
            output::line(&format!("{model}@{alias} is {version}"));
        }
        Alias::Rollback { model, alias, why } => {
            let now: Value =
                client.post(&(path(&model, &alias) + "/rollback"), &json!({ "why": why }))?;
            output::line(&format!("{model}@{alias} is {} again", text(&now["version"])));
        }
        Alias::History { model, alias, json } => {
            let answer: Value = client.get(&(path(&model, &alias) + "/history"))?;
            print(json, &answer, || {
                let rows: Vec<Vec<String>> = array(&answer["changes"]).map(change).collect();
                output::table(&["WHEN", "WHAT", "VERSION", "BEFORE", "TRIED", "WHY"], &rows)
            });
        }
        Alias::Delete { model, alias } => {
            client.delete(&path(&model, &alias))?;
            output::line(&format!("{model}@{alias} is deleted"));
        }
    }
    Ok(())
}

fn change(change: &Value) -> Vec<String> {
    let mut row = vec![output::time(change["created_ms"].as_i64().unwrap_or_default())];
    let columns = ["act", "version", "before", "candidate", "why"];
    row.extend(columns.map(|column| text(&change[column])));
    row
}

pub(super) fn share(host: &Host, args: &Share) -> Result<()> {
    let client = Client::new(host)?;
    let model = own(&args.model)?;
    let with = match (args.with.all, args.with.nobody) {
        (true, _) => json!("all"),
        (_, true) => json!("nobody"),
        _ => json!(args.with.with),
    };
    let path = format!("/api/v1/models/{}/sharing", segment(&model.model));
    client.put(&path, &json!({ "with": with }))?;
    output::line(&format!("{} is shared with {}", args.model, sharing(&with)));
    Ok(())
}

/// A model of the key's own tenant: only its owner may change it.
pub(super) fn own(name: &str) -> Result<ModelRef> {
    let model = ModelRef::parse(name);
    if let Some(owner) = &model.owner {
        let text = format!(
            "{name} names the owner {owner}; a model is changed by its owner's key, as {}",
            model.model
        );
        return Err(Failure::usage(text).into());
    }
    Ok(model)
}

fn aliases(model: &Value) -> String {
    let pairs = model["aliases"].as_object().into_iter().flatten();
    let pairs = pairs.map(|(alias, version)| {
        let tried = &model["rollouts"][alias];
        match tried["candidate"].as_str() {
            Some(candidate) => format!(
                "{alias}={} ({candidate}: {} %)",
                text(version),
                text(&tried["canary_percent"])
            ),
            None => format!("{alias}={}", text(version)),
        }
    });
    pairs.collect::<Vec<_>>().join(" ")
}

fn sharing(with: &Value) -> String {
    match with {
        Value::Array(tenants) => tenants.iter().map(text).collect::<Vec<_>>().join(", "),
        other => text(other),
    }
}
