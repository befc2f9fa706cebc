//! Sends large blobs in pieces, and goes on where a connection broke.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use indicatif::ProgressBar;
use innkeeper_catalog::Digest;
use serde::Deserialize;
use ureq::http::Method;

use super::client::Client;
use crate::failure::{Code, code_of};

/// Bytes of one piece: what is sent again when a connection breaks.
const PIECE_BYTES: usize = 4 << 20;
/// Breaks in a row after which nobody is there.
const BREAKS_MAX: u32 = 5;

#[derive(Deserialize)]
struct Upload {
    upload: String,
}

#[derive(Deserialize)]
struct Offset {
    offset: u64,
}

/// Whether the tenant has sent this blob before.
pub(super) fn has(client: &Client, digest: &Digest) -> Result<bool> {
    let answer = client.send(Method::HEAD, &format!("/api/v1/blobs/{digest}"), &[], ())?;
    match answer.status {
        404 => Ok(false),
        _ => answer.success().map(|_| true),
    }
}

/// Sends a blob.
pub(super) fn send(
    client: &Client,
    digest: &Digest,
    blob: &Bytes,
    bar: &ProgressBar,
) -> Result<()> {
    let began = client.send(Method::POST, "/api/v1/uploads", &[], ())?.success()?;
    let path = format!("/api/v1/uploads/{}", began.json::<Upload>()?.upload);
    let before = bar.position();
    let mut offset = 0;
    let mut breaks = 0;
    while offset < blob.len() {
        let piece = &blob[offset..blob.len().min(offset + PIECE_BYTES)];
        match append(client, &path, offset, piece) {
            Ok(()) => {
                offset += piece.len();
                breaks = 0;
            }
            Err(error) if code_of(&error) == Code::Unreachable && breaks < BREAKS_MAX => {
                breaks += 1;
                sleep(Duration::from_millis(200 << breaks));
                offset = resume(client, &path, offset);
            }
            Err(error) => return Err(error),
        }
        bar.set_position(before + offset as u64);
    }
    client.send(Method::PUT, &format!("{path}?digest={digest}"), &[], ())?.success().map(drop)
}

fn append(client: &Client, path: &str, offset: usize, piece: &[u8]) -> Result<()> {
    let offset = offset.to_string();
    let headers =
        [("upload-offset", offset.as_str()), ("content-type", "application/octet-stream")];
    client.send(Method::PATCH, path, &headers, piece)?.success().map(drop)
}

/// How far the server got; where it does not answer, as far as was known.
fn resume(client: &Client, path: &str, known: usize) -> usize {
    let offset = client.get::<Offset>(path).map(|answer| answer.offset);
    offset.ok().and_then(|offset| usize::try_from(offset).ok()).unwrap_or(known)
}
