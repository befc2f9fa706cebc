//! The whole API as an OpenAPI 3.1 document. A test holds its operations against the routes, another in `tests/it` what the
//! server answers against it.
//!
//! Operations are rows of a table; schemas and parameters are data, in files beside it.

mod operation;
mod operations;

use innkeeper_predict::Limits;
use innkeeper_tensor::DType;
use serde_json::{Map, Value, json};

use self::operation::{Carries, Operation};
use self::operations::{OWN, SHARED};
use crate::GatewayConfig;
use crate::error::Style;
use crate::reply::{self, Reply};
use crate::route::style;

/// What every operation that wants a key may answer.
const FAILS_ANYWHERE: [u16; 5] = [401, 403, 431, 500, 503];
/// What one may answer that wants none.
const FAILS_OPEN: [u16; 1] = [431];

/// `GET /api/v1/openapi.json`
pub(crate) fn document(config: &GatewayConfig) -> Reply {
    reply::json(&value(config))
}

fn value(config: &GatewayConfig) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": config.name,
            "version": config.version,
            "description": "Models as sandboxed guests, served over the Open Inference Protocol, TensorFlow Serving's and OpenAI's \
                REST, and managed. A model of another tenant's that is shared has /t/OWNER in front of its path. Errors have the \
                form of the protocol they belong to. A query may only have the keys that are listed.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "parameters": read(include_str!("openapi/parameters.json")),
            "schemas": schemas(),
        },
    })
}

fn paths() -> Map<String, Value> {
    let mut paths: Map<String, Value> = Map::new();
    let mut add = |path: &str, row: &Operation| {
        let at = paths.entry(path).or_insert_with(|| json!({"parameters": names(path)}));
        at[row.method] = operation(path, row);
    };
    for row in SHARED {
        add(row.path, row);
        add(&format!("/t/{{owner}}{}", row.path), row);
        if let Some(path) = with_version(row.path) {
            add(&path, row);
        }
    }
    OWN.iter().for_each(|row| add(row.path, row));
    paths
}

/// The path that names a version or an alias, where one can be named.
fn with_version(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/v2/models/{model}")?;
    Some(format!("/v2/models/{{model}}/versions/{{version}}{rest}"))
}

/// What the path itself names.
fn names(path: &str) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let parameter = |name| {
        let schema = match name {
            "owner" | "tenant" => of_schema("TenantName"),
            "model" | "version" | "alias" | "dataset" => of_schema("Name"),
            "digest" => of_schema("Digest"),
            "upload" => json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
            // What the server made up.
            _ => json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}),
        };
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    };
    names.map(parameter).collect()
}

fn operation(path: &str, row: &Operation) -> Value {
    let plain = |part: &str| part.replace(['{', '}', '.'], "").replace([':', '-'], "_");
    let parts = path.split('/').filter(|part| !part.is_empty()).map(plain);
    let id = parts.fold(row.method.to_owned(), |id, part| format!("{id}_{part}"));
    let mut operation =
        json!({"operationId": id, "summary": row.summary, "responses": responses(path, row)});
    if let Some(content) = content(row.takes) {
        operation["requestBody"] = json!({"content": content, "required": row.needs_body});
    }
    if !row.parameters.is_empty() {
        let reference = |name| json!({"$ref": format!("#/components/parameters/{name}")});
        operation["parameters"] = row.parameters.iter().map(reference).collect();
    }
    if is_open(path) {
        operation["security"] = json!([]);
    }
    operation
}

fn is_open(path: &str) -> bool {
    matches!(path, "/v2/health/live" | "/v2/health/ready")
}

fn responses(path: &str, row: &Operation) -> Map<String, Value> {
    let error = content(Carries::Json(match style(path) {
        Style::Protocol => "ProtocolError",
        Style::OpenAi => "OpenAiError",
        Style::Manage => "Error",
    }));
    let anywhere: &[u16] = if is_open(path) { &FAILS_OPEN } else { &FAILS_ANYWHERE };
    let mut responses = Map::new();
    for status in anywhere.iter().chain(row.fails) {
        responses.insert(status.to_string(), response(meaning(*status), error.clone()));
    }
    for status in row.also.iter().chain([&row.status]) {
        responses.insert(status.to_string(), response(row.summary, content(row.gives)));
    }
    responses
}

fn response(description: &str, content: Option<Value>) -> Value {
    match content {
        Some(content) => json!({"description": description, "content": content}),
        None => json!({"description": description}),
    }
}

/// What the status of an error says.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be read; the text names what was wanted.",
        401 => "There is no valid key.",
        403 => "The key does not allow it.",
        404 => "There is nothing of this name for this caller.",
        408 => "The body came too slowly.",
        409 => "It does not go together with what is there.",
        413 => "The body is too large.",
        415 => "The body is of a type or a coding that is not taken.",
        422 => "It was read, and does not fit or is refused.",
        429 => "Too much at once; see Retry-After.",
        431 => "There are too many headers.",
        500 => "The model or the server failed.",
        501 => "This is not served.",
        503 => "The server is busy; see Retry-After.",
        504 => "There was no answer in time.",
        507 => "A limit of the tenant's, or the disk, is full.",
        _ => "It failed.",
    }
}

fn content(carries: Carries) -> Option<Value> {
    let of = |schema| json!({"schema": of_schema(schema)});
    match carries {
        Carries::Nothing => None,
        Carries::Json(schema) => Some(json!({"application/json": of(schema)})),
        Carries::Either(schema, kind) => Some(json!({"application/json": of(schema), kind: {}})),
        Carries::Other(kind) => Some(json!({kind: {}})),
        Carries::Form(schema) => Some(json!({"multipart/form-data": of(schema)})),
    }
}

fn of_schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schemas: those that are written down, and those that follow from what is elsewhere.
fn schemas() -> Value {
    let mut schemas = read(include_str!("openapi/schemas.json"));
    schemas["Datatype"] = json!({"enum": DType::ALL.map(|dtype| dtype.name())});
    let limits = Limits::default().rows();
    let named = |kind: Value| -> Map<String, Value> {
        let named = |(name, _, meaning): &(&'static str, u64, &'static str)| {
            let schema =
                json!({"type": kind, "minimum": 0, "maximum": u64::MAX, "description": meaning});
            ((*name).to_owned(), schema)
        };
        limits.iter().map(named).collect()
    };
    let names: Vec<&str> = limits.iter().map(|(name, ..)| *name).collect();
    schemas["Limits"] =
        json!({"type": "object", "required": names, "properties": named("integer".into())});
    schemas["LimitsWish"] = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": named(json!(["integer", "null"])),
    });
    schemas
}

/// A file of this folder.
fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("a file of ours, which a test reads")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hyper::Method;

    use super::*;
    use crate::route::resolve;

    /// The routes that the document's operations lead to, by name.
    fn documented() -> BTreeSet<String> {
        let value = value(&GatewayConfig::default());
        let mut names = BTreeSet::new();
        for (path, operations) in value["paths"].as_object().unwrap() {
            let filled: String = path.replace(['{', '}'], "");
            for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters")
            {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let route = resolve(&method, &filled).map(|route| format!("{route:?}"));
                let route = route.unwrap_or_else(|_| panic!("{method} {path} is no route"));
                names.insert(route.split([' ', '(', '{']).next().unwrap().to_owned());
            }
        }
        names
    }

    /// Every variant of `Route`, read from its source: what is added there must be added here.
    #[test]
    fn every_route_is_in_the_document() {
        let source = include_str!("route.rs");
        let body = source.split("pub(crate) enum Route<'a> {").nth(1).unwrap();
        let body = body.split("\n}").next().unwrap();
        let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let routes: BTreeSet<String> = lines
            .filter(|line| line.starts_with(char::is_uppercase))
            .map(|line| line.split([' ', '(', ',', '{']).next().unwrap().to_owned())
            .collect();
        let documented = documented();
        let missing: Vec<_> = routes.difference(&documented).collect();
        assert!(missing.is_empty(), "add a row to SHARED or OWN in openapi.rs for {missing:?}");
        assert!(routes.len() > 60);
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let value = value(&GatewayConfig::default());
        let mut ids = BTreeSet::new();
        for operations in value["paths"].as_object().unwrap().values() {
            for (_, operation) in
                operations.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters")
            {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} twice");
            }
        }
    }

    /// A schema or a parameter that a reference names is there, and what is there is named.
    #[test]
    fn references_lead_somewhere() {
        let value = value(&GatewayConfig::default());
        let text = value.to_string();
        let mut named = BTreeSet::new();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(value.pointer(pointer).is_some(), "{pointer} is not there");
            named.insert(pointer.to_owned());
        }
        for kind in ["schemas", "parameters"] {
            for name in value["components"][kind].as_object().unwrap().keys() {
                let pointer = format!("/components/{kind}/{name}");
                assert!(named.contains(&pointer), "nothing refers to {pointer}");
            }
        }
    }

    /// No status of an error is without its meaning.
    #[test]
    fn every_status_says_what_it_means() {
        for row in SHARED.iter().chain(OWN) {
            for status in row.fails.iter().chain(&FAILS_ANYWHERE) {
                assert_ne!(meaning(*status), meaning(0), "{status} of {}", row.path);
            }
        }
    }
}
