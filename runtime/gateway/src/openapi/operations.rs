//! Every operation, in the order of the document.

use super::operation::Carries::{Either, Form, Json, Nothing, Other};
use super::operation::{Operation, delete, get, patch, post, put};

const TAR: &str = "application/x-tar";
const OCTETS: &str = "application/octet-stream";
const EVENTS: &str = "text/event-stream";
const CSV: &str = "text/csv";
const TEXT: &str = "text/plain";

/// What an operation may answer beside a success, for those that do the like.
mod fails {
    /// Something that is named is looked at.
    pub(super) const NAMED: &[u16] = &[404];
    /// A query is read, in which nothing unknown may stand.
    pub(super) const ASKED: &[u16] = &[400];
    /// Both.
    pub(super) const FOUND: &[u16] = &[400, 404];
    /// Something that is named is changed.
    pub(super) const CHANGED: &[u16] = &[400, 404, 409];
    /// A small body is read.
    pub(super) const TOLD: &[u16] = &[400, 404, 408, 409, 413];
    /// A small body of the protocol's extensions is read.
    pub(super) const SETTINGS: &[u16] = &[400, 404, 408, 413, 415];
    /// A model runs.
    pub(super) const PREDICTION: &[u16] = &[400, 404, 408, 413, 415, 422, 429, 504, 507];
    /// A version or a dataset is made.
    pub(super) const MADE: &[u16] = &[400, 404, 408, 409, 413, 415, 422, 429, 507];
    /// A job is asked for.
    pub(super) const SUBMITTED: &[u16] = &[400, 404, 408, 409, 413, 422, 429, 507];
}

/// What has a base path `/t/{owner}` in front too: a model of somebody else's that is shared.
pub(super) const SHARED: &[Operation] = &[
    get("/v2", "The server and its extensions", "Server"),
    get("/v2/health/live", "Whether the server runs", "Live"),
    get("/v2/health/ready", "Whether it takes predictions", "Ready").also(&[503]),
    get("/v2/models", "The models that the caller may see", "ModelNames"),
    get("/v2/models/{model}", "A model's tensors and versions", "Metadata").fails(fails::NAMED),
    get("/v2/models/{model}/ready", "Whether a model is served", "ModelReady").fails(fails::NAMED),
    get("/v2/models/{model}/config", "A model's configuration", "ModelConfig").fails(fails::NAMED),
    get("/v2/models/{model}/stats", "A model's statistics", "Statistics").fails(fails::NAMED),
    get("/v2/models/stats", "All models' statistics", "Statistics"),
    get("/v2/models/{model}/trace/setting", "Tracing as Triton has it, which is off", "Trace")
        .fails(fails::NAMED),
    post("/v2/models/{model}/trace/setting", "Leaves it off", Json("TraceWish"), "Trace")
        .at_will()
        .fails(&[400, 404, 408, 413, 415, 501]),
    post("/v2/models/{model}/infer", "One prediction", Either("Infer", OCTETS), "Inferred")
        // A raw body of no rows is empty.
        .at_will()
        .gives(Either("Inferred", OCTETS))
        .with(&["inference-header-content-length", "x-innkeeper-sticky"])
        .fails(fails::PREDICTION),
    post("/v2/models/{model}/generate", "Text from text", Json("Generate"), "Generated")
        .with(&["x-innkeeper-sticky"])
        .fails(fails::PREDICTION),
    post("/v2/models/{model}/generate_stream", "Text from text, as events", Json("Generate"), "")
        .gives(Other(EVENTS))
        .with(&["x-innkeeper-sticky"])
        .fails(fails::PREDICTION),
    post("/v2/repository/index", "All versions and their states", Json("IndexWish"), "Index")
        .at_will()
        .fails(fails::SETTINGS),
    post("/v2/repository/models/{model}/load", "Loads a model", Json("Load"), "Loaded")
        .at_will()
        .fails(&[400, 404, 408, 409, 413, 415, 422, 429, 504, 507]),
    post("/v2/repository/models/{model}/unload", "Unloads a model", Json("Unload"), "Unloaded")
        .at_will()
        .fails(fails::SETTINGS),
    get("/v1/models", "The models, as OpenAI lists them", "OpenAiModels"),
    get("/v1/models/{model}", "A model, as OpenAI and others have it", "OpenAiModel")
        .fails(fails::NAMED),
    get("/v1/models/{model}/versions/{version}", "A version's state", "VersionStatus")
        .fails(fails::NAMED),
    get("/v1/models/{model}/labels/{alias}", "The state of an alias's version", "VersionStatus")
        .fails(fails::NAMED),
    get("/v1/models/{model}/metadata", "A model's signature", "SignatureDef").fails(fails::NAMED),
    get("/v1/models/{model}/versions/{version}/metadata", "A version's signature", "SignatureDef")
        .fails(fails::NAMED),
    get("/v1/models/{model}/labels/{alias}/metadata", "The same by an alias", "SignatureDef")
        .fails(fails::NAMED),
    post("/v1/models/{model}:predict", "One prediction", Json("Predict"), "Predicted")
        .with(&["x-innkeeper-sticky"])
        .fails(fails::PREDICTION),
    post(
        "/v1/models/{model}/versions/{version}:predict",
        "One prediction by a version",
        Json("Predict"),
        "Predicted",
    )
    .fails(fails::PREDICTION),
    post(
        "/v1/models/{model}/labels/{alias}:predict",
        "One prediction by an alias's version",
        Json("Predict"),
        "Predicted",
    )
    .with(&["x-innkeeper-sticky"])
    .fails(fails::PREDICTION),
    post("/v1/embeddings", "Embeddings of texts", Json("Embeddings"), "Embedded")
        .fails(fails::PREDICTION),
    get(
        "/api/v1/models/{model}/versions/{version}/interface",
        "A version's own OpenAPI document",
        "OpenApi",
    )
    .fails(fails::NAMED),
];

/// What is the caller's own.
pub(super) const OWN: &[Operation] = &[
    get("/v2/logging", "What is kept of models' messages", "Logging"),
    post("/v2/logging", "Says what is kept of them", Json("LoggingWish"), "Logging")
        .at_will()
        .fails(fails::SETTINGS),
    get("/v2/trace/setting", "Tracing as Triton has it, which is off", "Trace"),
    post("/v2/trace/setting", "Leaves it off", Json("TraceWish"), "Trace")
        .at_will()
        .fails(&[400, 408, 413, 415, 501]),
    get("/v2/systemsharedmemory/status", "Refused: there is none", "ProtocolError").status(501),
    get("/metrics", "For Prometheus", "").gives(Other(TEXT)),
    get("/api/v1/openapi.json", "This document", "OpenApi"),
    get("/api/v1/models", "The tenant's models", "Models"),
    get("/api/v1/models/{model}", "A model", "Model").fails(fails::FOUND),
    delete("/api/v1/models/{model}", "Deletes a model").fails(fails::CHANGED),
    post(
        "/api/v1/models/{model}/versions/{version}",
        "Publishes a version: a bundle, or a bare component as application/wasm",
        Other(TAR),
        "Published",
    )
    .status(201)
    .also(&[200])
    .with(&["alias", "force"])
    .fails(fails::MADE),
    get("/api/v1/models/{model}/versions/{version}", "A version", "Version").fails(fails::FOUND),
    delete("/api/v1/models/{model}/versions/{version}", "Deletes a version").fails(fails::CHANGED),
    get(
        "/api/v1/models/{model}/versions/{version}/bundle",
        "A version's bundle, as it was published",
        "Version",
    )
    .gives(Other(TAR))
    .fails(fails::FOUND),
    get(
        "/api/v1/models/{model}/versions/{version}/hyperparameters",
        "What a version can be trained with",
        "Hyperparameters",
    )
    .fails(&[400, 404, 422, 429, 504, 507]),
    get("/api/v1/models/{model}/aliases/{alias}", "An alias", "Alias").fails(fails::FOUND),
    put("/api/v1/models/{model}/aliases/{alias}", "Moves an alias", Json("AliasWish"), "Alias")
        .fails(fails::TOLD),
    delete("/api/v1/models/{model}/aliases/{alias}", "Deletes an alias").fails(fails::CHANGED),
    get(
        "/api/v1/models/{model}/aliases/{alias}/history",
        "What an alias stood for",
        "AliasHistory",
    )
    .with(&["max"])
    .fails(fails::FOUND),
    get("/api/v1/models/{model}/aliases/{alias}/rollout", "A rollout", "Rollout")
        .fails(fails::FOUND),
    put(
        "/api/v1/models/{model}/aliases/{alias}/rollout",
        "Begins or changes a rollout",
        Json("RolloutWish"),
        "Rollout",
    )
    .fails(fails::TOLD),
    post(
        "/api/v1/models/{model}/aliases/{alias}/promote",
        "Ends a rollout with its candidate",
        Nothing,
        "Stands",
    )
    .fails(fails::CHANGED),
    post(
        "/api/v1/models/{model}/aliases/{alias}/rollback",
        "Ends a rollout without its candidate, or moves an alias back",
        Json("Reason"),
        "Stands",
    )
    .at_will()
    .fails(fails::TOLD),
    get("/api/v1/models/{model}/policy", "Which versions are kept", "Policy").fails(fails::FOUND),
    put(
        "/api/v1/models/{model}/policy",
        "Says which versions are kept",
        Json("Policy"),
        "PolicySet",
    )
    .fails(fails::TOLD),
    get("/api/v1/models/{model}/sharing", "Whom a model is shared with", "Sharing")
        .fails(fails::FOUND),
    put("/api/v1/models/{model}/sharing", "Shares a model", Json("Sharing"), "Sharing")
        .fails(fails::TOLD),
    get("/api/v1/models/{model}/logs", "A model's messages", "Logs")
        .with(&["since", "lines-max"])
        .fails(fails::FOUND),
    post("/api/v1/uploads", "Begins an upload", Nothing, "Upload")
        .status(201)
        .fails(&[400, 404, 429, 507]),
    get("/api/v1/uploads/{upload}", "How far an upload is", "Upload").fails(fails::FOUND),
    patch("/api/v1/uploads/{upload}", "Appends to an upload", Other(OCTETS), "Upload")
        .at_will()
        .with(&["upload-offset"])
        .fails(&[400, 404, 408, 409, 413, 507]),
    put("/api/v1/uploads/{upload}", "Ends an upload", Nothing, "Blob")
        .status(201)
        .with(&["digest"])
        .fails(&[400, 404, 409, 422, 507]),
    delete("/api/v1/uploads/{upload}", "Gives an upload up").fails(fails::CHANGED),
    get("/api/v1/blobs/{digest}", "Whether the host has a blob", "Blob").fails(fails::FOUND),
    get("/api/v1/activity", "What models do, counted since the server began", "Activity")
        .fails(fails::ASKED),
    get("/api/v1/audit", "The audit log, the newest entries first", "Audit")
        .with(&["tenant", "before", "max"])
        .fails(fails::FOUND),
    get("/api/v1/usage", "Usage by hour or day", "")
        .gives(Either("UsagePeriods", CSV))
        .with(&["from", "to", "by", "tenant", "format"])
        .fails(fails::FOUND),
    get("/api/v1/tenants/{tenant}/usage", "What a tenant uses", "TenantUsage").fails(fails::FOUND),
    get("/api/v1/tenants/{tenant}/limits", "A tenant's limits", "TenantLimits").fails(fails::FOUND),
    put(
        "/api/v1/tenants/{tenant}/limits",
        "Sets a tenant's limits: those that are left out are the host's",
        Json("LimitsWish"),
        "TenantLimits",
    )
    .fails(fails::TOLD),
    get("/api/v1/tenants", "All tenants", "Tenants").fails(fails::ASKED),
    post("/api/v1/tenants", "Makes a tenant", Json("Tenant"), "Tenant")
        .status(201)
        .fails(&[400, 408, 409, 413]),
    get("/api/v1/tenants/{tenant}/keys", "A tenant's keys", "Keys").fails(fails::FOUND),
    post("/api/v1/tenants/{tenant}/keys", "Makes a key", Json("KeyWish"), "Key")
        .status(201)
        .fails(fails::TOLD),
    delete("/api/v1/keys/{id}", "Revokes a key").fails(fails::FOUND),
    get("/api/v1/whoami", "Whose key this is", "WhoAmI"),
    get("/v1/files", "Datasets, as OpenAI lists files", "Files")
        .with(&["after", "limit", "order", "purpose"])
        .fails(fails::ASKED),
    post("/v1/files", "Makes a dataset of a file", Form("FileForm"), "File").fails(fails::MADE),
    get("/v1/files/{file}", "A dataset, as OpenAI has it", "File").fails(fails::FOUND),
    get("/v1/files/{file}/content", "The numbers of a job's epochs", "")
        .gives(Other(CSV))
        .fails(&[400, 404, 501]),
    delete("/v1/files/{file}", "Deletes a dataset")
        .status(200)
        .gives(Json("FileDeleted"))
        .fails(fails::CHANGED),
    get("/v1/fine_tuning/jobs", "Training jobs, as OpenAI lists them", "FineTunings")
        .with(&["after", "limit"])
        .fails(fails::FOUND),
    post("/v1/fine_tuning/jobs", "Submits a training job", Json("FineTuningWish"), "FineTuning")
        .fails(fails::SUBMITTED),
    get("/v1/fine_tuning/jobs/{job}", "A job, as OpenAI has it", "FineTuning").fails(fails::NAMED),
    get("/v1/fine_tuning/jobs/{job}/events", "What happened in a job", "FineTuningEvents")
        .with(&["after", "limit"])
        .fails(fails::FOUND),
    get("/v1/fine_tuning/jobs/{job}/checkpoints", "A job's epochs", "FineTuningCheckpoints")
        .with(&["after", "limit"])
        .fails(fails::FOUND),
    post("/v1/fine_tuning/jobs/{job}/pause", "Rests a job", Nothing, "FineTuning")
        .fails(fails::CHANGED),
    post("/v1/fine_tuning/jobs/{job}/resume", "Goes on with a job", Nothing, "FineTuning")
        .fails(fails::CHANGED),
    post("/v1/fine_tuning/jobs/{job}/cancel", "Ends a job", Nothing, "FineTuning")
        .fails(fails::CHANGED),
    get("/api/v1/datasets", "The tenant's datasets", "Datasets").fails(fails::ASKED),
    get("/api/v1/datasets/{dataset}", "A dataset", "Dataset").fails(fails::FOUND),
    post("/api/v1/datasets/{dataset}", "Makes a dataset of a file", Other(OCTETS), "Dataset")
        .status(201)
        .also(&[200])
        .with(&["dataset-format", "header", "delimiter", "column"])
        .fails(fails::MADE),
    delete("/api/v1/datasets/{dataset}", "Deletes a dataset").fails(fails::CHANGED),
    get("/api/v1/jobs", "The tenant's jobs, the newest first", "Jobs")
        .with(&["before", "max"])
        .fails(fails::ASKED),
    post("/api/v1/jobs", "Submits a job", Json("JobWish"), "Job")
        .status(201)
        .fails(fails::SUBMITTED),
    get("/api/v1/jobs/{job}", "A job", "Job").fails(fails::FOUND),
    post("/api/v1/jobs/{job}/pause", "Rests a job", Nothing, "Job")
        .status(202)
        .fails(fails::CHANGED),
    post("/api/v1/jobs/{job}/resume", "Goes on with a job", Nothing, "Job")
        .status(202)
        .fails(fails::CHANGED),
    post("/api/v1/jobs/{job}/cancel", "Ends a job", Nothing, "Job")
        .status(202)
        .fails(fails::CHANGED),
    get("/api/v1/jobs/{job}/events", "What happened in a job, also as it happens", "JobEvents")
        .gives(Either("JobEvents", EVENTS))
        .with(&["after-sequence"])
        .fails(fails::FOUND),
];
