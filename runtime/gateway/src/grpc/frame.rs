//! gRPC's framing: messages one behind the other, each after a byte that says whether it is packed, and its length.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::{HeaderMap, StatusCode};

use crate::body::{BODY_BYTES_MAX, Held, Parts, Share};
use crate::coding::{Coding, unpack};
use crate::error::Failure;

/// How a client packs its messages.
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The byte and the length, a u32.
pub(crate) const PREFIX_BYTES: usize = 5;
/// How often a message that rests between two others is looked after.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The messages of one call, as they come in.
pub(crate) struct Messages {
    incoming: Incoming,
    idle_ms: u64,
    share: Share,
    coding: Option<Coding>,
    /// What came and belongs to no message yet.
    unread: Bytes,
}

impl Messages {
    /// The messages in `incoming`, within a tenant's share of the memory for bodies.
    ///
    /// # Errors
    /// 501 for a way of packing that is not known here.
    pub(crate) fn new(
        headers: &HeaderMap,
        incoming: Incoming,
        idle_ms: u64,
        share: Share,
    ) -> Result<Messages, Failure> {
        let coding = coding(headers)?;
        Ok(Messages { incoming, idle_ms, share, coding, unread: Bytes::new() })
    }

    /// The one message of a call that has one.
    ///
    /// # Errors
    /// As [`Messages::next`]; 400 when there is none or another.
    pub(crate) async fn only(&mut self, bytes_max: u64) -> Result<Held, Failure> {
        let wrong = || Failure::bad_request("this call takes one message, no more and no less");
        let message = self.next(bytes_max, Duration::from_millis(self.idle_ms)).await?;
        let message = message.ok_or_else(wrong)?;
        if self.unread.is_empty()
            && Parts::new(&mut self.incoming, self.idle_ms).next().await?.is_none()
        {
            return Ok(message);
        }
        Err(wrong())
    }

    /// The next message of a call that has many, however long it takes until it begins; `None` after the last.
    ///
    /// # Errors
    /// 413 for a message of more than `bytes_max` bytes, 408 when it stops coming in its midst, 400 when it breaks off
    /// or cannot be unpacked, 503 when there is no memory for it.
    pub(crate) async fn following(&mut self, bytes_max: u64) -> Result<Option<Held>, Failure> {
        self.next(bytes_max, FOR_EVER).await
    }

    async fn next(&mut self, bytes_max: u64, rest: Duration) -> Result<Option<Held>, Failure> {
        while self.unread.len() < PREFIX_BYTES {
            let wait = if self.unread.is_empty() { rest } else { self.idle() };
            match Parts::waiting(&mut self.incoming, wait).next().await? {
                Some(part) => self.unread = joined(&self.unread, part),
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(broken_off()),
            }
        }
        let packed = self.unread.get_u8();
        let len = self.unread.get_u32() as usize;
        if len as u64 > bytes_max {
            return Err(Failure::too_large(BODY_BYTES_MAX, bytes_max));
        }
        let message = self.whole(len).await?;
        match (packed, self.coding) {
            (0, _) => Ok(Some(message)),
            (1, Some(coding)) => unpack(coding, message, BODY_BYTES_MAX, bytes_max).await.map(Some),
            _ => Err(Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "bad_frame",
                format!(
                    "a message is marked as packed by {packed}; wanted 0, or 1 and a grpc-encoding"
                ),
            )),
        }
    }

    /// So many bytes: where they lie if they came in one part, else put together in one copy.
    async fn whole(&mut self, len: usize) -> Result<Held, Failure> {
        let mut held = Held::uncounted(Bytes::new(), &self.share);
        if self.unread.len() >= len {
            held.cover(len)?;
            return held.replaced(self.unread.split_to(len));
        }
        let mut parts = vec![std::mem::take(&mut self.unread)];
        let mut came = parts[0].len();
        while came < len {
            let part = Parts::new(&mut self.incoming, self.idle_ms).next().await?;
            let part = part.ok_or_else(broken_off)?;
            came += part.len();
            // The parts, and the whole that they become.
            held.cover(2 * came)?;
            parts.push(part);
        }
        let mut whole = BytesMut::with_capacity(len);
        for mut part in parts {
            let rest = part.split_off(part.len().min(len - whole.len()));
            whole.extend_from_slice(&part);
            self.unread = rest;
        }
        held.replaced(whole.freeze())
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}

fn joined(front: &Bytes, part: Bytes) -> Bytes {
    if front.is_empty() { part } else { [&front[..], &part].concat().into() }
}

fn broken_off() -> Failure {
    Failure::bad_request("the call broke off in the midst of a message")
}

fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Failure> {
    let Some(value) = headers.get(GRPC_ENCODING) else { return Ok(None) };
    let name = value.to_str().unwrap_or("?").trim();
    if name.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    Coding::named(name).map(Some).ok_or_else(|| {
        let text = "grpc-encoding must be gzip, deflate or identity";
        Failure::new(StatusCode::NOT_IMPLEMENTED, "unimplemented", text)
    })
}

/// How long the client waits, from `grpc-timeout`.
///
/// # Errors
/// 400 for what is no time.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let read = || {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let number: u64 = digits.parse().ok().filter(|_| plain)?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    let wanted = "grpc-timeout must be up to eight digits and one of H, M, S, m, u and n";
    read().map(Some).ok_or_else(|| Failure::bad_request(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_has_them() {
        let read = |text: &'static str| {
            let headers = [(HeaderName::from_static("grpc-timeout"), text.parse().unwrap())];
            timeout(&headers.into_iter().collect()).map_err(|failure| failure.status.as_u16())
        };
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
        for (text, wanted) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text), Ok(Some(wanted)), "{text}");
        }
        for bad in ["", "S", "5", "-5S", "5 S", "5s", "123456789S", "1.5S"] {
            assert_eq!(read(bad), Err(400), "{bad:?}");
        }
    }
}
