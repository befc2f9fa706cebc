//! gRPC's own health checks.

use std::sync::Arc;

use futures_util::stream;
use tokio::sync::watch;

use super::answer::{Answer, Framed, framed};
use super::messages::health::HealthCheckResponse;
use super::messages::health::health_check_response::ServingStatus;
use crate::app::App;
use crate::error::Failure;
use crate::serve::Phase;

/// What can be asked about: the server as a whole, and the service of predictions.
const SERVICES: [&str; 2] = ["", "inference.GRPCInferenceService"];

/// `Check`
pub(crate) fn check(app: &App, service: &str) -> Result<HealthCheckResponse, Failure> {
    if SERVICES.contains(&service) {
        return Ok(answer(app.is_ready()));
    }
    Err(Failure::new(hyper::StatusCode::NOT_FOUND, "not_found", "there is no such service"))
}

/// `Watch`: what holds now, and, when that changes, what holds then. The only change is that the server stops.
pub(crate) fn watch(app: &Arc<App>, service: &str) -> Answer {
    let known = SERVICES.contains(&service);
    let now = known && app.is_ready();
    let state = Watched { known, told: false, serving: now, phase: app.phase.subscribe() };
    Answer::Stream(Box::pin(stream::unfold(state, next)), Framed::new())
}

struct Watched {
    known: bool,
    told: bool,
    serving: bool,
    phase: watch::Receiver<Phase>,
}

async fn next(mut state: Watched) -> Option<(Result<Framed, Failure>, Watched)> {
    if state.told {
        let stops = state.phase.wait_for(|phase| *phase != Phase::Serve).await;
        if stops.is_err() || !state.serving {
            // There is nothing more to tell, and a stream that rests must not hold up the end.
            return None;
        }
        state.serving = false;
    }
    state.told = true;
    let status = ServingStatus::ServiceUnknown as i32;
    let said = if state.known { answer(state.serving) } else { HealthCheckResponse { status } };
    Some((Ok(framed(&said)), state))
}

fn answer(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status as i32 }
}
