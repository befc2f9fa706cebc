//! Content codings: gzip and deflate, in and out.

use std::collections::VecDeque;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::HeaderMap;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY};

use crate::body::Held;
use crate::error::Failure;
use crate::reply::Reply;

/// Smaller answers gain nothing.
const COMPRESSED_BYTES_MIN: usize = 1 << 10;
/// Work on more bytes than this leaves the threads that wait for the network.
pub(crate) const INLINE_BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, as HTTP means it.
    Deflate,
}

impl Coding {
    pub(crate) fn named(name: &str) -> Option<Coding> {
        let codings = [Coding::Gzip, Coding::Deflate];
        codings.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }
}

/// How many bytes one byte of DEFLATE data can stand for (RFC 1951: 258 for two bits).
const PACKED_AT_BEST: u64 = 1_032;

/// Undoes the body's content coding.
///
/// # Errors
/// 415 for another coding, 400 for broken data, 413 when it comes to more than `bytes_max`, which `limit` names.
pub(crate) async fn inflate(
    headers: &HeaderMap,
    held: Held,
    limit: &'static str,
    bytes_max: u64,
) -> Result<Held, Failure> {
    match content_coding(headers)? {
        Some(coding) => unpack(coding, held, limit, bytes_max).await,
        None => Ok(held),
    }
}

/// Undoes a coding.
///
/// # Errors
/// 400 for broken data, 413 when it comes to more than `bytes_max`, which `limit` names.
pub(crate) async fn unpack(
    coding: Coding,
    mut held: Held,
    limit: &'static str,
    bytes_max: u64,
) -> Result<Held, Failure> {
    // What may come is covered before it comes.
    let most = (held.bytes.len() as u64).saturating_mul(PACKED_AT_BEST).min(bytes_max);
    held.cover(usize::try_from(most).unwrap_or(usize::MAX))?;
    let packed = held.bytes.clone();
    // A few bytes can inflate to a thousand times as many, so this never runs where others wait.
    let plain =
        tokio::task::spawn_blocking(move || inflated(coding, &packed, limit, bytes_max)).await;
    held.replaced(plain.map_err(Failure::internal)??)
}

fn content_coding(headers: &HeaderMap) -> Result<Option<Coding>, Failure> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
    let name = value.to_str().unwrap_or("?").trim();
    if name.is_empty() || name.eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    let unknown = "Content-Encoding must be gzip, deflate or identity";
    Coding::named(name).map(Some).ok_or_else(|| Failure::unsupported_type(unknown))
}

fn inflated(
    coding: Coding,
    packed: &[u8],
    limit: &'static str,
    bytes_max: u64,
) -> Result<Bytes, Failure> {
    let mut plain = Vec::new();
    let cut = bytes_max.saturating_add(1);
    let read = match coding {
        Coding::Gzip => MultiGzDecoder::new(packed).take(cut).read_to_end(&mut plain),
        Coding::Deflate => ZlibDecoder::new(packed).take(cut).read_to_end(&mut plain),
    };
    if plain.len() as u64 > bytes_max {
        return Err(Failure::too_large(limit, bytes_max));
    }
    read.map_err(|error| Failure::bad_request(format!("the body does not inflate: {error}")))?;
    Ok(plain.into())
}

/// Packs the answer if the client takes it so and it is worth it.
pub(crate) async fn deflate(accept: Option<HeaderValue>, reply: Reply) -> Result<Reply, Failure> {
    let len = reply.body().len();
    let coding = accept.filter(|_| len > COMPRESSED_BYTES_MIN).and_then(|accept| chosen(&accept));
    let Some(coding) = coding else { return Ok(reply) };
    let (mut head, payload) = reply.into_parts();
    let work = move || packed(coding, payload.chunks());
    let packed = if len <= INLINE_BYTES_MAX {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(Failure::internal)?
    };
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    head.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Ok(Reply::from_parts(head, packed.map_err(Failure::internal)?.into()))
}

/// What the client says that it takes.
pub(crate) fn accepted(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ACCEPT_ENCODING).cloned()
}

/// The coding that the client likes best; gzip of two that it likes the same.
fn chosen(accept: &HeaderValue) -> Option<Coding> {
    let mut best = None;
    for item in accept.to_str().ok()?.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let Some(coding) = parts.next().and_then(Coding::named) else { continue };
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight = weight.map_or(1.0, |text| text.parse().unwrap_or(0.0));
        let better = best.is_none_or(|(than, other)| {
            weight > than || weight == than && other == Coding::Deflate
        });
        if weight > 0.0 && better {
            best = Some((weight, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

fn packed(coding: Coding, chunks: &VecDeque<Bytes>) -> std::io::Result<Vec<u8>> {
    fn write(mut encoder: impl Write, chunks: &VecDeque<Bytes>) -> std::io::Result<()> {
        chunks.iter().try_for_each(|chunk| encoder.write_all(chunk))
    }
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            write(&mut encoder, chunks)?;
            encoder.finish()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            write(&mut encoder, chunks)?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        packed(coding, &VecDeque::from([Bytes::copy_from_slice(bytes)])).unwrap()
    }

    #[test]
    fn both_codings_inflate() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let packed = pack(coding, b"hello");
            assert_eq!(inflated(coding, &packed, "x", 5).unwrap(), "hello");
        }
    }

    #[test]
    fn the_cap_applies_to_what_comes_out() {
        let bomb = pack(Coding::Gzip, &vec![0; 1 << 20]);
        assert!(bomb.len() < 20_000);
        let status = |max| {
            inflated(Coding::Gzip, &bomb, "body_bytes_max", max).map_err(|f| f.status.as_u16())
        };
        assert_eq!(status((1 << 20) - 1), Err(413));
        assert!(status(1 << 20).is_ok());
        for bad in [&bomb[..100], b"hello", b""] {
            assert!(inflated(Coding::Gzip, bad, "x", 1 << 30).is_err() || bad.is_empty());
        }
    }

    #[test]
    fn the_client_chooses() {
        let takes = |text| chosen(&HeaderValue::from_static(text)).map(Coding::name);
        let cases = [
            ("gzip", Some("gzip")),
            ("deflate, gzip", Some("gzip")),
            ("deflate, GZIP;q=0.5", Some("deflate")),
            ("br,gzip", Some("gzip")),
            ("gzip;q=0, deflate;q=0.1", Some("deflate")),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
            ("*", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(takes(text), wanted, "{text}");
        }
    }
}
