//! The logging extension, which is about what a tenant keeps of its models' messages, and tracing, which is not served.
//! It is the same for every protocol.

use innkeeper_catalog::Scope;
use innkeeper_predict::LogLevels;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Failure;
use crate::gate::Caller;

const FORMAT: &str = "default";

/// Tracing as Triton has it is off, and stays so: the settings' names and values.
pub(crate) const TRACE_OFF: [(&str, &str); 6] = [
    (TRACE_LEVEL, "OFF"),
    ("trace_rate", "0"),
    ("trace_count", "0"),
    ("log_frequency", "0"),
    ("trace_file", ""),
    ("trace_mode", "triton"),
];

/// The setting that may be set, to what it is.
pub(crate) const TRACE_LEVEL: &str = "trace_level";

/// What is kept.
#[derive(Serialize)]
pub(crate) struct Logging {
    pub(crate) log_file: &'static str,
    pub(crate) log_info: bool,
    pub(crate) log_warning: bool,
    pub(crate) log_error: bool,
    pub(crate) log_verbose_level: u32,
    pub(crate) log_format: &'static str,
}

/// What is to be kept: what is named changes.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wish {
    pub(crate) log_file: Option<String>,
    pub(crate) log_info: Option<bool>,
    pub(crate) log_warning: Option<bool>,
    pub(crate) log_error: Option<bool>,
    pub(crate) log_verbose_level: Option<u32>,
    pub(crate) log_format: Option<String>,
}

/// What the caller's tenant keeps.
pub(crate) fn of(app: &App, caller: &Caller) -> Logging {
    let kept = app.predictor.log_levels(&caller.tenant);
    Logging {
        log_file: "",
        log_info: kept.info,
        log_warning: kept.warn,
        log_error: kept.error,
        log_verbose_level: u32::from(kept.debug),
        log_format: FORMAT,
    }
}

/// Changes what the caller's tenant keeps, until the server's next start.
///
/// # Errors
/// 403 without the scope `publish`; 400 for a file and for a format.
pub(crate) fn set(app: &App, caller: &Caller, wish: Wish) -> Result<Logging, Failure> {
    caller.require(Scope::Publish)?;
    if wish.log_file.is_some_and(|file| !file.is_empty()) {
        return Err(Failure::bad_request(
            "log_file cannot be set: no client names a file of the server; read a model's messages with `innkeeper logs`",
        ));
    }
    if wish.log_format.is_some_and(|format| format != FORMAT) {
        return Err(Failure::bad_request("log_format can only be \"default\""));
    }
    let is = app.predictor.log_levels(&caller.tenant);
    let kept = LogLevels {
        debug: wish.log_verbose_level.map_or(is.debug, |level| level > 0),
        info: wish.log_info.unwrap_or(is.info),
        warn: wish.log_warning.unwrap_or(is.warn),
        error: wish.log_error.unwrap_or(is.error),
    };
    app.predictor.set_log_levels(&caller.tenant, kept);
    Ok(of(app, caller))
}

/// What is said to whoever wants tracing on.
pub(crate) fn no_tracing() -> Failure {
    Failure::unsupported("tracing is not served; trace_level can only be OFF")
}
