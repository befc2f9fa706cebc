//! The logging extension and that of tracing.

use hyper::body::Incoming;
use serde_json::{Map, Value};

use super::body;
use crate::app::Exchange;
use crate::error::Failure;
use crate::logging::{self, TRACE_LEVEL, TRACE_OFF, Wish};
use crate::reply::{Reply, json};

/// `GET /v2/logging`
pub(crate) fn logging(at: Exchange<'_>) -> Reply {
    json(&logging::of(at.app, at.caller))
}

/// `POST /v2/logging`
pub(crate) async fn set_logging(
    at: Exchange<'_>,
    incoming: &mut Incoming,
) -> Result<Reply, Failure> {
    let wish: Wish = body::settings(at, incoming).await?;
    Ok(json(&logging::set(at.app, at.caller, wish)?))
}

/// `GET /v2[/models/{m}]/trace/setting`: tracing as Triton has it is off, and stays so.
pub(crate) fn trace() -> Reply {
    let setting = |(name, value): (&str, &str)| {
        let value = if name == TRACE_LEVEL { vec![value].into() } else { value.into() };
        (name.to_owned(), value)
    };
    json(&TRACE_OFF.into_iter().map(setting).collect::<Map<String, Value>>())
}

/// `POST /v2[/models/{m}]/trace/setting`: takes what leaves tracing off.
pub(crate) async fn set_trace(at: Exchange<'_>, incoming: &mut Incoming) -> Result<Reply, Failure> {
    let wish: Map<String, Value> = body::settings(at, incoming).await?;
    let leaves_off = |(key, value): (&String, &Value)| {
        value.is_null()
            || key == TRACE_LEVEL && (*value == "OFF" || *value == Value::from(vec!["OFF"]))
    };
    if wish.iter().all(leaves_off) {
        return Ok(trace());
    }
    Err(logging::no_tracing())
}

/// Everything under `/v2/systemsharedmemory` and `/v2/cudasharedmemory`.
pub(crate) fn shared_memory() -> Failure {
    Failure::unsupported(
        "shared memory is not served: clients and models share none with the server; send tensors in the body, as JSON \
         or binary",
    )
}
