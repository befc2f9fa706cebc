//! HTTP/1.1 by hand, for what no client library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::harness::{Answer, Client};

/// No answer takes longer, not even on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    /// What came and was not taken yet.
    unread: Vec<u8>,
}

/// How a connection went on.
#[derive(Debug)]
pub(crate) enum Next {
    /// With an answer.
    Answer(Answer),
    /// It ended.
    Closed,
    /// Nothing came in time.
    Silent,
}

/// The text of a request.
pub(crate) fn request(
    key: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    if !key.is_empty() {
        text += &format!("authorization: Bearer {key}\r\n");
    }
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        text += &format!("content-length: {}\r\n", body.len());
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

impl Wire {
    /// A new connection to the client's server.
    pub(crate) fn open(client: &Client) -> Wire {
        Wire::connect(&client.url).unwrap()
    }

    /// A new connection, if the server takes it.
    pub(crate) fn connect(url: &str) -> std::io::Result<Wire> {
        let stream =
            TcpStream::connect(url.trim_start_matches("http://").trim_start_matches("https://"))?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, unread: Vec::new() })
    }

    /// Sends bytes, as far as the server takes them: one that has refused need not read on.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next answer.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        match self.next(PATIENCE) {
            Next::Answer(answer) => answer,
            other => panic!("wanted an answer, got {other:?}"),
        }
    }

    /// What comes next, an answer without a body for `HEAD` excepted.
    pub(crate) fn next(&mut self, within: Duration) -> Next {
        let give_up = Instant::now() + within;
        loop {
            if let Some(answer) = self.take() {
                return Next::Answer(answer);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Silent;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut part = [0; 64 << 10];
            match self.stream.read(&mut part) {
                Ok(0) => return Next::Closed,
                Ok(len) => self.unread.extend_from_slice(&part[..len]),
                Err(error) if is_timeout(error.kind()) => return Next::Silent,
                Err(_) => return Next::Closed,
            }
        }
    }

    /// Whether the connection ends, whatever comes before that.
    pub(crate) fn ends(&mut self, within: Duration) -> bool {
        let give_up = Instant::now() + within;
        let mut part = [0; 64 << 10];
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut part) {
                Ok(0) => return true,
                Ok(len) => self.unread.extend_from_slice(&part[..len]),
                Err(error) => return !is_timeout(error.kind()),
            }
        }
    }

    /// Everything that comes until the connection ends.
    pub(crate) fn rest(&mut self, within: Duration) -> Vec<u8> {
        assert!(self.ends(within), "it goes on");
        std::mem::take(&mut self.unread)
    }

    /// A whole answer, if it is there.
    fn take(&mut self) -> Option<Answer> {
        let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let len = headers.iter().find(|(name, _)| name == "content-length");
        let len: usize = len.map_or(Some(0), |(_, value)| value.parse().ok())?;
        let rest = self.unread.get(end + 4..end + 4 + len)?.to_vec();
        self.unread.drain(..end + 4 + len);
        Some(Answer { status, headers, body: rest })
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
