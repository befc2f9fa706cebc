//! Server reflection, for tools that have no definitions of their own.

use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::watch;
use tonic_reflection::server::Builder;
use tower_service::Service;

use super::answer::Answer;
use super::messages::DESCRIPTORS;
use crate::serve::Phase;

type Answering = Pin<Box<dyn Future<Output = Response<tonic::body::Body>> + Send>>;
type Serve = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// Both versions of the service that clients speak.
pub(crate) struct Reflection {
    v1: Serve,
    v1alpha: Serve,
}

impl Reflection {
    /// # Errors
    /// The definitions that were built in cannot be read.
    pub(crate) fn new() -> Result<Reflection, tonic_reflection::server::Error> {
        let definitions = || Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        Ok(Reflection {
            v1: boxed(definitions().build_v1()?),
            v1alpha: boxed(definitions().build_v1alpha()?),
        })
    }

    pub(crate) fn serves(&self, path: &str) -> bool {
        path.starts_with("/grpc.reflection.v1.ServerReflection/")
            || path.starts_with("/grpc.reflection.v1alpha.ServerReflection/")
    }

    /// Answers a call, until the client ends it or the server does.
    pub(crate) async fn answer(
        &self,
        phase: &watch::Sender<Phase>,
        request: Request<Incoming>,
    ) -> Response<Answer> {
        let is_v1 = request.uri().path().starts_with("/grpc.reflection.v1.");
        let serve = if is_v1 { &self.v1 } else { &self.v1alpha };
        let mut phase = phase.subscribe();
        let ends = Box::pin(async move {
            let _ = phase.wait_for(|phase| *phase >= Phase::Finish).await;
        });
        serve(request).await.map(|body| Answer::Other(body, ends))
    }
}

fn boxed<S>(service: S) -> Serve
where
    S: Service<
            Request<Incoming>,
            Response = Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    Arc::new(move |request| {
        let answer = service.clone().call(request);
        Box::pin(async { answer.await.unwrap_or_else(|never| match never {}) })
    })
}
