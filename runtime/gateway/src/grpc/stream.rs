//! `ModelStreamInfer`: requests as they come, answers in their order.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::answer::{Answer, Framed, framed};
use super::call::{Call, too_late};
use super::frame::Messages;
use super::infer::{Way, infer};
use super::messages::inference::ModelStreamInferResponse;
use crate::body::Held;
use crate::error::Failure;
use crate::journal::Entry;
use crate::serve::Phase;

/// Requests of one stream that run at once. What comes beyond them stays with the client.
const AT_ONCE_MAX: usize = 16;

/// The answers to the requests that come.
pub(crate) fn answers(call: Arc<Call>, messages: Messages) -> Answer {
    let first = Some((Arc::clone(&call), messages));
    let requests = stream::unfold(first, |state| async {
        let (call, mut messages) = state?;
        match next(&call, &mut messages).await {
            Ok(None) => None,
            Ok(Some(held)) => Some((Ok(held), Some((call, messages)))),
            // Nothing can be told apart behind a message that could not be read.
            Err(failure) => Some((Err(failure), None)),
        }
    });
    let answers = requests.map(move |request| {
        let call = Arc::clone(&call);
        async move { answer(&call, request?).await }
    });
    Answer::Stream(Box::pin(answers.buffered(AT_ONCE_MAX)), Framed::new())
}

/// The next request, unless the client's time is over or the server stops before it comes.
async fn next(call: &Call, messages: &mut Messages) -> Result<Option<Held>, Failure> {
    let bytes_max = call.limits().body_bytes_max;
    let mut phase = call.app.phase.subscribe();
    tokio::select! {
        biased;
        came = call.in_time(messages.following(bytes_max)) => came,
        _ = phase.wait_for(|phase| *phase >= Phase::Finish) => {
            Err(innkeeper_predict::PredictError::Draining.into())
        }
    }
}

/// The answer to one request. What goes wrong with it is told in its place, and the stream goes on.
async fn answer(call: &Call, mut held: Held) -> Result<Framed, Failure> {
    let traces = call.app.config.traces.as_ref();
    let mut entry = Entry::new(call.id.clone(), hyper::Method::POST, &call.headers, traces);
    entry.named(|| "inference.GRPCInferenceService/ModelStreamInfer".to_owned());
    entry.tenant = Some(call.caller.tenant.clone());
    let answer = call.in_time(infer(call, &mut held, Way::Stream, &mut entry)).await;
    match answer {
        Ok(message) => {
            entry.answered(hyper::StatusCode::OK);
            Ok(message)
        }
        Err(failure) => {
            entry.failed(&failure);
            entry.answered(failure.status);
            if call.deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now()) {
                return Err(too_late());
            }
            Ok(framed(&ModelStreamInferResponse {
                error_message: failure.message,
                infer_response: None,
            }))
        }
    }
}
