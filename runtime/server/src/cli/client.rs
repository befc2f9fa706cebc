//! Speaks HTTP to a server, and makes failures of its answers.

use std::time::Duration;

use anyhow::Result;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request, header::AUTHORIZATION};
use ureq::{Agent, AsSendBody};

use super::args::Host;
use super::output;
use crate::failure::{Code, Failure};

/// Bytes of an answer that are read, so that no server fills this machine's memory.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// Compiling is the longest that a server does before it answers.
const ANSWER_WAIT: Duration = Duration::from_secs(300);

/// One server, and the key for it.
pub(super) struct Client {
    agent: Agent,
    base: String,
    key: Option<String>,
}

/// What a server said.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Client {
    pub(super) fn new(host: &Host) -> Result<Client> {
        let base = host.url.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            let text =
                format!("{:?} is no server; wanted a URL like http://127.0.0.1:8000", host.url);
            return Err(Failure::usage(text).into());
        }
        let key = host.key.clone().filter(|key| !key.is_empty());
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(ANSWER_WAIT))
            .build();
        Ok(Client { agent: agent.into(), base, key })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, &[], ())?.success()?.json()
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.send_json(Method::POST, path, body)?.success()?.json()
    }

    pub(super) fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.send_json(Method::PUT, path, body)?.success().map(drop)
    }

    pub(super) fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, &[], ())?.success().map(drop)
    }

    fn send_json(&self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        self.send(method, path, &[("content-type", "application/json")], body.to_string())
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(self.url(path));
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| {
            Failure::usage(format!(
                "{} is no URL: {error}; look at --url and --key",
                self.url(path)
            ))
        })?;
        let mut response = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body })
    }

    /// A stream of events, to be read as it comes.
    pub(super) fn stream(&self, path: &str) -> Result<impl std::io::Read + use<>> {
        let mut request = self.agent.get(self.url(path)).header("accept", "text/event-stream");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let mut response = request.call().map_err(|error| self.unreachable(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if !(200..300).contains(&status) {
            let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
            let body = body.map_err(|error| self.unreachable(&error))?;
            return Err(Answer { status, headers, body }.failure().into());
        }
        Ok(response.into_body().into_reader())
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let text = format!(
            "no answer from {}: {error}; is `innkeeper serve` running there? --url or INNKEEPER_URL says where",
            self.base
        );
        Failure::new(Code::Unreachable, text)
    }
}

impl Answer {
    /// The answer, if its status says that it worked.
    pub(super) fn success(self) -> Result<Answer> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.failure().into()) }
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let text = format!(
                "the server's answer cannot be read ({error}); is it an Innkeeper of this version?"
            );
            Failure::new(Code::Failed, text).into()
        })
    }

    fn failure(&self) -> Failure {
        let said: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let mut text = match said["error"].as_str() {
            Some(text) => text.to_owned(),
            None => format!("the server answered {}", self.status),
        };
        if let Some(differences) = said["details"]["differences"].as_array() {
            text += &format!("\n\n{}", table(differences));
        }
        let text = match self.status {
            401 => format!("{text}; --key or INNKEEPER_KEY says the key"),
            _ => text,
        };
        Failure::new(code(self.status, said["code"].as_str().unwrap_or_default()), text)
    }
}

/// What would break callers, tensor by tensor.
fn table(differences: &[Value]) -> String {
    let row = |difference: &Value| {
        ["kind", "name", "problem", "was", "is"]
            .map(|column| output::one_line(difference[column].as_str().unwrap_or_default()))
            .to_vec()
    };
    let rows: Vec<Vec<String>> = differences.iter().map(row).collect();
    output::table(&["", "NAME", "PROBLEM", "WAS", "WOULD BE"], &rows)
}

fn code(status: u16, name: &str) -> Code {
    match status {
        401 | 403 => Code::Denied,
        404 => Code::NotFound,
        409 => Code::Conflict,
        413 | 429 | 507 => Code::Limit,
        _ if name.contains("limit") => Code::Limit,
        _ => Code::Failed,
    }
}

/// A name as one segment of a path: a `/` in it must not lead elsewhere.
pub(super) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for &byte in name.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    // A dot or two alone would be taken for a folder.
    if text.bytes().all(|byte| byte == b'.') { text.replace('.', "%2E") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(url: &str) -> Host {
        Host { url: url.into(), key: None }
    }

    #[test]
    fn answers_become_exit_codes() {
        let cases = [
            (401, r#"{"error":"no key"}"#, Code::Denied, "no key; --key"),
            (
                404,
                r#"{"error":"model x does not exist","code":"not_found"}"#,
                Code::NotFound,
                "model x",
            ),
            (409, "{}", Code::Conflict, "answered 409"),
            (413, r#"{"error":"over"}"#, Code::Limit, "over"),
            (422, r#"{"error":"over","code":"limit_exceeded"}"#, Code::Limit, "over"),
            (500, "<html>", Code::Failed, "answered 500"),
        ];
        for (status, body, wanted, text) in cases {
            let answer = Answer { status, headers: HeaderMap::new(), body: body.into() };
            let error = answer.success().map(drop).unwrap_err();
            assert_eq!(crate::failure::code_of(&error), wanted, "{status} {body}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn names_stay_in_their_place() {
        assert_eq!(segment("digits-1.0"), "digits-1.0");
        assert_eq!(segment("../x y"), "..%2Fx%20y");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn nobody_there_is_told_from_nothing_there() {
        assert!(Client::new(&host("localhost:8000")).is_err());
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(&host(&format!("http://127.0.0.1:{port}/"))).unwrap();
        let error = client.get::<Value>("/v2").unwrap_err();
        assert_eq!(crate::failure::code_of(&error), Code::Unreachable);
    }
}
