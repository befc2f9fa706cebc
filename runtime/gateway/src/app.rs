//! What happens to a request, whatever it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode, Version};
use innkeeper_catalog::Catalog;
use innkeeper_deploy::Deployer;
use innkeeper_predict::{Endpoint, Predictor};
use innkeeper_train::Jobs;
use serde::Serialize;
use tokio::sync::watch;

use crate::body::{self, Budget};
use crate::coding::INLINE_BYTES_MAX;
use crate::error::Failure;
use crate::gate::{Caller, Gate};
use crate::grpc::Reflection;
use crate::journal::{Entry, Ids, X_INNKEEPER_VERSION, X_REQUEST_ID};
use crate::reply::{Reply, json, json_as};
use crate::route::{Route, Target, resolve, style};
use crate::serve::Phase;
use crate::{GatewayConfig, interface, manage, metrics, openapi, query, v1, v2};

/// Everything that a handler needs.
pub(crate) struct App {
    pub(crate) config: GatewayConfig,
    pub(crate) predictor: Predictor,
    pub(crate) deployer: Deployer,
    pub(crate) jobs: Jobs,
    pub(crate) catalog: Catalog,
    pub(crate) gate: Gate,
    pub(crate) budget: Budget,
    pub(crate) draining: AtomicBool,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) reflection: Reflection,
    pub(crate) ids: Ids,
    pub(crate) labels: metrics::Labels,
}

impl App {
    /// Answers a request: id, route, gate, handler, journal.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Reply, Infallible> {
        let (parts, mut body) = request.into_parts();
        let id = self.ids.of(&parts.headers);
        let traces = self.config.traces.as_ref();
        let mut entry = Entry::new(id, parts.method.clone(), &parts.headers, traces);
        let cors = &self.config.cors;
        // A browser asks without a key whether it may ask with one.
        let answer = match cors.preflight(&parts) {
            Some(reply) => Ok(reply),
            None => self.handle(&parts, &mut body, &mut entry).await,
        };
        let mut reply = match answer {
            Ok(reply) => reply,
            Err(failure) => {
                entry.failed(&failure);
                failure.reply(style(parts.uri.path()))
            }
        };
        cors.allow(&parts.headers, reply.headers_mut());
        reply.headers_mut().insert(X_REQUEST_ID, entry.id.clone());
        entry.tell(reply.headers_mut());
        if let Some(version) = entry.version() {
            reply.headers_mut().insert(X_INNKEEPER_VERSION, version);
        }
        entry.answered(reply.status());
        // With some of the body unread the connection would end without a word, and the next request on it be lost; in
        // HTTP/2 some clients would take the end of the stream for that of the answer.
        let ends = reply.headers().contains_key(CONNECTION)
            || !body::drain(&mut body, &parts.headers, self.config.body_idle_ms).await;
        if parts.version == Version::HTTP_2 {
            // Each request is a stream of its own there, and ends for itself.
            reply.headers_mut().remove(CONNECTION);
            return Ok(reply);
        }
        if ends || self.draining.load(Ordering::Relaxed) {
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(reply)
    }

    async fn handle(
        self: &Arc<Self>,
        parts: &Parts,
        body: &mut Incoming,
        entry: &mut Entry,
    ) -> Result<Reply, Failure> {
        if parts.headers.len() > self.config.headers_max {
            return Err(Failure::too_many_headers(self.config.headers_max));
        }
        let route = resolve(&parts.method, parts.uri.path());
        if let Ok(route) = &route {
            entry.named(|| format!("{} {}", parts.method, route.name()));
        }
        if let Ok(open) = &route
            && open.is_open()
        {
            return Ok(self.health(open));
        }
        let caller = self.gate.admit(&parts.headers, &parts.uri).await?;
        entry.tenant = Some(caller.tenant.clone());
        let route = route?;
        let at = Exchange { app: self, caller: &caller, parts };
        match route {
            Route::Infer(target) => v2::infer(at, target, body, entry).await,
            // What a connection takes while it rests is as much as its largest handler does; these are not among them.
            _ => Box::pin(self.other(at, route, body, entry)).await,
        }
    }

    /// Everything but inference in the protocol's own form. What it changes is written down.
    async fn other<'a>(
        self: &'a Arc<Self>,
        at: Exchange<'a>,
        route: Route<'a>,
        body: &mut Incoming,
        entry: &mut Entry,
    ) -> Result<Reply, Failure> {
        let Some(open) = manage::audit::begin(self, at.caller, &route, entry).await? else {
            return self.dispatch(at, route, body, entry).await;
        };
        let reply = self.dispatch(at, route, body, entry).await;
        open.end(&reply).await;
        reply
    }

    async fn dispatch<'a>(
        self: &'a Arc<Self>,
        at: Exchange<'a>,
        route: Route<'a>,
        body: &mut Incoming,
        entry: &mut Entry,
    ) -> Result<Reply, Failure> {
        let caller = at.caller;
        match route {
            Route::Live { .. } | Route::Ready { .. } => Ok(self.health(&route)),
            Route::Server => Ok(v2::server(&self.config)),
            Route::Models { owner } => {
                let owner = owner.unwrap_or(caller.tenant.as_str());
                Ok(v2::models(&self.predictor, caller, owner))
            }
            Route::Model(target) => {
                at.endpoint(target).and_then(|(e, slot)| v2::model(&e, slot.as_deref()))
            }
            Route::ModelReady(target) => {
                at.endpoint(target).and_then(|(e, slot)| v2::model_ready(&e, slot.as_deref()))
            }
            Route::ModelConfig(target) => {
                at.endpoint(target).and_then(|(e, slot)| v2::config(at, &e, slot.as_deref()))
            }
            Route::ModelStats(target) => {
                at.endpoint(target).and_then(|(e, slot)| v2::model_stats(at, &e, slot.as_deref()))
            }
            Route::AllStats { owner } => {
                Ok(v2::all_stats(at, owner.unwrap_or(caller.tenant.as_str())))
            }
            Route::Index { owner } => v2::index(at, owner, body).await,
            Route::Load { owner, model } => v2::load(at, owner, model, body).await,
            Route::Unload { owner, model } => v2::unload(at, owner, model, body).await,
            Route::Generate(target) => v2::generate(at, target, v2::Form::Whole, body, entry).await,
            Route::GenerateStream(target) => {
                v2::generate(at, target, v2::Form::Events, body, entry).await
            }
            Route::OpenApi => Ok(openapi::document(&self.config)),
            Route::Metrics => Ok(metrics::metrics(at)),
            Route::V1Models { owner } => Ok(v1::list(at, owner.unwrap_or(caller.tenant.as_str()))),
            Route::V1Model(target) => at.endpoint(target).and_then(|(e, _)| v1::show(&e)),
            Route::V1Status(target) => {
                at.endpoint(target).and_then(|(e, slot)| v1::status(&e, slot.as_deref()))
            }
            Route::V1Metadata(target) => {
                at.endpoint(target).and_then(|(e, slot)| v1::metadata(&e, slot.as_deref()))
            }
            Route::V1Predict(target) => v1::predict(at, target, body, entry).await,
            Route::Embeddings { owner } => v1::embeddings(at, owner, body, entry).await,
            Route::Logging => Ok(v2::logging(at)),
            Route::SetLogging => v2::set_logging(at, body).await,
            Route::Trace => Ok(v2::trace()),
            Route::ModelTrace(target) => {
                let (endpoint, slot) = at.endpoint(target)?;
                endpoint.resolve(slot.as_deref())?;
                Ok(v2::trace())
            }
            Route::SetTrace => v2::set_trace(at, body).await,
            Route::SetModelTrace(target) => {
                let (endpoint, slot) = at.endpoint(target)?;
                endpoint.resolve(slot.as_deref())?;
                v2::set_trace(at, body).await
            }
            Route::SharedMemory => Err(v2::shared_memory()),
            Route::Interface(target) => {
                at.endpoint(target).and_then(|(e, slot)| interface::document(&e, slot.as_deref()))
            }
            Route::Files => v1::files::list(at).await,
            Route::ShowFile { file } => v1::files::show(at, file).await,
            Route::FileContent { file } => v1::files::content(at, file).await,
            Route::FineTunings => v1::fine_tuning::list(at).await,
            Route::ShowFineTuning { job } => v1::fine_tuning::show(at, job).await,
            Route::FineTuningEvents { job } => v1::fine_tuning::events(at, job).await,
            Route::FineTuningCheckpoints { job } => v1::fine_tuning::checkpoints(at, job).await,
            _ => manage::handle(at, route, body).await,
        }
    }

    /// Whether predictions are taken.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed) && !self.predictor.is_draining()
    }

    fn health(&self, route: &Route<'_>) -> Reply {
        #[derive(Serialize)]
        struct Live {
            live: bool,
        }
        #[derive(Serialize)]
        struct Ready {
            ready: bool,
        }
        if matches!(route, Route::Live { .. }) {
            return json(&Live { live: true });
        }
        let ready = self.is_ready();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json_as(status, &Ready { ready })
    }
}

/// One request at its handler.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'a> {
    pub(crate) app: &'a Arc<App>,
    pub(crate) caller: &'a Caller,
    pub(crate) parts: &'a Parts,
}

impl<'a> Exchange<'a> {
    /// The model that a path names, and its slot.
    ///
    /// # Errors
    /// 404, found out in the same way for a model that is not there and for one that this caller may not see.
    pub(crate) fn endpoint(
        &self,
        target: Target<'a>,
    ) -> Result<(Arc<Endpoint>, Option<String>), Failure> {
        // What is not well encoded names nothing, just as it stands.
        let plain = |text: &'a str| query::decode(text).unwrap_or(text.into());
        let owner = target.owner.map_or(self.caller.tenant.as_str().into(), plain);
        let model = plain(target.model);
        let endpoint = self.app.predictor.endpoint(&self.caller.tenant, &owner, &model)?;
        Ok((endpoint, target.slot.map(|slot| plain(slot).into_owned())))
    }
}

/// Does `work` on `bytes` bytes here if they are few, else on a thread that nobody waits for.
pub(crate) async fn offload<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if bytes <= INLINE_BYTES_MAX {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(Failure::internal)
}
