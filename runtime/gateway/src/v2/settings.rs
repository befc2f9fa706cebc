//! The logging extension, which is about what a tenant keeps of its models' messages, and tracing, which is not served.

use hyper::body::Incoming;
use innkeeper_catalog::Scope;
use innkeeper_predict::LogLevels;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body;
use crate::app::Exchange;
use crate::error::Failure;
use crate::reply::{Reply, json};

#[derive(Serialize)]
struct Logging {
    log_file: &'static str,
    log_info: bool,
    log_warning: bool,
    log_error: bool,
    log_verbose_level: u32,
    log_format: &'static str,
}

/// `GET /v2/logging`
pub(crate) fn logging(at: Exchange<'_>) -> Reply {
    let kept = at.app.predictor.log_levels(&at.caller.tenant);
    json(&Logging {
        log_file: "",
        log_info: kept.info,
        log_warning: kept.warn,
        log_error: kept.error,
        log_verbose_level: u32::from(kept.debug),
        log_format: FORMAT,
    })
}

const FORMAT: &str = "default";

/// `POST /v2/logging`: what is named changes, until the server's next start.
pub(crate) async fn set_logging(
    at: Exchange<'_>,
    incoming: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Body {
        log_file: Option<String>,
        log_info: Option<bool>,
        log_warning: Option<bool>,
        log_error: Option<bool>,
        log_verbose_level: Option<u32>,
        log_format: Option<String>,
    }
    at.caller.require(Scope::Publish)?;
    let wish: Body = body::settings(at, incoming).await?;
    if wish.log_file.is_some_and(|file| !file.is_empty()) {
        return Err(Failure::bad_request(
            "log_file cannot be set: no client names a file of the server; read a model's messages with `innkeeper logs`",
        ));
    }
    if wish.log_format.is_some_and(|format| format != FORMAT) {
        return Err(Failure::bad_request("log_format can only be \"default\""));
    }
    let is = at.app.predictor.log_levels(&at.caller.tenant);
    let kept = LogLevels {
        debug: wish.log_verbose_level.map_or(is.debug, |level| level > 0),
        info: wish.log_info.unwrap_or(is.info),
        warn: wish.log_warning.unwrap_or(is.warn),
        error: wish.log_error.unwrap_or(is.error),
    };
    at.app.predictor.set_log_levels(&at.caller.tenant, kept);
    Ok(logging(at))
}

/// `GET /v2[/models/{m}]/trace/setting`: tracing as Triton has it is off, and stays so.
pub(crate) fn trace() -> Reply {
    #[derive(Serialize)]
    struct Trace {
        trace_level: [&'static str; 1],
        trace_rate: &'static str,
        trace_count: &'static str,
        log_frequency: &'static str,
        trace_file: &'static str,
        trace_mode: &'static str,
    }
    json(&Trace {
        trace_level: ["OFF"],
        trace_rate: "0",
        trace_count: "0",
        log_frequency: "0",
        trace_file: "",
        trace_mode: "triton",
    })
}

/// `POST /v2[/models/{m}]/trace/setting`: takes what leaves tracing off.
pub(crate) async fn set_trace(at: Exchange<'_>, incoming: &mut Incoming) -> Result<Reply, Failure> {
    let wish: Map<String, Value> = body::settings(at, incoming).await?;
    let leaves_off = |(key, value): (&String, &Value)| {
        value.is_null()
            || key == "trace_level" && (*value == "OFF" || *value == Value::from(vec!["OFF"]))
    };
    if wish.iter().all(leaves_off) {
        return Ok(trace());
    }
    Err(Failure::unsupported("tracing is not served; trace_level can only be OFF"))
}

/// Everything under `/v2/systemsharedmemory` and `/v2/cudasharedmemory`.
pub(crate) fn shared_memory() -> Failure {
    Failure::unsupported(
        "shared memory is not served: clients and models share none with the server; send tensors in the body, as JSON \
         or binary",
    )
}
