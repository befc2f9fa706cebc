//! The whole API as an OpenAPI 3.1 document. A test holds it against the routes.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::GatewayConfig;
use crate::reply::{self, Reply};

/// What a request or an answer carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    Nothing,
    /// JSON of this schema.
    Json(&'static str),
    /// Anything else, of this type.
    Other(&'static str),
}

use Carries::{Json, Nothing, Other};

/// One operation: method, path, summary, the body that it takes, the status and the body of a success.
struct Row(Method, &'static str, &'static str, Carries, u16, Carries);

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

/// Any JSON object; what is in it says the summary's subject.
const ANY: Carries = Json("Object");
const TAR: &str = "application/x-tar";
const OCTETS: &str = "application/octet-stream";

/// What has a base path `/t/{owner}` in front too: a model of somebody else's that is shared.
const SHARED: [Row; 24] = [
    Row(GET, "/v2", "The server and its extensions", Nothing, 200, ANY),
    Row(GET, "/v2/health/live", "Whether the server runs", Nothing, 200, ANY),
    Row(GET, "/v2/health/ready", "Whether it takes predictions", Nothing, 200, ANY),
    Row(GET, "/v2/models", "The models that the caller may see", Nothing, 200, ANY),
    Row(GET, "/v2/models/{model}", "A model's tensors and versions", Nothing, 200, ANY),
    Row(GET, "/v2/models/{model}/ready", "Whether a model is served", Nothing, 200, ANY),
    Row(GET, "/v2/models/{model}/config", "A model's configuration", Nothing, 200, ANY),
    Row(GET, "/v2/models/{model}/stats", "A model's statistics", Nothing, 200, ANY),
    Row(GET, "/v2/models/stats", "All models' statistics", Nothing, 200, ANY),
    Row(GET, "/v2/models/{model}/trace/setting", "Tracing, which is off", Nothing, 200, ANY),
    Row(POST, "/v2/models/{model}/trace/setting", "Leaves tracing off", ANY, 200, ANY),
    Row(POST, "/v2/models/{model}/infer", "One prediction", Json("Infer"), 200, ANY),
    Row(POST, "/v2/models/{model}/generate", "Text from text", Json("Generate"), 200, ANY),
    Row(
        POST,
        "/v2/models/{model}/generate_stream",
        "Text from text, as events",
        Json("Generate"),
        200,
        Other("text/event-stream"),
    ),
    Row(POST, "/v2/repository/index", "All versions and their states", ANY, 200, Json("Array")),
    Row(POST, "/v2/repository/models/{model}/load", "Loads a model", Json("Load"), 200, ANY),
    Row(POST, "/v2/repository/models/{model}/unload", "Unloads a model", ANY, 200, ANY),
    Row(GET, "/v1/models", "The models, as OpenAI lists them", Nothing, 200, ANY),
    Row(GET, "/v1/models/{model}", "A model, as OpenAI and others have it", Nothing, 200, ANY),
    Row(GET, "/v1/models/{model}/versions/{version}", "A version's state", Nothing, 200, ANY),
    Row(GET, "/v1/models/{model}/metadata", "A model's signature", Nothing, 200, ANY),
    Row(POST, "/v1/models/{model}:predict", "One prediction", Json("Predict"), 200, ANY),
    Row(POST, "/v1/embeddings", "Embeddings of texts", Json("Embeddings"), 200, ANY),
    Row(
        GET,
        "/api/v1/models/{model}/versions/{version}/interface",
        "A version's own OpenAPI document",
        Nothing,
        200,
        ANY,
    ),
];

/// What is the caller's own.
const OWN: [Row; 69] = [
    Row(GET, "/v2/logging", "What is kept of models' messages", Nothing, 200, ANY),
    Row(POST, "/v2/logging", "Says what is kept of models' messages", Json("Logging"), 200, ANY),
    Row(GET, "/v2/trace/setting", "Tracing, which is off", Nothing, 200, ANY),
    Row(POST, "/v2/trace/setting", "Leaves tracing off", ANY, 200, ANY),
    Row(GET, "/v2/systemsharedmemory/status", "Refused: there is none", Nothing, 501, ANY),
    Row(GET, "/metrics", "For Prometheus", Nothing, 200, Other("text/plain")),
    Row(GET, "/api/v1/openapi.json", "This document", Nothing, 200, ANY),
    Row(GET, "/api/v1/models", "The tenant's models", Nothing, 200, ANY),
    Row(GET, "/api/v1/models/{model}", "A model", Nothing, 200, ANY),
    Row(DELETE, "/api/v1/models/{model}", "Deletes a model", Nothing, 204, Nothing),
    Row(
        POST,
        "/api/v1/models/{model}/versions/{version}",
        "Publishes a version: a bundle, or a bare component as application/wasm",
        Other(TAR),
        201,
        ANY,
    ),
    Row(GET, "/api/v1/models/{model}/versions/{version}", "A version", Nothing, 200, ANY),
    Row(
        DELETE,
        "/api/v1/models/{model}/versions/{version}",
        "Deletes a version",
        Nothing,
        204,
        Nothing,
    ),
    Row(
        GET,
        "/api/v1/models/{model}/versions/{version}/bundle",
        "A version's bundle, as it was published",
        Nothing,
        200,
        Other(TAR),
    ),
    Row(
        GET,
        "/api/v1/models/{model}/versions/{version}/hyperparameters",
        "What a version can be trained with",
        Nothing,
        200,
        ANY,
    ),
    Row(GET, "/api/v1/models/{model}/aliases/{alias}", "An alias", Nothing, 200, ANY),
    Row(PUT, "/api/v1/models/{model}/aliases/{alias}", "Moves an alias", Json("Alias"), 200, ANY),
    Row(
        DELETE,
        "/api/v1/models/{model}/aliases/{alias}",
        "Deletes an alias",
        Nothing,
        204,
        Nothing,
    ),
    Row(
        GET,
        "/api/v1/models/{model}/aliases/{alias}/history",
        "What an alias stood for",
        Nothing,
        200,
        ANY,
    ),
    Row(GET, "/api/v1/models/{model}/aliases/{alias}/rollout", "A rollout", Nothing, 200, ANY),
    Row(
        PUT,
        "/api/v1/models/{model}/aliases/{alias}/rollout",
        "Begins or changes a rollout",
        Json("Rollout"),
        200,
        ANY,
    ),
    Row(
        POST,
        "/api/v1/models/{model}/aliases/{alias}/promote",
        "Ends a rollout with its candidate",
        ANY,
        200,
        ANY,
    ),
    Row(
        POST,
        "/api/v1/models/{model}/aliases/{alias}/rollback",
        "Ends a rollout without its candidate, or moves an alias back",
        ANY,
        200,
        ANY,
    ),
    Row(GET, "/api/v1/models/{model}/policy", "Which versions are kept", Nothing, 200, ANY),
    Row(PUT, "/api/v1/models/{model}/policy", "Says which versions are kept", ANY, 200, ANY),
    Row(GET, "/api/v1/models/{model}/sharing", "Whom a model is shared with", Nothing, 200, ANY),
    Row(PUT, "/api/v1/models/{model}/sharing", "Shares a model", Json("Sharing"), 200, ANY),
    Row(GET, "/api/v1/models/{model}/logs", "A model's messages", Nothing, 200, ANY),
    Row(POST, "/api/v1/uploads", "Begins an upload", Nothing, 201, ANY),
    Row(GET, "/api/v1/uploads/{upload}", "How far an upload is", Nothing, 200, ANY),
    Row(Method::PATCH, "/api/v1/uploads/{upload}", "Appends to an upload", Other(OCTETS), 200, ANY),
    Row(PUT, "/api/v1/uploads/{upload}", "Ends an upload", Nothing, 201, ANY),
    Row(DELETE, "/api/v1/uploads/{upload}", "Gives an upload up", Nothing, 204, Nothing),
    Row(GET, "/api/v1/blobs/{digest}", "Whether the host has a blob", Nothing, 200, ANY),
    Row(GET, "/api/v1/audit", "The audit log", Nothing, 200, ANY),
    Row(GET, "/api/v1/usage", "Usage by hour or day", Nothing, 200, ANY),
    Row(GET, "/api/v1/tenants/{tenant}/usage", "What a tenant uses", Nothing, 200, ANY),
    Row(GET, "/api/v1/tenants/{tenant}/limits", "A tenant's limits", Nothing, 200, ANY),
    Row(PUT, "/api/v1/tenants/{tenant}/limits", "Sets a tenant's limits", ANY, 200, ANY),
    Row(GET, "/api/v1/tenants", "All tenants", Nothing, 200, ANY),
    Row(POST, "/api/v1/tenants", "Makes a tenant", Json("Tenant"), 201, ANY),
    Row(GET, "/api/v1/tenants/{tenant}/keys", "A tenant's keys", Nothing, 200, ANY),
    Row(POST, "/api/v1/tenants/{tenant}/keys", "Makes a key", Json("Key"), 201, ANY),
    Row(DELETE, "/api/v1/keys/{id}", "Revokes a key", Nothing, 204, Nothing),
    Row(GET, "/api/v1/whoami", "Whose key this is", Nothing, 200, ANY),
    Row(GET, "/v1/files", "Datasets, as OpenAI lists files", Nothing, 200, ANY),
    Row(POST, "/v1/files", "Makes a dataset of a file", Other("multipart/form-data"), 200, ANY),
    Row(GET, "/v1/files/{file}", "A dataset, as OpenAI has it", Nothing, 200, ANY),
    Row(GET, "/v1/files/{file}/content", "A job's numbers", Nothing, 200, Other("text/csv")),
    Row(DELETE, "/v1/files/{file}", "Deletes a dataset", Nothing, 200, ANY),
    Row(GET, "/v1/fine_tuning/jobs", "Jobs, as OpenAI lists them", Nothing, 200, ANY),
    Row(POST, "/v1/fine_tuning/jobs", "Submits a training job", ANY, 200, ANY),
    Row(GET, "/v1/fine_tuning/jobs/{job}", "A job, as OpenAI has it", Nothing, 200, ANY),
    Row(GET, "/v1/fine_tuning/jobs/{job}/events", "What happened in a job", Nothing, 200, ANY),
    Row(GET, "/v1/fine_tuning/jobs/{job}/checkpoints", "A job's epochs", Nothing, 200, ANY),
    Row(POST, "/v1/fine_tuning/jobs/{job}/pause", "Rests a job", Nothing, 200, ANY),
    Row(POST, "/v1/fine_tuning/jobs/{job}/resume", "Goes on with a job", Nothing, 200, ANY),
    Row(POST, "/v1/fine_tuning/jobs/{job}/cancel", "Ends a job", Nothing, 200, ANY),
    Row(GET, "/api/v1/datasets", "The tenant's datasets", Nothing, 200, ANY),
    Row(GET, "/api/v1/datasets/{dataset}", "A dataset", Nothing, 200, ANY),
    Row(POST, "/api/v1/datasets/{dataset}", "Makes a dataset", ANY, 201, ANY),
    Row(DELETE, "/api/v1/datasets/{dataset}", "Deletes a dataset", Nothing, 204, Nothing),
    Row(GET, "/api/v1/jobs", "The tenant's jobs", Nothing, 200, ANY),
    Row(POST, "/api/v1/jobs", "Submits a job", ANY, 201, ANY),
    Row(GET, "/api/v1/jobs/{job}", "A job", Nothing, 200, ANY),
    Row(POST, "/api/v1/jobs/{job}/pause", "Rests a job", Nothing, 202, ANY),
    Row(POST, "/api/v1/jobs/{job}/resume", "Goes on with a job", Nothing, 202, ANY),
    Row(POST, "/api/v1/jobs/{job}/cancel", "Ends a job", Nothing, 202, ANY),
    Row(GET, "/api/v1/jobs/{job}/events", "What happened in a job", Nothing, 200, ANY),
];

/// `GET /api/v1/openapi.json`
pub(crate) fn document(config: &GatewayConfig) -> Reply {
    reply::json(&value(config))
}

fn value(config: &GatewayConfig) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut add = |path: &str, row: &Row| {
        let at = paths.entry(path).or_insert_with(|| json!({"parameters": parameters(path)}));
        at[row.0.as_str().to_lowercase()] = operation(path, row);
    };
    for row in &SHARED {
        add(row.1, row);
        add(&format!("/t/{{owner}}{}", row.1), row);
        if let Some(path) = with_version(row.1) {
            add(&path, row);
        }
    }
    OWN.iter().for_each(|row| add(row.1, row));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": config.name,
            "version": config.version,
            "description": "Models as sandboxed guests, served over the Open Inference Protocol, TensorFlow Serving's and OpenAI's \
                REST, and managed. A model of another tenant's that is shared has /t/OWNER in front of its path. Errors have the \
                form of the protocol they belong to.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    })
}

/// The path that names a version or an alias, where one can be named.
fn with_version(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/v2/models/{model}")?;
    Some(format!("/v2/models/{{model}}/versions/{{version}}{rest}"))
}

fn parameters(path: &str) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let parameter = |name| {
        let schema = json!({"type": "string", "minLength": 1});
        json!({"name": name, "in": "path", "required": true, "schema": schema, "example": name})
    };
    names.map(parameter).collect()
}

fn operation(path: &str, row: &Row) -> Value {
    let Row(method, _, summary, takes, status, gives) = row;
    let plain = |part: &str| part.replace(['{', '}', '.'], "").replace([':', '-'], "_");
    let parts = path.split('/').filter(|part| !part.is_empty()).map(plain);
    let id = parts.fold(method.as_str().to_lowercase(), |id, part| format!("{id}_{part}"));
    let mut responses = json!({
        "default": {
            "description": "What went wrong.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        },
    });
    responses[status.to_string()] = match content(*gives) {
        Some(content) => json!({"description": summary, "content": content}),
        None => json!({"description": summary}),
    };
    let mut operation = json!({"operationId": id, "summary": summary, "responses": responses});
    if let Some(content) = content(*takes) {
        operation["requestBody"] = json!({"content": content, "required": *takes != ANY});
    }
    if matches!(path, "/v2/health/live" | "/v2/health/ready") {
        operation["security"] = json!([]);
    }
    operation
}

fn content(carries: Carries) -> Option<Value> {
    match carries {
        Nothing => None,
        Json(name) => {
            let schema = json!({"$ref": format!("#/components/schemas/{name}")});
            Some(json!({"application/json": {"schema": schema}}))
        }
        Other(kind) => Some(json!({kind: {}})),
    }
}

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let flag = || json!({"type": "boolean"});
    let whole = || json!({"type": "integer", "minimum": 0});
    json!({
        "Object": {"type": "object"},
        "Array": {"type": "array"},
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": ["string", "object"]}},
        },
        "Infer": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": text(),
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": text(), "parameters": {"type": "object"}},
                    },
                },
            },
        },
        "Tensor": {
            "type": "object",
            "required": ["name", "datatype", "shape"],
            "properties": {
                "name": text(),
                "datatype": {"enum": innkeeper_tensor::DType::ALL.map(|dtype| dtype.name())},
                "shape": {"type": "array", "items": whole()},
                "data": {"type": "array"},
                "parameters": {"type": "object"},
            },
        },
        "Generate": {
            "type": "object",
            "properties": {"id": text(), "text_input": text(), "parameters": {"type": "object"}},
        },
        "Predict": {
            "type": "object",
            "properties": {"signature_name": text(), "instances": {"type": "array"}, "inputs": {}},
        },
        "Embeddings": {
            "type": "object",
            "required": ["model", "input"],
            "properties": {
                "model": text(),
                "input": {"anyOf": [text(), {"type": "array", "items": text()}]},
                "encoding_format": {"enum": ["float", "base64"]},
            },
        },
        "Load": {"type": "object", "properties": {"parameters": {"type": "object"}}},
        "Logging": {
            "type": "object",
            "properties": {
                "log_info": flag(),
                "log_warning": flag(),
                "log_error": flag(),
                "log_verbose_level": whole(),
            },
        },
        "Alias": {
            "type": "object",
            "required": ["version"],
            "properties": {"version": text(), "force": flag()},
        },
        "Rollout": {"type": "object"},
        "Sharing": {
            "type": "object",
            "required": ["with"],
            "properties": {"with": {"anyOf": [{"const": "all"}, {"type": "array", "items": text()}]}},
        },
        "Tenant": {"type": "object", "required": ["name"], "properties": {"name": text()}},
        "Key": {
            "type": "object",
            "required": ["scopes"],
            "properties": {
                "scopes": {"type": "array", "items": {"enum": ["predict", "publish", "admin"]}},
                "label": text(),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
}
