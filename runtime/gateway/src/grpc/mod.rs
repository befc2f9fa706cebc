//! The Open Inference Protocol v2 over gRPC, with health checks and reflection.
//!
//! Calls go through the same gate, limits and journal as REST's. The messages of `proto/` become tensors without a copy
//! of what lies raw in them.

mod answer;
mod call;
mod extensions;
mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
mod infer;
mod messages;
mod metadata;
mod reflection;
mod stream;
mod tensors;
mod weigh;

use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use prost::Message;
use tokio::time::Instant;

pub(crate) use answer::Answer;
use answer::{Framed, failure, framed, response, success};
use call::{Call, deadline};
use frame::Messages;
use infer::Way;
use messages::health::HealthCheckRequest;
use messages::inference::{
    ModelMetadataRequest, ModelReadyRequest, ModelReadyResponse, ServerLiveResponse,
    ServerReadyResponse,
};
pub(crate) use reflection::Reflection;

use crate::app::App;
use crate::body;
use crate::error::Failure;
use crate::gate::Caller;
use crate::journal::{Entry, X_INNKEEPER_VERSION, X_REQUEST_ID};

/// No message but one with tensors is larger.
const SMALL_BYTES_MAX: u64 = 64 << 10;
const SERVICE: &str = "/inference.GRPCInferenceService/";
/// The code of a call that is not here.
const UNIMPLEMENTED: &str = "unimplemented";

/// Whether a request is a gRPC call.
pub(crate) fn is_call(version: Version, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let rest = kind.and_then(|kind| kind.strip_prefix("application/grpc"));
    version == Version::HTTP_2
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// Answers a call: id, gate, handler, journal.
pub(crate) async fn answer(app: Arc<App>, request: Request<Incoming>) -> Response<Answer> {
    let (id, headers) = (app.ids.of(request.headers()), request.headers());
    let traces = app.config.traces.as_ref();
    let mut entry = Entry::new(id.clone(), request.method().clone(), headers, traces);
    let answer = handle(app, request, &mut entry).await;
    let mut answer = match answer {
        Ok(answer) => {
            entry.answered(StatusCode::OK);
            answer
        }
        Err(error) => {
            entry.failed(&error);
            entry.answered(error.status);
            failure(&error)
        }
    };
    answer.headers_mut().insert(X_REQUEST_ID, id);
    entry.tell(answer.headers_mut());
    if let Some(version) = entry.version() {
        answer.headers_mut().insert(X_INNKEEPER_VERSION, version);
    }
    answer
}

async fn handle(
    app: Arc<App>,
    request: Request<Incoming>,
    entry: &mut Entry,
) -> Result<Response<Answer>, Failure> {
    let path = request.uri().path().to_owned();
    let (parts, mut incoming) = request.into_parts();
    if let Some(open) = Open::named(&path) {
        return open.answer(&app, &parts, incoming).await;
    }
    let (caller, deadline) = match admitted(&app, &parts, entry).await {
        Ok(admitted) => admitted,
        Err(refused) => {
            // Some clients would take the end of a stream that was not read for that of the answer. A stream of messages,
            // whose length nobody knows, would keep the refusal waiting.
            if incoming.size_hint().exact().is_some() {
                body::drain(&mut incoming, &parts.headers, app.config.body_idle_ms).await;
            }
            return Err(refused);
        }
    };
    if app.reflection.serves(&path) {
        let request = Request::from_parts(parts, incoming);
        return Ok(app.reflection.answer(&app.phase, request).await);
    }
    let share = app.budget.of(&caller.tenant);
    let idle_ms = app.config.body_idle_ms;
    let messages = Messages::new(&parts.headers, incoming, idle_ms, share)?;
    let call = Call { app, caller, id: entry.id.clone(), headers: parts.headers, deadline };
    let method = path.strip_prefix(SERVICE).unwrap_or("");
    if method == "ModelStreamInfer" {
        call.caller.require(innkeeper_catalog::Scope::Predict)?;
        entry.named(|| named(method));
        return Ok(response(stream::answers(Arc::new(call), messages)));
    }
    let answer = call.in_time(unary(&call, method, messages, entry)).await;
    // Anybody's text must not become the name of a span.
    if answer.as_ref().err().is_none_or(|failure| failure.code != UNIMPLEMENTED) {
        entry.named(|| named(method));
    }
    answer.map(success)
}

/// A method's name in traces.
fn named(method: &str) -> String {
    format!("{}{method}", &SERVICE[1..])
}

/// What is known of a call before its message is read: who makes it, and when it has waited long enough.
async fn admitted(
    app: &App,
    parts: &Parts,
    entry: &mut Entry,
) -> Result<(Arc<Caller>, Option<Instant>), Failure> {
    let caller = app.gate.admit(&parts.headers, &parts.uri).await?;
    entry.tenant = Some(caller.tenant.clone());
    if parts.method != Method::POST {
        return Err(Failure::method("POST"));
    }
    Ok((caller, deadline(frame::timeout(&parts.headers)?)))
}

/// Calls of one message and one answer.
async fn unary(
    call: &Call,
    method: &str,
    mut messages: Messages,
    entry: &mut Entry,
) -> Result<Framed, Failure> {
    match method {
        "ModelInfer" => {
            call.caller.require(innkeeper_catalog::Scope::Predict)?;
            let mut held = messages.only(call.limits().body_bytes_max).await?;
            infer::infer(call, &mut held, Way::Alone, entry).await
        }
        "ServerMetadata" => {
            messages.only(SMALL_BYTES_MAX).await?;
            Ok(framed(&metadata::server(&call.app.config)))
        }
        "ModelMetadata" => {
            let asked: ModelMetadataRequest = small(&mut messages).await?;
            Ok(framed(&metadata::model(&*call.endpoint(&asked.name)?, &asked.version)?))
        }
        "ModelReady" => {
            let asked: ModelReadyRequest = small(&mut messages).await?;
            let found = call.deployment(&asked.name, &asked.version);
            // That there is none is an answer here, not a failure.
            Ok(framed(&ModelReadyResponse { ready: found.is_ok() }))
        }
        _ => extensions::answer(call, method, &mut messages, entry).await,
    }
}

async fn small<M: Message + Default>(messages: &mut Messages) -> Result<M, Failure> {
    let held = messages.only(SMALL_BYTES_MAX).await?;
    M::decode(held.bytes).map_err(|error| Failure::bad_request(format!("not its message: {error}")))
}

fn unimplemented(method: &str) -> Failure {
    let text = if method.starts_with("SystemSharedMemory") || method.starts_with("CudaSharedMemory")
    {
        "shared memory is not served: a client's names for this machine's memory would reach into that of others; \
         send tensors in the message"
    } else {
        "there is no such call here"
    };
    Failure::new(StatusCode::NOT_IMPLEMENTED, UNIMPLEMENTED, text)
}

/// Calls that want no key: liveness and readiness, and nothing else.
enum Open {
    Live,
    Ready,
    Check,
    Watch,
}

impl Open {
    fn named(path: &str) -> Option<Open> {
        Some(match path {
            "/inference.GRPCInferenceService/ServerLive" => Open::Live,
            "/inference.GRPCInferenceService/ServerReady" => Open::Ready,
            "/grpc.health.v1.Health/Check" => Open::Check,
            "/grpc.health.v1.Health/Watch" => Open::Watch,
            _ => return None,
        })
    }

    async fn answer(
        self,
        app: &Arc<App>,
        parts: &Parts,
        incoming: Incoming,
    ) -> Result<Response<Answer>, Failure> {
        let mut messages =
            Messages::new(&parts.headers, incoming, app.config.body_idle_ms, app.budget.nobodys())?;
        Ok(success(match self {
            Open::Live => framed(&ServerLiveResponse { live: true }),
            Open::Ready => framed(&ServerReadyResponse { ready: app.is_ready() }),
            Open::Check => {
                let asked: HealthCheckRequest = small(&mut messages).await?;
                framed(&health::check(app, &asked.service)?)
            }
            Open::Watch => {
                let asked: HealthCheckRequest = small(&mut messages).await?;
                return Ok(response(health::watch(app, &asked.service)));
            }
        }))
    }
}
