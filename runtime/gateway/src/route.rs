//! Which handler a method and a path lead to.

use hyper::Method;

use crate::error::{Failure, Style};
use crate::manage::Act;

/// The most segments of any path here.
const SEGMENTS_MAX: usize = 12;

/// A model as a path names it. The names are not checked yet: one that no model can have is found nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The namespace; the caller's own without it.
    pub(crate) owner: Option<&'a str>,
    /// The model.
    pub(crate) model: &'a str,
    /// A version or an alias.
    pub(crate) slot: Option<&'a str>,
}

/// Where a request leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Live { owner: Option<&'a str> },
    Ready { owner: Option<&'a str> },
    Server,
    Models { owner: Option<&'a str> },
    Model(Target<'a>),
    ModelReady(Target<'a>),
    ModelConfig(Target<'a>),
    ModelStats(Target<'a>),
    AllStats { owner: Option<&'a str> },
    Logging,
    SetLogging,
    Trace,
    SetTrace,
    ModelTrace(Target<'a>),
    SetModelTrace(Target<'a>),
    SharedMemory,
    Index { owner: Option<&'a str> },
    Load { owner: Option<&'a str>, model: &'a str },
    Unload { owner: Option<&'a str>, model: &'a str },
    Infer(Target<'a>),
    Metrics,
    V1Models { owner: Option<&'a str> },
    V1Model(Target<'a>),
    V1Status(Target<'a>),
    V1Metadata(Target<'a>),
    V1Predict(Target<'a>),
    Embeddings { owner: Option<&'a str> },
    Generate(Target<'a>),
    GenerateStream(Target<'a>),
    Interface(Target<'a>),
    ListOwn,
    ShowOwn { model: &'a str },
    DeleteOwn { model: &'a str },
    Publish { model: &'a str, version: &'a str },
    ShowVersion { model: &'a str, version: &'a str },
    Bundle { model: &'a str, slot: &'a str },
    DeleteVersion { model: &'a str, version: &'a str },
    ShowAlias { model: &'a str, alias: &'a str },
    SetAlias { model: &'a str, alias: &'a str },
    DeleteAlias { model: &'a str, alias: &'a str },
    AliasHistory { model: &'a str, alias: &'a str },
    ShowRollout { model: &'a str, alias: &'a str },
    SetRollout { model: &'a str, alias: &'a str },
    Promote { model: &'a str, alias: &'a str },
    RollBack { model: &'a str, alias: &'a str },
    ShowPolicy { model: &'a str },
    SetPolicy { model: &'a str },
    ShowSharing { model: &'a str },
    SetSharing { model: &'a str },
    Logs { model: &'a str },
    BeginUpload,
    UploadOffset { upload: &'a str },
    Append { upload: &'a str },
    FinishUpload { upload: &'a str },
    CancelUpload { upload: &'a str },
    Blob { digest: &'a str },
    Activity,
    Audit,
    UsagePeriods,
    Usage { tenant: &'a str },
    ShowLimits { tenant: &'a str },
    SetLimits { tenant: &'a str },
    Tenants,
    CreateTenant,
    Keys { tenant: &'a str },
    CreateKey { tenant: &'a str },
    RevokeKey { id: &'a str },
    WhoAmI,
    OpenApi,
    Datasets,
    ShowDataset { dataset: &'a str },
    CreateDataset { dataset: &'a str },
    DeleteDataset { dataset: &'a str },
    Jobs,
    SubmitJob,
    ShowJob { job: &'a str },
    TellJob { job: &'a str, act: Act },
    JobEvents { job: &'a str },
    Hyperparameters { model: &'a str, slot: &'a str },
    Files,
    CreateFile,
    ShowFile { file: &'a str },
    FileContent { file: &'a str },
    DeleteFile { file: &'a str },
    FineTunings,
    CreateFineTuning,
    ShowFineTuning { job: &'a str },
    TellFineTuning { job: &'a str, act: Act },
    FineTuningEvents { job: &'a str },
    FineTuningCheckpoints { job: &'a str },
}

impl Route<'_> {
    /// What it is called in traces, whatever the path names.
    pub(crate) fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '(']).next().unwrap_or_default().to_owned()
    }

    /// Whether the route is open to everybody: liveness and readiness, and nothing else.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Route::Live { owner: None } | Route::Ready { owner: None })
    }
}

/// The form of errors under a path.
pub(crate) fn style(path: &str) -> Style {
    let rest = match path.strip_prefix("/t/") {
        Some(rest) => rest.find('/').map_or("", |slash| &rest[slash..]),
        None => path,
    };
    if rest == "/v2" || rest.starts_with("/v2/") || is_tensorflow_servings(rest) {
        Style::Protocol
    } else if rest == "/v1" || rest.starts_with("/v1/") {
        Style::OpenAi
    } else {
        Style::Manage
    }
}

/// Whether a path is one that OpenAI does not have.
fn is_tensorflow_servings(path: &str) -> bool {
    path.strip_prefix("/v1/models/").is_some_and(|rest| rest.contains([':', '/']))
}

/// The route.
///
/// # Errors
/// 404 for a path that leads nowhere and 405 for a method that it does not take.
pub(crate) fn resolve<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, Failure> {
    let mut segments = [""; SEGMENTS_MAX];
    let mut count = 0;
    for segment in path.strip_prefix('/').ok_or_else(Failure::no_route)?.split('/') {
        *segments.get_mut(count).ok_or_else(Failure::no_route)? = segment;
        count += 1;
    }
    match &segments[..count] {
        ["v2", rest @ ..] => protocol(method, None, rest),
        ["t", owner, "v2", rest @ ..] => protocol(method, Some(owner), rest),
        ["v1", rest @ ..] => version_one(method, None, rest),
        ["t", owner, "v1", rest @ ..] => version_one(method, Some(owner), rest),
        ["metrics"] => pick(method, [(Method::GET, Route::Metrics)]),
        ["t", owner, "api", "v1", "models", model, "versions", slot, "interface"] => {
            let target = Target { owner: Some(owner), model, slot: Some(slot) };
            pick(method, [(Method::GET, Route::Interface(target))])
        }
        ["api", "v1", "models", rest @ ..] => models(method, rest),
        ["api", "v1", rest @ ..] => manage(method, rest),
        _ => Err(Failure::no_route()),
    }
}

fn protocol<'a>(
    method: &Method,
    owner: Option<&'a str>,
    rest: &[&'a str],
) -> Result<Route<'a>, Failure> {
    let target = |model, slot| Target { owner, model, slot };
    let (target, rest) = match rest {
        [] => return pick(method, [(Method::GET, Route::Server)]),
        ["health", "live"] => return pick(method, [(Method::GET, Route::Live { owner })]),
        ["health", "ready"] => return pick(method, [(Method::GET, Route::Ready { owner })]),
        ["models"] => return pick(method, [(Method::GET, Route::Models { owner })]),
        ["logging"] => {
            return pick(
                method,
                [(Method::GET, Route::Logging), (Method::POST, Route::SetLogging)],
            );
        }
        ["trace", "setting"] => {
            return pick(method, [(Method::GET, Route::Trace), (Method::POST, Route::SetTrace)]);
        }
        ["systemsharedmemory" | "cudasharedmemory", ..] => return Ok(Route::SharedMemory),
        ["repository", rest @ ..] => return repository(method, owner, rest),
        ["models", "stats"] => return pick(method, [(Method::GET, Route::AllStats { owner })]),
        ["models", model, "versions", slot, rest @ ..] => (target(model, Some(slot)), rest),
        ["models", model, rest @ ..] => (target(model, None), rest),
        _ => return Err(Failure::no_route()),
    };
    match rest {
        [] => pick(method, [(Method::GET, Route::Model(target))]),
        ["ready"] => pick(method, [(Method::GET, Route::ModelReady(target))]),
        ["config"] => pick(method, [(Method::GET, Route::ModelConfig(target))]),
        ["stats"] => pick(method, [(Method::GET, Route::ModelStats(target))]),
        ["trace", "setting"] => pick(
            method,
            [
                (Method::GET, Route::ModelTrace(target)),
                (Method::POST, Route::SetModelTrace(target)),
            ],
        ),
        ["generate"] => pick(method, [(Method::POST, Route::Generate(target))]),
        ["generate_stream"] => pick(method, [(Method::POST, Route::GenerateStream(target))]),
        ["infer"] => pick(method, [(Method::POST, Route::Infer(target))]),
        _ => Err(Failure::no_route()),
    }
}

/// OpenAI's paths, and those of TensorFlow Serving and KServe V1.
fn version_one<'a>(
    method: &Method,
    owner: Option<&'a str>,
    rest: &[&'a str],
) -> Result<Route<'a>, Failure> {
    const GET: Method = Method::GET;
    let (model, slot, rest) = match rest {
        ["embeddings"] => return pick(method, [(Method::POST, Route::Embeddings { owner })]),
        ["files", rest @ ..] if owner.is_none() => return files(method, rest),
        ["fine_tuning", "jobs", rest @ ..] if owner.is_none() => return fine_tuning(method, rest),
        ["models"] => return pick(method, [(GET, Route::V1Models { owner })]),
        ["models", model, "versions" | "labels", slot, rest @ ..] => (*model, Some(*slot), rest),
        ["models", model, rest @ ..] => (*model, None, rest),
        _ => return Err(Failure::no_route()),
    };
    // The verb is behind the last name of the path.
    let last = slot.unwrap_or(model);
    match (last.split_once(':'), rest) {
        (Some((name, "predict")), []) => {
            let (model, slot) = slot.map_or((name, None), |_| (model, Some(name)));
            pick(method, [(Method::POST, Route::V1Predict(Target { owner, model, slot }))])
        }
        (Some((_, "classify" | "regress")), []) => Err(Failure::unsupported(
            "only :predict is served; classify and regress take tf.Example, which models here do not read",
        )),
        (None, []) if slot.is_none() => {
            pick(method, [(GET, Route::V1Model(Target { owner, model, slot }))])
        }
        (None, []) => pick(method, [(GET, Route::V1Status(Target { owner, model, slot }))]),
        (None, ["metadata"]) => {
            pick(method, [(GET, Route::V1Metadata(Target { owner, model, slot }))])
        }
        _ => Err(Failure::no_route()),
    }
}

/// OpenAI's files.
fn files<'a>(method: &Method, rest: &[&'a str]) -> Result<Route<'a>, Failure> {
    match rest {
        [] => pick(method, [(Method::GET, Route::Files), (Method::POST, Route::CreateFile)]),
        [file] => pick(
            method,
            [(Method::GET, Route::ShowFile { file }), (Method::DELETE, Route::DeleteFile { file })],
        ),
        [file, "content"] => pick(method, [(Method::GET, Route::FileContent { file })]),
        _ => Err(Failure::no_route()),
    }
}

/// OpenAI's view of jobs.
fn fine_tuning<'a>(method: &Method, rest: &[&'a str]) -> Result<Route<'a>, Failure> {
    const GET: Method = Method::GET;
    let tell = |job, act| pick(method, [(Method::POST, Route::TellFineTuning { job, act })]);
    match *rest {
        [] => pick(method, [(GET, Route::FineTunings), (Method::POST, Route::CreateFineTuning)]),
        [job] => pick(method, [(GET, Route::ShowFineTuning { job })]),
        [job, "events"] => pick(method, [(GET, Route::FineTuningEvents { job })]),
        [job, "checkpoints"] => pick(method, [(GET, Route::FineTuningCheckpoints { job })]),
        [job, "cancel"] => tell(job, Act::Cancel),
        [job, "pause"] => tell(job, Act::Pause),
        [job, "resume"] => tell(job, Act::Resume),
        _ => Err(Failure::no_route()),
    }
}

fn repository<'a>(
    method: &Method,
    owner: Option<&'a str>,
    rest: &[&'a str],
) -> Result<Route<'a>, Failure> {
    const POST: Method = Method::POST;
    match rest {
        ["index"] => pick(method, [(POST, Route::Index { owner })]),
        ["models", model, "load"] => pick(method, [(POST, Route::Load { owner, model })]),
        ["models", model, "unload"] => pick(method, [(POST, Route::Unload { owner, model })]),
        _ => Err(Failure::no_route()),
    }
}

fn models<'a>(method: &Method, rest: &[&'a str]) -> Result<Route<'a>, Failure> {
    const GET: Method = Method::GET;
    const PUT: Method = Method::PUT;
    const DELETE: Method = Method::DELETE;
    match rest {
        [] => pick(method, [(GET, Route::ListOwn)]),
        [model] => {
            pick(method, [(GET, Route::ShowOwn { model }), (DELETE, Route::DeleteOwn { model })])
        }
        [model, "versions", version] => pick(
            method,
            [
                (Method::POST, Route::Publish { model, version }),
                (GET, Route::ShowVersion { model, version }),
                (DELETE, Route::DeleteVersion { model, version }),
            ],
        ),
        [model, "versions", slot, "interface"] => {
            let target = Target { owner: None, model, slot: Some(slot) };
            pick(method, [(GET, Route::Interface(target))])
        }
        [model, "versions", slot, "bundle"] => pick(method, [(GET, Route::Bundle { model, slot })]),
        [model, "versions", slot, "hyperparameters"] => {
            pick(method, [(GET, Route::Hyperparameters { model, slot })])
        }
        [model, "aliases", alias] => pick(
            method,
            [
                (GET, Route::ShowAlias { model, alias }),
                (PUT, Route::SetAlias { model, alias }),
                (DELETE, Route::DeleteAlias { model, alias }),
            ],
        ),
        [model, "aliases", alias, act] => traffic(method, model, alias, act),
        [model, "policy"] => {
            pick(method, [(GET, Route::ShowPolicy { model }), (PUT, Route::SetPolicy { model })])
        }
        [model, "sharing"] => {
            pick(method, [(GET, Route::ShowSharing { model }), (PUT, Route::SetSharing { model })])
        }
        [model, "logs"] => pick(method, [(GET, Route::Logs { model })]),
        _ => Err(Failure::no_route()),
    }
}

fn traffic<'a>(
    method: &Method,
    model: &'a str,
    alias: &'a str,
    act: &str,
) -> Result<Route<'a>, Failure> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    match act {
        "history" => pick(method, [(GET, Route::AliasHistory { model, alias })]),
        "rollout" => pick(
            method,
            [
                (GET, Route::ShowRollout { model, alias }),
                (Method::PUT, Route::SetRollout { model, alias }),
            ],
        ),
        "promote" => pick(method, [(POST, Route::Promote { model, alias })]),
        "rollback" => pick(method, [(POST, Route::RollBack { model, alias })]),
        _ => Err(Failure::no_route()),
    }
}

fn manage<'a>(method: &Method, rest: &[&'a str]) -> Result<Route<'a>, Failure> {
    const GET: Method = Method::GET;
    const PUT: Method = Method::PUT;
    match rest {
        ["uploads"] => pick(method, [(Method::POST, Route::BeginUpload)]),
        ["uploads", upload] => pick(
            method,
            [
                (GET, Route::UploadOffset { upload }),
                (Method::PATCH, Route::Append { upload }),
                (PUT, Route::FinishUpload { upload }),
                (Method::DELETE, Route::CancelUpload { upload }),
            ],
        ),
        ["blobs", digest] => pick(method, [(GET, Route::Blob { digest })]),
        ["usage"] => pick(method, [(GET, Route::UsagePeriods)]),
        ["activity"] => pick(method, [(GET, Route::Activity)]),
        ["audit"] => pick(method, [(GET, Route::Audit)]),
        ["tenants"] => pick(method, [(GET, Route::Tenants), (Method::POST, Route::CreateTenant)]),
        ["tenants", tenant, "usage"] => pick(method, [(GET, Route::Usage { tenant })]),
        ["tenants", tenant, "limits"] => {
            pick(method, [(GET, Route::ShowLimits { tenant }), (PUT, Route::SetLimits { tenant })])
        }
        ["tenants", tenant, "keys"] => pick(
            method,
            [(GET, Route::Keys { tenant }), (Method::POST, Route::CreateKey { tenant })],
        ),
        ["keys", id] => pick(method, [(Method::DELETE, Route::RevokeKey { id })]),
        ["openapi.json"] => pick(method, [(GET, Route::OpenApi)]),
        ["whoami"] => pick(method, [(GET, Route::WhoAmI)]),
        ["datasets"] => pick(method, [(GET, Route::Datasets)]),
        ["datasets", dataset] => pick(
            method,
            [
                (GET, Route::ShowDataset { dataset }),
                (Method::POST, Route::CreateDataset { dataset }),
                (Method::DELETE, Route::DeleteDataset { dataset }),
            ],
        ),
        ["jobs"] => pick(method, [(GET, Route::Jobs), (Method::POST, Route::SubmitJob)]),
        ["jobs", job] => pick(method, [(GET, Route::ShowJob { job })]),
        ["jobs", job, "events"] => pick(method, [(GET, Route::JobEvents { job })]),
        ["jobs", job, act] => {
            let act = match *act {
                "pause" => Act::Pause,
                "resume" => Act::Resume,
                "cancel" => Act::Cancel,
                _ => return Err(Failure::no_route()),
            };
            pick(method, [(Method::POST, Route::TellJob { job, act })])
        }
        _ => Err(Failure::no_route()),
    }
}

/// The route for the method. HEAD is as GET; the server leaves its body out.
fn pick<'a, const N: usize>(
    method: &Method,
    options: [(Method, Route<'a>); N],
) -> Result<Route<'a>, Failure> {
    let asked = if *method == Method::HEAD { &Method::GET } else { method };
    match options.iter().find(|(option, _)| option == asked) {
        Some((_, route)) => Ok(*route),
        None => Err(refused(&options.map(|(option, _)| option))),
    }
}

#[cold]
fn refused(options: &[Method]) -> Failure {
    let mut allowed: Vec<&str> = options.iter().map(Method::as_str).collect();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    Failure::method(&allowed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(method: &'static str, path: &'static str) -> Result<Route<'static>, (u16, String)> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        resolve(&method, path).map_err(|failure| (failure.status.as_u16(), failure.message))
    }

    #[test]
    fn paths_lead_to_handlers() {
        let target = |owner, slot| Target { owner, model: "m", slot };
        let cases = [
            ("GET", "/v2", Route::Server),
            ("GET", "/t/acme/v2", Route::Server),
            ("GET", "/v2/health/live", Route::Live { owner: None }),
            ("HEAD", "/v2/health/ready", Route::Ready { owner: None }),
            ("GET", "/t/acme/v2/health/live", Route::Live { owner: Some("acme") }),
            ("GET", "/v2/models", Route::Models { owner: None }),
            ("GET", "/v2/models/m", Route::Model(target(None, None))),
            ("GET", "/v2/models/m/versions/v1", Route::Model(target(None, Some("v1")))),
            ("GET", "/v2/models/m/ready", Route::ModelReady(target(None, None))),
            ("GET", "/v2/models/m/config", Route::ModelConfig(target(None, None))),
            ("POST", "/v2/logging", Route::SetLogging),
            ("GET", "/metrics", Route::Metrics),
            ("GET", "/v1/models", Route::V1Models { owner: None }),
            ("GET", "/v1/models/m", Route::V1Model(target(None, None))),
            ("GET", "/v1/models/m/labels/stable", Route::V1Status(target(None, Some("stable")))),
            ("GET", "/v1/models/m/versions/1/metadata", Route::V1Metadata(target(None, Some("1")))),
            ("POST", "/v1/models/m:predict", Route::V1Predict(target(None, None))),
            (
                "POST",
                "/t/acme/v1/models/m/versions/1:predict",
                Route::V1Predict(target(Some("acme"), Some("1"))),
            ),
            ("POST", "/v1/embeddings", Route::Embeddings { owner: None }),
            ("POST", "/v2/models/m/generate", Route::Generate(target(None, None))),
            (
                "POST",
                "/v2/models/m/versions/1/generate_stream",
                Route::GenerateStream(target(None, Some("1"))),
            ),
            ("GET", "/v2/models/m/trace/setting", Route::ModelTrace(target(None, None))),
            ("GET", "/v2/systemsharedmemory/region/r/status", Route::SharedMemory),
            ("POST", "/v2/repository/index", Route::Index { owner: None }),
            ("POST", "/v2/repository/models/m/load", Route::Load { owner: None, model: "m" }),
            ("POST", "/v2/repository/models/m/unload", Route::Unload { owner: None, model: "m" }),
            ("GET", "/v2/models/stats", Route::AllStats { owner: None }),
            ("GET", "/v2/models/m/versions/1/stats", Route::ModelStats(target(None, Some("1")))),
            ("POST", "/v2/models/m/infer", Route::Infer(target(None, None))),
            (
                "POST",
                "/t/acme/v2/models/m/versions/1/infer",
                Route::Infer(target(Some("acme"), Some("1"))),
            ),
            ("POST", "/api/v1/models/m/versions/1", Route::Publish { model: "m", version: "1" }),
            ("GET", "/api/v1/models/m/versions/1/bundle", Route::Bundle { model: "m", slot: "1" }),
            (
                "GET",
                "/api/v1/models/m/versions/1/interface",
                Route::Interface(target(None, Some("1"))),
            ),
            (
                "GET",
                "/t/acme/api/v1/models/m/versions/1/interface",
                Route::Interface(target(Some("acme"), Some("1"))),
            ),
            (
                "PUT",
                "/api/v1/models/m/aliases/a/rollout",
                Route::SetRollout { model: "m", alias: "a" },
            ),
            (
                "POST",
                "/api/v1/models/m/aliases/a/rollback",
                Route::RollBack { model: "m", alias: "a" },
            ),
            ("HEAD", "/api/v1/uploads/7", Route::UploadOffset { upload: "7" }),
            ("PATCH", "/api/v1/uploads/7", Route::Append { upload: "7" }),
            ("HEAD", "/api/v1/blobs/sha256:0", Route::Blob { digest: "sha256:0" }),
            ("DELETE", "/api/v1/keys/1", Route::RevokeKey { id: "1" }),
            ("POST", "/api/v1/datasets/d", Route::CreateDataset { dataset: "d" }),
            ("POST", "/api/v1/jobs", Route::SubmitJob),
            ("POST", "/api/v1/jobs/j/pause", Route::TellJob { job: "j", act: Act::Pause }),
            ("GET", "/api/v1/jobs/j/events", Route::JobEvents { job: "j" }),
        ];
        for (method, path, wanted) in cases {
            assert_eq!(go(method, path), Ok(wanted), "{method} {path}");
        }
    }

    #[test]
    fn only_health_is_open() {
        let open: Vec<&str> = [
            "/v2/health/live",
            "/v2/health/ready",
            "/t/a/v2/health/live",
            "/v2",
            "/v2/models",
            "/api/v1/whoami",
        ]
        .into_iter()
        .filter(|path| go("GET", path).unwrap().is_open())
        .collect();
        assert_eq!(open, ["/v2/health/live", "/v2/health/ready"]);
    }

    #[test]
    fn a_wrong_method_is_not_a_wrong_path() {
        let cases = [
            ("POST", "/v2", "GET, HEAD"),
            ("GET", "/v2/models/m/infer", "POST"),
            ("PUT", "/api/v1/models/m/versions/1", "POST, GET, DELETE, HEAD"),
            ("POST", "/api/v1/uploads/7", "GET, PATCH, PUT, DELETE, HEAD"),
            ("BREW", "/api/v1/whoami", "GET, HEAD"),
        ];
        for (method, path, allowed) in cases {
            assert_eq!(
                go(method, path),
                Err((405, format!("this path takes {allowed}"))),
                "{path}"
            );
        }
        let nowhere = [
            "/",
            "",
            "/v2/",
            "/v1",
            "/v2/models/",
            "/v2/models/m/",
            "/v2/models/m/explode",
            "/v2/health",
            "/t/acme",
            "/t/acme/api/v1/models",
            "/api/v1",
            "/api/v2/models",
            "/v1/chat/completions",
            "/a/b/c/d/e/f/g/h/i/j/k/l/m",
            "/v2/repository",
            "*",
        ];
        for path in nowhere {
            // "/v2/models/" names the model "", which exists nowhere.
            let error = go("GET", path);
            let found = matches!(error, Ok(Route::Model(Target { model: "", .. })));
            assert!(found || error.is_err_and(|(status, _)| status == 404), "{path}");
        }
    }

    #[test]
    fn errors_take_the_form_of_the_path() {
        for (path, wanted) in [
            ("/v2", Style::Protocol),
            ("/v2/models/x", Style::Protocol),
            ("/t/acme/v2/models", Style::Protocol),
            ("/v2x", Style::Manage),
            ("/v1", Style::OpenAi),
            ("/v1/models/x", Style::OpenAi),
            ("/t/acme/v1/embeddings", Style::OpenAi),
            ("/v1/models/x:predict", Style::Protocol),
            ("/t/acme/v1/models/x/versions/1", Style::Protocol),
            ("/t/v2", Style::Manage),
            ("/api/v1/models", Style::Manage),
            ("/", Style::Manage),
        ] {
            assert_eq!(style(path), wanted, "{path}");
        }
    }
}
