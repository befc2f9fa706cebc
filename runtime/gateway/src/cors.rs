//! Which other sites' pages may call from a browser (the Fetch standard's CORS protocol).

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};

use crate::reply::{Reply, empty};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// What pages may send beside what every page may.
const SENT: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, content-encoding, inference-header-content-length, traceparent, tracestate, \
     upload-offset, x-request-id",
);
/// What pages may read beside what every page may.
const READ: HeaderValue = HeaderValue::from_static(
    "inference-header-content-length, retry-after, upload-offset, x-request-id",
);
const ANY: HeaderValue = HeaderValue::from_static("*");

/// Which pages may call. By default none may.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Sites as browsers name them, such as `https://app.example`; `*` is any.
    pub origins: Vec<String>,
    /// Whether pages may let the browser add what it keeps for this server. Keys and tokens are sent by the page
    /// itself and need nothing of it.
    pub credentials: bool,
    /// Seconds for which a browser need not ask again.
    pub max_age_s: u64,
}

impl Cors {
    /// The answer to a browser that asks whether a page may send its request; `None` for any other request, and where
    /// the page may not.
    pub(crate) fn preflight(&self, parts: &Parts) -> Option<Reply> {
        if parts.method != Method::OPTIONS
            || !parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        self.allowed(&parts.headers)?;
        let mut reply = empty(StatusCode::NO_CONTENT);
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age_s.into());
        Some(reply)
    }

    /// Lets a page read the answer, if it may.
    pub(crate) fn allow(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        // A cache must not give one site's answer to another.
        answer.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = self.allowed(request) else { return };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        if self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes()) {
            return Some(origin.clone());
        }
        let any = !self.credentials && self.origins.iter().any(|known| known == "*");
        any.then_some(ANY)
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            credentials,
            max_age_s: 60,
        }
    }

    fn asked(origin: &str) -> Parts {
        let request = Request::builder().method(Method::OPTIONS).header(ORIGIN, origin);
        let request = request.header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_pages_that_may_are_let_in() {
        let site = "https://app.example";
        let cases: [(Cors, &str, Option<&str>); 7] = [
            (cors(&[], false), site, None),
            (cors(&[site], false), site, Some(site)),
            (cors(&[site], true), site, Some(site)),
            (cors(&[site], false), "https://app.example.evil", None),
            (cors(&[site], false), "null", None),
            (cors(&["*"], false), "https://any.example", Some("*")),
            (cors(&["*"], true), "https://any.example", None),
        ];
        for (cors, origin, wanted) in cases {
            let parts = asked(origin);
            assert_eq!(cors.preflight(&parts).is_some(), wanted.is_some(), "{origin}");
            let mut answer = HeaderMap::new();
            cors.allow(&parts.headers, &mut answer);
            let got = answer.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
            assert_eq!(got, wanted, "{origin}");
            assert_eq!(answer.contains_key(VARY), !cors.origins.is_empty());
            let with = answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS);
            assert_eq!(with, cors.credentials && wanted.is_some());
        }
    }

    #[test]
    fn other_requests_are_no_preflights() {
        let cors = cors(&["https://app.example"], false);
        let mut parts = asked("https://app.example");
        parts.method = Method::POST;
        assert!(cors.preflight(&parts).is_none());
        parts.method = Method::OPTIONS;
        parts.headers.remove(ACCESS_CONTROL_REQUEST_METHOD);
        assert!(cors.preflight(&parts).is_none());
    }
}
