//! Content codings: gzip and deflate in, gzip out.

use std::collections::VecDeque;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::GzEncoder;
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
enum Coding {
    Gzip,
    Deflate,
}

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
    let Some(coding) = content_coding(headers)? else { return Ok(held) };
    let packed = held.bytes.clone();
    // A few bytes can inflate to a thousand times as many, so this never runs where others wait.
    let plain =
        tokio::task::spawn_blocking(move || inflated(coding, &packed, limit, bytes_max)).await;
    held.replaced(plain.map_err(Failure::internal)??)
}

fn content_coding(headers: &HeaderMap) -> Result<Option<Coding>, Failure> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
    let name = value.to_str().unwrap_or("?").trim();
    match name {
        _ if name.is_empty() || name.eq_ignore_ascii_case("identity") => Ok(None),
        _ if name.eq_ignore_ascii_case("gzip") => Ok(Some(Coding::Gzip)),
        _ if name.eq_ignore_ascii_case("deflate") => Ok(Some(Coding::Deflate)),
        _ => Err(Failure::unsupported_type("Content-Encoding must be gzip, deflate or identity")),
    }
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

/// Packs the answer with gzip if the client takes it and it is worth it.
pub(crate) async fn deflate(accept: Option<HeaderValue>, reply: Reply) -> Result<Reply, Failure> {
    let len = reply.body().len();
    if len <= COMPRESSED_BYTES_MIN || !accept.is_some_and(|accept| takes_gzip(&accept)) {
        return Ok(reply);
    }
    let (mut head, payload) = reply.into_parts();
    let work = move || packed(payload.chunks());
    let packed = if len <= INLINE_BYTES_MAX {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(Failure::internal)?
    };
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Ok(Reply::from_parts(head, packed.map_err(Failure::internal)?.into()))
}

/// What the client says that it takes.
pub(crate) fn accepted(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ACCEPT_ENCODING).cloned()
}

fn takes_gzip(accept: &HeaderValue) -> bool {
    let Ok(text) = accept.to_str() else { return false };
    text.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused =
            parts.filter_map(|part| part.strip_prefix("q=")).any(|q| q.parse() == Ok(0.0));
        is_gzip && !refused
    })
}

fn packed(chunks: &VecDeque<Bytes>) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for chunk in chunks {
        encoder.write_all(chunk)?;
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use flate2::write::ZlibEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        packed(&VecDeque::from([Bytes::copy_from_slice(bytes)])).unwrap()
    }

    #[test]
    fn both_codings_inflate() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"hello").unwrap();
        let zlib = encoder.finish().unwrap();
        assert_eq!(inflated(Coding::Deflate, &zlib, "x", 5).unwrap(), "hello");
        assert_eq!(inflated(Coding::Gzip, &gzip(b"hello"), "x", 5).unwrap(), "hello");
    }

    #[test]
    fn the_cap_applies_to_what_comes_out() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(bomb.len() < 10_000);
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
    fn gzip_only_for_those_who_ask() {
        let takes = |text| takes_gzip(&HeaderValue::from_static(text));
        assert!(takes("gzip") && takes("deflate, GZIP;q=0.5") && takes("br,gzip"));
        assert!(!takes("deflate") && !takes("gzip;q=0") && !takes("*") && !takes(""));
    }
}
