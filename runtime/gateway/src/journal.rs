//! One line in the log for each request, and the request's id.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use innkeeper_catalog::TenantName;
use innkeeper_predict::{Deployment, Timeline};
use opentelemetry::KeyValue;

use crate::error::Failure;
use crate::traces::{Trace, Traces};

/// The header of the id, both ways.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header of an answer that names the version which gave it, also where that was an error.
pub(crate) const X_INNKEEPER_VERSION: HeaderName = HeaderName::from_static("x-innkeeper-version");

/// Longer ids of clients are not taken over.
const ID_BYTES_MAX: usize = 128;
/// What nginx made customary for a client that went away before its answer.
const CLIENT_GONE: u16 = 499;

/// Makes request ids: unique in this process, and by chance in all others.
#[derive(Debug)]
pub(crate) struct Ids {
    prefix: u64,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Ids {
        // The standard library's hasher is seeded from the system's randomness: enough for a name.
        Ids { prefix: RandomState::new().build_hasher().finish(), next: AtomicU64::new(1) }
    }

    /// The client's id if it is a sane one, else a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = headers.get(X_REQUEST_ID)
            && is_sane(id.as_bytes())
        {
            return id.clone();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = [b'0'; 24];
        hex(&mut text[..12], self.prefix);
        hex(&mut text[12..], number);
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("none"))
    }
}

/// Writes the low digits of `value`.
fn hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn is_sane(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.iter().all(plain)
}

/// What is known of a request, written down when it ends, however it ends.
pub(crate) struct Entry {
    /// The request's id.
    pub(crate) id: HeaderValue,
    /// Who asked.
    pub(crate) tenant: Option<TenantName>,
    /// What was asked for.
    pub(crate) deployment: Option<Arc<Deployment>>,
    method: Method,
    began: Instant,
    status: Option<StatusCode>,
    /// Where the request is traced: its trace, and what it is called there.
    trace: Option<(Trace, Cow<'static, str>)>,
}

impl Entry {
    /// The entry of a request that begins now, which is traced where `traces` say so.
    pub(crate) fn new(
        id: HeaderValue,
        method: Method,
        headers: &HeaderMap,
        traces: Option<&Traces>,
    ) -> Entry {
        let trace = traces.map(|traces| (traces.begin(headers), Cow::Borrowed("request")));
        let began = Instant::now();
        Entry { id, tenant: None, deployment: None, method, began, status: None, trace }
    }

    /// Names the request by what it is, where it is traced: `name` must be one of few.
    pub(crate) fn named(&mut self, name: impl FnOnce() -> String) {
        if let Some((_, named)) = &mut self.trace {
            *named = Cow::Owned(name());
        }
    }

    /// Where a prediction leaves when it passed its stations.
    pub(crate) fn timeline(&self) -> Option<Timeline> {
        self.trace.as_ref().and_then(|(trace, _)| trace.timeline())
    }

    /// The headers by which a caller finds the trace.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if let Some((trace, _)) = &self.trace {
            trace.tell(headers);
        }
    }

    fn end_trace(&self) {
        let Some((trace, name)) = &self.trace else { return };
        let status = self.status.map_or(CLIENT_GONE, |status| status.as_u16());
        let mut said = vec![
            KeyValue::new("http.request.method", self.method.as_str().to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("innkeeper.request_id", self.id().to_owned()),
        ];
        if let Some(tenant) = &self.tenant {
            said.push(KeyValue::new("innkeeper.tenant", tenant.to_string()));
        }
        if let Some(deployment) = &self.deployment {
            said.push(KeyValue::new("innkeeper.owner", deployment.model.owner.to_string()));
            said.push(KeyValue::new("innkeeper.model", deployment.model.name.to_string()));
            said.push(KeyValue::new("innkeeper.version", deployment.version.to_string()));
        }
        trace.end(name.to_string(), self.status.unwrap_or(StatusCode::OK), said);
    }

    /// The id as text.
    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or("")
    }

    /// The version that was asked, as a header's value.
    pub(crate) fn version(&self) -> Option<HeaderValue> {
        let deployment = self.deployment.as_ref()?;
        HeaderValue::from_str(deployment.version.as_str()).ok()
    }

    /// Notes how the request was answered.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Writes down what only the log may know.
    pub(crate) fn failed(&self, failure: &Failure) {
        if let Some(inside) = &failure.inside {
            tracing::error!(request_id = self.id(), code = failure.code, "{inside}");
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end_trace();
        // Successes are many and interest few; everything else is worth a line.
        let is_success = self.status.is_some_and(|status| status.is_success());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request_id = self.id(),
                    tenant = self.tenant.as_ref().map(TenantName::as_str),
                    model = self.deployment.as_ref().map(|d| d.model.name.as_str()),
                    owner = self.deployment.as_ref().map(|d| d.model.owner.as_str()),
                    version = self.deployment.as_ref().map(|d| d.version.as_str()),
                    method = self.method.as_str(),
                    status = self.status.map_or(CLIENT_GONE, |status| status.as_u16()),
                    micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
                    "request"
                )
            };
        }
        if is_success { line!(debug) } else { line!(info) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_or_the_clients_own() {
        let ids = Ids::new();
        let of = |id: Option<&'static str>| {
            let headers = id.map(|id| (X_REQUEST_ID, HeaderValue::from_static(id)));
            ids.of(&headers.into_iter().collect()).to_str().unwrap().to_owned()
        };
        assert_eq!(of(Some("abc-1/2:x")), "abc-1/2:x");
        assert_ne!(of(None), of(None));
        for bad in ["", "a b", "{}", "a\"b"] {
            assert_eq!(of(Some(bad)).len(), 24, "{bad:?}");
        }
        let mut text = [0; 4];
        hex(&mut text, 0xabcdef);
        assert_eq!(&text, b"cdef");
    }
}
