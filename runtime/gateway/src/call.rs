//! A prediction for protocols that are not the Open Inference Protocol: the body, the model, the answer as JSON values.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use innkeeper_catalog::Scope;
use innkeeper_predict::{Choice, Deployment, Prediction, Request, Schedule, Timeline};
use innkeeper_tensor::Named;

use crate::app::Exchange;
use crate::body::{BODY_BYTES_MAX, Held};
use crate::error::Failure;
use crate::journal::Entry;
use crate::route::Target;
use crate::v2;

/// The version that answers a request.
///
/// # Errors
/// 403 without the scope `predict`, 404.
pub(crate) fn choose(
    at: Exchange<'_>,
    target: Target<'_>,
    entry: &mut Entry,
) -> Result<Choice, Failure> {
    at.caller.require(Scope::Predict)?;
    let (endpoint, slot) = at.endpoint(target)?;
    let header = |name: &str| at.parts.headers.get(name).map(HeaderValue::as_bytes);
    let choice = endpoint.choose(slot.as_deref(), header)?;
    entry.deployment = Some(Arc::clone(&choice.deployment));
    Ok(choice)
}

/// The body of a request, within the model's limits or else the tenant's.
///
/// # Errors
/// As of [`v2::read_body`].
pub(crate) async fn body(
    at: Exchange<'_>,
    deployment: Option<&Deployment>,
    incoming: &mut Incoming,
) -> Result<Held, Failure> {
    let limits = at.app.predictor.limits(&at.caller.tenant);
    let bytes_max = match deployment {
        Some(deployment) => limits.lowered(&deployment.limits).body_bytes_max,
        None => limits.body_bytes_max,
    };
    v2::read_body(at, incoming, BODY_BYTES_MAX, bytes_max).await
}

/// One prediction.
///
/// # Errors
/// Whatever the prediction says.
pub(crate) async fn predict(
    at: Exchange<'_>,
    choice: Choice,
    id: String,
    parameters: Vec<(String, String)>,
    inputs: Vec<Named>,
    outputs: Vec<String>,
    timeline: Option<Timeline>,
) -> Result<Prediction, Failure> {
    let caller = at.caller.tenant.clone();
    let Choice { deployment, via } = choice;
    let schedule = Schedule::default();
    let request =
        Request { caller, deployment, via, id, parameters, inputs, outputs, schedule, timeline };
    Ok(at.app.predictor.predict(request).await?)
}
