//! What a model has written, kept for its owner.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// One message of a guest, or of the host about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Counts up from 1 over the model's lines, so that a reader can ask for what is new.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// The version that wrote it.
    pub version: String,
    /// The request it was answering, empty outside of one.
    pub request_id: String,
    /// `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// What it wrote.
    pub message: String,
}

/// Which messages of its models a tenant keeps. What the host says about a model is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevels {
    /// `debug`.
    pub debug: bool,
    /// `info`.
    pub info: bool,
    /// `warn`.
    pub warn: bool,
    /// `error`.
    pub error: bool,
}

impl Default for LogLevels {
    fn default() -> LogLevels {
        LogLevels { debug: true, info: true, warn: true, error: true }
    }
}

/// The latest lines of one model, bounded in bytes. They are kept in memory and end with the process.
#[derive(Debug, Default)]
pub struct Logs(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    bytes: u64,
    seq: u64,
}

/// What a line costs beside its texts.
const LINE_BYTES: u64 = 64;

fn bytes_of(line: &LogLine) -> u64 {
    LINE_BYTES + (line.message.len() + line.request_id.len() + line.version.len()) as u64
}

impl Logs {
    /// Adds a line; the oldest go until all fit into `bytes_max`.
    pub fn push(
        &self,
        version: &str,
        request_id: &str,
        level: &'static str,
        message: &str,
        bytes_max: u64,
    ) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.seq += 1;
        let line = LogLine {
            seq: ring.seq,
            time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            version: version.into(),
            request_id: request_id.into(),
            level,
            message: message.into(),
        };
        ring.bytes += bytes_of(&line);
        ring.lines.push_back(line);
        while ring.bytes > bytes_max {
            let Some(oldest) = ring.lines.pop_front() else { break };
            ring.bytes -= bytes_of(&oldest);
        }
    }

    /// The first `max` lines after number `seq`.
    pub fn since(&self, seq: u64, max: usize) -> Vec<LogLine> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.lines.iter().filter(|line| line.seq > seq).take(max).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_make_room() {
        let logs = Logs::default();
        for i in 0..100 {
            logs.push("1", "", "info", &format!("line {i}"), 1_000);
        }
        let lines = logs.since(0, 1_000);
        assert!(lines.len() < 20);
        assert_eq!(lines.last().unwrap().message, "line 99");
        assert_eq!(logs.since(99, 10).len(), 1);
        assert!(logs.since(100, 10).is_empty());
    }

    #[test]
    fn a_line_that_alone_is_too_long_is_not_kept() {
        let logs = Logs::default();
        logs.push("1", "", "info", &"x".repeat(2_000), 1_000);
        assert!(logs.since(0, 10).is_empty());
    }
}
