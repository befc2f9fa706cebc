//! One call: who makes it, of what, and for how long.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use innkeeper_predict::{Deployment, Endpoint, Limits};
use tokio::time::Instant;

use crate::app::App;
use crate::error::Failure;
use crate::gate::Caller;

/// What holds for a whole call, however many messages it has.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) caller: Arc<Caller>,
    /// The request's id.
    pub(crate) id: HeaderValue,
    /// What came with the call.
    pub(crate) headers: HeaderMap,
    /// When the client has waited long enough.
    pub(crate) deadline: Option<Instant>,
}

impl Call {
    /// The model that a message names: the caller's own, or as `OWNER/MODEL` one that OWNER shares. An empty version is
    /// none.
    ///
    /// # Errors
    /// 404, found out in the same way for a model that is not there and for one that this caller may not see.
    pub(crate) fn endpoint(&self, model: &str) -> Result<Arc<Endpoint>, Failure> {
        let own = (self.caller.tenant.as_str(), model);
        let (owner, model) = model.split_once('/').unwrap_or(own);
        Ok(self.app.predictor.endpoint(&self.caller.tenant, owner, model)?)
    }

    /// The version that a message names.
    ///
    /// # Errors
    /// As [`Call::endpoint`].
    pub(crate) fn deployment(
        &self,
        model: &str,
        version: &str,
    ) -> Result<Arc<Deployment>, Failure> {
        Ok(Arc::clone(self.endpoint(model)?.resolve(slot(version))?))
    }

    /// The caller's limits.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.app.predictor.limits(&self.caller.tenant)
    }

    /// What `work` comes to, if it does in time. Work that does not is dropped, and with it a prediction stops.
    ///
    /// # Errors
    /// 504 when the client's time is over; else as the work.
    pub(crate) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(deadline) = self.deadline else { return work.await };
        tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(too_late()))
    }
}

/// A version or an alias; none when it is empty.
pub(crate) fn slot(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

/// When a client that waits for so long has waited long enough.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    // What no clock can show never comes.
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

pub(crate) fn too_late() -> Failure {
    Failure::new(StatusCode::GATEWAY_TIMEOUT, "deadline", "the call's grpc-timeout has passed")
}
