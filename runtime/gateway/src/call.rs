//! A prediction for protocols that are not the Open Inference Protocol: the body, the model, the answer as JSON values.

use std::sync::Arc;

use hyper::body::Incoming;
use innkeeper_catalog::Scope;
use innkeeper_predict::{Deployment, Prediction, Request, Schedule};
use innkeeper_tensor::Named;

use crate::app::Exchange;
use crate::body::{BODY_BYTES_MAX, Held};
use crate::error::Failure;
use crate::journal::Entry;
use crate::route::Target;
use crate::v2;

/// The version that a request is for.
///
/// # Errors
/// 403 without the scope `predict`, 404.
pub(crate) fn deployment(
    at: Exchange<'_>,
    target: Target<'_>,
    entry: &mut Entry,
) -> Result<Arc<Deployment>, Failure> {
    at.caller.require(Scope::Predict)?;
    let (endpoint, slot) = at.endpoint(target)?;
    let deployment = Arc::clone(endpoint.resolve(slot.as_deref())?);
    entry.deployment = Some(Arc::clone(&deployment));
    Ok(deployment)
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
    deployment: Arc<Deployment>,
    id: String,
    parameters: Vec<(String, String)>,
    inputs: Vec<Named>,
    outputs: Vec<String>,
) -> Result<Prediction, Failure> {
    let caller = at.caller.tenant.clone();
    let schedule = Schedule::default();
    let request = Request { caller, deployment, id, parameters, inputs, outputs, schedule };
    Ok(at.app.predictor.predict(request).await?)
}
