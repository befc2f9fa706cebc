//! The one table from what went wrong to what the client is told.

use std::fmt::Display;

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use innkeeper_catalog::{CatalogError, Scope};
use innkeeper_deploy::DeployError;
use innkeeper_deploy::bundle::BundleError;
use innkeeper_predict::{Fault, GuestError, NotFound, PredictError};
use innkeeper_train::TrainError;
use serde::Serialize;
use serde_json::Value;
use tonic::Code;

use crate::reply::{Reply, json_as};
use crate::v2::Bad;

/// Where an upload goes on.
pub(crate) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// The same as `retry-after` to the millisecond, as OpenAI's clients read it.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// A request that is not answered as it wished.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The status.
    pub(crate) status: StatusCode,
    /// What programs tell failures apart by.
    pub(crate) code: &'static str,
    /// What people are told.
    pub(crate) message: String,
    /// What only the log is told.
    pub(crate) inside: Option<String>,
    extra: Option<Box<(HeaderName, HeaderValue)>>,
    /// More about it, for programs: in the management API's body only.
    details: Option<Box<Value>>,
    closes: bool,
    retry_ms: Option<u64>,
}

/// The form of an error's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `{"error": "..."}`, as the Open Inference Protocol has it.
    Protocol,
    /// `{"error": "...", "code": "..."}`
    Manage,
    /// `{"error": {"message": "...", "type": "...", "param": null, "code": "..."}}`, as OpenAI has it.
    OpenAi,
}

impl Failure {
    #[cold]
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> Failure {
        Failure {
            status,
            code,
            message: message.into(),
            inside: None,
            extra: None,
            details: None,
            closes: false,
            retry_ms: None,
        }
    }

    /// 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 401.
    pub(crate) fn unauthorized(message: &'static str) -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403.
    pub(crate) fn missing_scope(scope: Scope) -> Failure {
        Failure::new(
            StatusCode::FORBIDDEN,
            "missing_scope",
            format!("this key does not have the scope {scope}"),
        )
    }

    /// 404 for a path that leads nowhere.
    pub(crate) fn no_route() -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "no_route", "there is nothing at this path")
    }

    /// 404 for a job that is not there, or not of a kind that is asked for.
    pub(crate) fn no_job(id: &str) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", format!("job {id} does not exist"))
    }

    /// 404 for a tenant that is not there, or not for this caller.
    pub(crate) fn no_tenant() -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", "there is no such tenant")
    }

    /// 405.
    pub(crate) fn method(allowed: &str) -> Failure {
        let failure = Failure::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("this path takes {allowed}"),
        );
        match HeaderValue::from_str(allowed) {
            Ok(value) => failure.with(ALLOW, value),
            Err(_) => failure,
        }
    }

    /// 413. The rest of the body is not read, so that the connection ends.
    pub(crate) fn too_large(limit: &'static str, max: u64) -> Failure {
        let message = format!("the body is larger than {limit} of {max} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).closing()
    }

    /// 415.
    pub(crate) fn unsupported_type(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
            .closing()
    }

    /// 501.
    pub(crate) fn unsupported(message: &str) -> Failure {
        Failure::new(StatusCode::NOT_IMPLEMENTED, "unsupported", message)
    }

    /// 431.
    pub(crate) fn too_many_headers(max: usize) -> Failure {
        let message = format!("the request has more than headers_max of {max} headers");
        Failure::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers", message)
    }

    /// 500, whose reason is for the log alone.
    pub(crate) fn internal(inside: impl Display) -> Failure {
        let mut failure = Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed; its log says why, under this request's x-request-id",
        );
        failure.inside = Some(inside.to_string());
        failure
    }

    /// 503, to be tried again.
    pub(crate) fn busy(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).retry_after_ms(1_000)
    }

    /// The same as a code of gRPC.
    pub(crate) fn grpc_code(&self) -> Code {
        match self.status.as_u16() {
            _ if self.code == "cancelled" => Code::Cancelled,
            400 | 415 | 422 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            405 | 501 => Code::Unimplemented,
            409 => Code::AlreadyExists,
            408 | 503 => Code::Unavailable,
            413 | 429 | 431 | 507 => Code::ResourceExhausted,
            504 => Code::DeadlineExceeded,
            _ => Code::Internal,
        }
    }

    /// A header that goes with the answer.
    pub(crate) fn extra(&self) -> Option<&(HeaderName, HeaderValue)> {
        self.extra.as_deref()
    }

    pub(crate) fn closing(mut self) -> Failure {
        self.closes = true;
        self
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Failure {
        self.extra = Some(Box::new((name, value)));
        self
    }

    fn retry_after_ms(mut self, ms: u64) -> Failure {
        self.retry_ms = Some(ms.max(1));
        self.with(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)))
    }

    /// The answer that says it.
    pub(crate) fn reply(&self, style: Style) -> Reply {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: Option<&'a Value>,
        }
        let (error, code, details) = (&self.message[..], self.code, self.details.as_deref());
        let mut reply = match style {
            Style::OpenAi => self.openai_reply(),
            Style::Protocol => json_as(self.status, &Body { error, code: None, details: None }),
            Style::Manage => json_as(self.status, &Body { error, code: Some(code), details }),
        };
        if let Some(ms) = self.retry_ms {
            reply.headers_mut().insert(RETRY_AFTER_MS, HeaderValue::from(ms));
        }
        if let Some((name, value)) = self.extra.as_deref() {
            reply.headers_mut().insert(name, value.clone());
        }
        if self.closes {
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

impl Failure {
    fn openai_reply(&self) -> Reply {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            message: &'a str,
            r#type: &'a str,
            param: Option<&'a str>,
            code: &'a str,
        }
        let (r#type, code) = match self.status.as_u16() {
            401 => ("authentication_error", "invalid_api_key"),
            403 => ("permission_error", self.code),
            404 if self.code == "not_found" => ("invalid_request_error", "model_not_found"),
            429 => ("rate_limit_error", self.code),
            500.. => ("server_error", self.code),
            _ => ("invalid_request_error", self.code),
        };
        let error = Inner { message: &self.message, r#type, param: None, code };
        json_as(self.status, &Body { error })
    }
}

impl From<Bad> for Failure {
    fn from(bad: Bad) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad_request", bad.to_string())
    }
}

impl From<NotFound> for Failure {
    fn from(error: NotFound) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not_found", error.to_string())
    }
}

impl From<PredictError> for Failure {
    fn from(error: PredictError) -> Failure {
        use StatusCode as S;
        let say = |status, code| Failure::new(status, code, error.to_string());
        match &error {
            PredictError::NotFound(_) => say(S::NOT_FOUND, "not_found"),
            PredictError::Mismatch(_) => say(S::UNPROCESSABLE_ENTITY, "mismatch"),
            PredictError::TooManyRows { .. } => say(S::UNPROCESSABLE_ENTITY, "mismatch"),
            PredictError::Parameter { .. } => say(S::BAD_REQUEST, "bad_request"),
            PredictError::Timeout { .. } => say(S::GATEWAY_TIMEOUT, "timeout"),
            PredictError::Rate { retry_after_ms, .. } => {
                say(S::TOO_MANY_REQUESTS, "rate_limited").retry_after_ms(*retry_after_ms)
            }
            PredictError::QueueFull { .. } | PredictError::LineFull { .. } => {
                say(S::TOO_MANY_REQUESTS, "queue_full").retry_after_ms(1_000)
            }
            PredictError::Overloaded { retry_after_ms, .. } => {
                say(S::TOO_MANY_REQUESTS, "overloaded").retry_after_ms(*retry_after_ms)
            }
            PredictError::Sequences { .. } => say(S::TOO_MANY_REQUESTS, "limit_exceeded"),
            PredictError::QueueTimeout { .. } => {
                say(S::SERVICE_UNAVAILABLE, "queue_timeout").retry_after_ms(1_000)
            }
            PredictError::Draining => {
                say(S::SERVICE_UNAVAILABLE, "draining").retry_after_ms(1_000).closing()
            }
            PredictError::Breaker { retry_after_ms, .. } => {
                say(S::SERVICE_UNAVAILABLE, "model_resting").retry_after_ms(*retry_after_ms)
            }
            PredictError::NoRoom(_) => say(S::INSUFFICIENT_STORAGE, "limit_exceeded"),
            PredictError::BadAnswer(_) => say(S::INTERNAL_SERVER_ERROR, "model_error"),
            PredictError::Load(why) => Failure {
                inside: Some(why.clone()),
                ..Failure::new(
                    S::INTERNAL_SERVER_ERROR,
                    "model_unavailable",
                    "the model cannot be loaded; the server's log says why",
                )
            },
            PredictError::Guest(guest) => guest_failure(guest),
        }
    }
}

fn guest_failure(guest: &GuestError) -> Failure {
    use StatusCode as S;
    let say = |status, code| Failure::new(status, code, guest.to_string());
    match guest {
        GuestError::Refused(_) => say(S::UNPROCESSABLE_ENTITY, "refused"),
        GuestError::Failed(_) => say(S::INTERNAL_SERVER_ERROR, "model_error"),
        GuestError::Trap(_) => say(S::INTERNAL_SERVER_ERROR, "plugin_trap"),
        GuestError::Deadline { .. } => say(S::GATEWAY_TIMEOUT, "deadline"),
        GuestError::Limit { .. } => say(S::INTERNAL_SERVER_ERROR, "model_limit"),
        GuestError::Cancelled => say(S::SERVICE_UNAVAILABLE, "cancelled").retry_after_ms(1_000),
        GuestError::NoRoom { .. } => {
            say(S::SERVICE_UNAVAILABLE, "over_limit").retry_after_ms(1_000)
        }
        GuestError::Busy => say(S::SERVICE_UNAVAILABLE, "busy").retry_after_ms(1_000),
        GuestError::Host(_) => Failure::internal(guest),
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Failure {
        use StatusCode as S;
        let say = |status, code| Failure::new(status, code, error.to_string());
        match &error {
            CatalogError::NotFound { .. } => say(S::NOT_FOUND, "not_found"),
            CatalogError::Conflict { .. } => say(S::CONFLICT, "conflict"),
            CatalogError::LimitExceeded { limit: "upload_bytes_max", .. } => {
                say(S::PAYLOAD_TOO_LARGE, "limit_exceeded").closing()
            }
            CatalogError::LimitExceeded { limit: "uploads_max", .. } => {
                say(S::TOO_MANY_REQUESTS, "limit_exceeded").retry_after_ms(60_000)
            }
            // Bytes, versions, models: the tenant has to delete something first.
            CatalogError::LimitExceeded { .. } => {
                say(S::INSUFFICIENT_STORAGE, "limit_exceeded").closing()
            }
            CatalogError::WrongOffset { wanted, .. } => {
                say(S::CONFLICT, "wrong_offset").with(UPLOAD_OFFSET, (*wanted).into())
            }
            CatalogError::WrongDigest { .. } => say(S::UNPROCESSABLE_ENTITY, "wrong_digest"),
            CatalogError::DiskFull => Failure {
                inside: Some(error.to_string()),
                ..Failure::new(S::INSUFFICIENT_STORAGE, "disk_full", "the server's disk is full")
            },
            CatalogError::Corrupt { digest, .. } => Failure {
                inside: Some(error.to_string()),
                ..Failure::new(
                    S::INTERNAL_SERVER_ERROR,
                    "corrupt",
                    format!("the stored blob {digest} is damaged; send it again to mend it"),
                )
            },
            other => Failure::internal(other),
        }
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Failure {
        use StatusCode as S;
        let say = |status, code| Failure::new(status, code, error.to_string());
        if error.fault() == Fault::Host && !matches!(error, DeployError::Catalog(_)) {
            return Failure::internal(error);
        }
        match error {
            DeployError::Catalog(error) => error.into(),
            DeployError::Bundle(BundleError::TooLarge { .. }) => {
                say(S::PAYLOAD_TOO_LARGE, "too_large")
            }
            DeployError::Bundle(_) => say(S::BAD_REQUEST, "bad_bundle"),
            DeployError::Conflict { .. } => say(S::CONFLICT, "conflict"),
            DeployError::Breaks(ref breaks) => {
                let details = Some(Box::new(crate::manage::differences(breaks)));
                Failure { details, ..say(S::CONFLICT, "breaks_callers") }
            }
            DeployError::Device { .. } => say(S::UNPROCESSABLE_ENTITY, "no_device"),
            DeployError::Rejected(_) | DeployError::World(_) => {
                say(S::UNPROCESSABLE_ENTITY, "component_rejected")
            }
            DeployError::AssetMissing { .. } => say(S::UNPROCESSABLE_ENTITY, "asset_missing"),
            DeployError::AssetSize { .. }
            | DeployError::Asset { .. }
            | DeployError::Network { .. } => say(S::UNPROCESSABLE_ENTITY, "bad_asset"),
            DeployError::AssetMemory { .. } => say(S::INSUFFICIENT_STORAGE, "limit_exceeded"),
            DeployError::Compile(_) => say(S::UNPROCESSABLE_ENTITY, "compile_failed"),
            DeployError::Guest { .. } if error.fault() == Fault::Load => {
                say(S::SERVICE_UNAVAILABLE, "busy").retry_after_ms(1_000)
            }
            DeployError::Guest { .. } => say(S::UNPROCESSABLE_ENTITY, "model_failed"),
            DeployError::Signature(_) | DeployError::BadAnswer(_) => {
                say(S::UNPROCESSABLE_ENTITY, "bad_signature")
            }
            DeployError::Busy { .. } => say(S::TOO_MANY_REQUESTS, "busy").retry_after_ms(1_000),
            DeployError::Host(why) => Failure::internal(why),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Failure {
        use StatusCode as S;
        let say = |status, code| Failure::new(status, code, error.to_string());
        match error {
            TrainError::Catalog(error) => error.into(),
            TrainError::Deploy(error) => error.into(),
            TrainError::Guest(ref guest) if error.fault() == Fault::Load => guest_failure(guest),
            _ if error.fault() == Fault::Host => Failure::internal(error),
            TrainError::State { .. } | TrainError::InUse { .. } => say(S::CONFLICT, "conflict"),
            TrainError::Limit { limit: "upload_bytes_max", .. } => {
                say(S::PAYLOAD_TOO_LARGE, "limit_exceeded")
            }
            TrainError::Limit { .. } => say(S::INSUFFICIENT_STORAGE, "limit_exceeded"),
            _ => say(S::UNPROCESSABLE_ENTITY, error.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use innkeeper_tensor::Mismatch;

    use super::*;

    fn check(failure: impl Into<Failure>, status: u16, code: &str) -> Failure {
        let failure = failure.into();
        assert_eq!((failure.status.as_u16(), failure.code), (status, code), "{failure:?}");
        failure
    }

    #[test]
    fn the_table() {
        let twice = || Mismatch::Twice { kind: "input", name: "A".into() };
        let grpc = |failure: Failure| failure.grpc_code();
        assert_eq!(grpc(Failure::unauthorized("x")), Code::Unauthenticated);
        assert_eq!(grpc(Failure::missing_scope(Scope::Admin)), Code::PermissionDenied);
        assert_eq!(grpc(Failure::no_tenant()), Code::NotFound);
        assert_eq!(grpc(Failure::too_large("x", 1)), Code::ResourceExhausted);
        assert_eq!(grpc(Failure::internal("x")), Code::Internal);
        assert_eq!(grpc(PredictError::Mismatch(twice()).into()), Code::InvalidArgument);
        assert_eq!(grpc(PredictError::Draining.into()), Code::Unavailable);
        assert_eq!(
            grpc(PredictError::QueueFull { limit: 1, in_flight: 1 }.into()),
            Code::ResourceExhausted
        );
        assert_eq!(grpc(PredictError::Guest(GuestError::Cancelled).into()), Code::Cancelled);
        check(Bad::new("x"), 400, "bad_request");
        check(PredictError::Mismatch(twice()), 422, "mismatch");
        check(PredictError::BadAnswer(twice()), 500, "model_error");
        let limit = |limit| GuestError::Limit { limit, max: 1 };
        check(PredictError::Guest(GuestError::Trap("x".into())), 500, "plugin_trap");
        check(PredictError::Guest(limit("handles_max")), 500, "model_limit");
        let deadline = GuestError::Deadline { limit: "deadline_ms_max", max: 1 };
        assert_eq!(
            check(PredictError::Guest(deadline), 504, "deadline").grpc_code(),
            Code::DeadlineExceeded
        );
        check(PredictError::Guest(GuestError::Failed("x".into())), 500, "model_error");
        check(PredictError::Guest(GuestError::Refused("x".into())), 422, "refused");
        check(PredictError::Guest(GuestError::Busy), 503, "busy");
        check(PredictError::Guest(GuestError::Host("x".into())), 500, "internal");
        check(PredictError::Draining, 503, "draining");
        check(PredictError::TooManyRows { rows: 9, max: 8 }, 422, "mismatch");
        let problem = "x".to_owned();
        check(PredictError::Parameter { name: "priority", problem }, 400, "bad_request");
        check(PredictError::Sequences { limit: 1 }, 429, "limit_exceeded");
        let overloaded = PredictError::Overloaded { wait_ms: 9, limit: 5, retry_after_ms: 4 };
        check(overloaded, 429, "overloaded");
        check(PredictError::Timeout { timeout_us: 1 }, 504, "timeout");
        check(PredictError::Rate { limit: 1, retry_after_ms: 1 }, 429, "rate_limited");
        check(CatalogError::DiskFull, 507, "disk_full");
        let limit = |limit| CatalogError::LimitExceeded { limit, max: 1, got: 2 };
        check(limit("stored_bytes_max"), 507, "limit_exceeded");
        check(limit("versions_max"), 507, "limit_exceeded");
        check(limit("upload_bytes_max"), 413, "limit_exceeded");
        check(DeployError::World("x".into()), 422, "component_rejected");
        check(DeployError::Catalog(CatalogError::DiskFull), 507, "disk_full");
    }

    #[test]
    fn what_is_inside_stays_inside() {
        let secret = "/var/lib/innkeeper: SELECT";
        for failure in [
            check(PredictError::Guest(GuestError::Host(secret.into())), 500, "internal"),
            check(PredictError::Load(secret.into()), 500, "model_unavailable"),
            check(DeployError::Host(secret.into()), 500, "internal"),
            check(CatalogError::Damaged { what: secret.into() }, 500, "internal"),
        ] {
            assert!(failure.inside.as_ref().is_some_and(|inside| inside.contains(secret)));
            let body =
                failure.reply(Style::Manage).into_body().chunks().iter().next().cloned().unwrap();
            assert!(!String::from_utf8_lossy(&body).contains("SELECT"));
        }
    }

    #[test]
    fn headers_that_belong_to_a_status() {
        let header = |failure: Failure, name: HeaderName| {
            failure.reply(Style::Protocol).headers().get(name).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(header(Failure::unauthorized("x"), WWW_AUTHENTICATE), "Bearer");
        assert_eq!(header(Failure::method("GET, HEAD"), ALLOW), "GET, HEAD");
        let rate = PredictError::Rate { limit: 1, retry_after_ms: 1_500 };
        assert_eq!(header(rate.into(), RETRY_AFTER), "2");
        let rate = PredictError::Rate { limit: 1, retry_after_ms: 1_500 };
        assert_eq!(header(rate.into(), RETRY_AFTER_MS), "1500");
        assert_eq!(header(Failure::too_large("x", 1), CONNECTION), "close");
        let offset = CatalogError::WrongOffset { wanted: 7, got: 0 };
        assert_eq!(header(offset.into(), UPLOAD_OFFSET), "7");
    }

    #[test]
    fn the_protocols_body_holds_one_string() {
        let body = |style| {
            let reply = Failure::no_route().reply(style);
            reply.into_body().chunks()[0].clone()
        };
        assert_eq!(body(Style::Protocol), r#"{"error":"there is nothing at this path"}"#);
        assert_eq!(
            body(Style::OpenAi),
            concat!(
                r#"{"error":{"message":"there is nothing at this path","type":"invalid_request_error","#,
                r#""param":null,"code":"no_route"}}"#
            )
        );
        assert_eq!(
            body(Style::Manage),
            r#"{"error":"there is nothing at this path","code":"no_route"}"#
        );
    }
}
