//! Large blobs, sent in parts that can be taken up again.

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use innkeeper_catalog::{Digest, Scope, UploadId, UploadLimits};
use serde::Serialize;

use super::{no_query, segment};
use crate::app::Exchange;
use crate::body::Parts;
use crate::error::{Failure, UPLOAD_OFFSET};
use crate::query::Query;
use crate::reply::{Reply, json, json_as};

/// How much is collected before it is written: each write waits for the disk.
const CHUNK_BYTES: usize = 4 << 20;

#[derive(Serialize)]
struct Upload<'a> {
    upload: &'a str,
    offset: u64,
}

#[derive(Serialize)]
struct Blob {
    digest: String,
    size: u64,
}

fn limits(at: Exchange<'_>) -> UploadLimits {
    let limits = at.app.predictor.limits(&at.caller.tenant);
    UploadLimits {
        stored_bytes_max: limits.stored_bytes_max,
        upload_bytes_max: limits.upload_bytes_max,
        uploads_max: at.app.config.uploads_max,
    }
}

fn answer(status: StatusCode, id: &UploadId, offset: u64) -> Reply {
    let mut reply = json_as(status, &Upload { upload: id.as_str(), offset });
    reply.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(offset));
    reply
}

fn own_upload(at: Exchange<'_>, upload: &str) -> Result<UploadId, Failure> {
    at.caller.require(Scope::Publish)?;
    segment(upload)
}

/// `POST /api/v1/uploads`
pub(super) async fn begin(at: Exchange<'_>) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let id = at.app.catalog.begin_upload(&at.caller.tenant, &limits(at)).await?;
    Ok(answer(StatusCode::CREATED, &id, 0))
}

/// `GET /api/v1/uploads/{id}`
pub(super) async fn offset(at: Exchange<'_>, upload: &str) -> Result<Reply, Failure> {
    let id = own_upload(at, upload)?;
    no_query(at)?;
    let offset = at.app.catalog.upload_offset(&at.caller.tenant, &id).await?;
    Ok(answer(StatusCode::OK, &id, offset))
}

/// `PATCH /api/v1/uploads/{id}`: the body goes on at `Upload-Offset`. What has been written stays when the body breaks
/// off.
pub(super) async fn append(
    at: Exchange<'_>,
    upload: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    let id = own_upload(at, upload)?;
    no_query(at)?;
    let offset =
        at.parts.headers.get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok()?.parse().ok());
    let offset = offset.ok_or_else(|| {
        Failure::bad_request(
            "Upload-Offset must say at which byte the body goes on; GET the upload to know",
        )
        .closing()
    })?;
    let mut parts = Parts::new(body, at.app.config.body_idle_ms);
    let limits = limits(at);
    if parts.declared().is_some_and(|len| len > limits.upload_bytes_max) {
        return Err(Failure::too_large("upload_bytes_max", limits.upload_bytes_max));
    }
    // Memory is set aside for uploads that there are, and not for whoever names one.
    at.app.catalog.upload_offset(&at.caller.tenant, &id).await?;
    let _room = at.app.budget.of(&at.caller.tenant).take(CHUNK_BYTES)?;
    let mut writer = Writer { at, id: &id, limits, offset, chunk: BytesMut::new() };
    loop {
        match parts.next().await {
            Ok(Some(part)) => writer.push(part).await?,
            Ok(None) => break,
            Err(failure) => {
                // What came before it broke off need not be sent again.
                writer.flush().await?;
                return Err(failure);
            }
        }
    }
    writer.flush().await?;
    Ok(answer(StatusCode::OK, &id, writer.offset))
}

struct Writer<'a> {
    at: Exchange<'a>,
    id: &'a UploadId,
    limits: UploadLimits,
    offset: u64,
    chunk: BytesMut,
}

impl Writer<'_> {
    async fn push(&mut self, part: Bytes) -> Result<(), Failure> {
        self.chunk.extend_from_slice(&part);
        if self.chunk.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Also when there is nothing, so that a wrong offset is found.
    async fn flush(&mut self) -> Result<(), Failure> {
        let chunk = self.chunk.split().freeze();
        let tenant = &self.at.caller.tenant;
        let appended =
            self.at.app.catalog.append(tenant, self.id, self.offset, chunk, &self.limits).await;
        self.offset = appended.map_err(|error| Failure::from(error).closing())?;
        Ok(())
    }
}

/// `PUT /api/v1/uploads/{id}?digest=sha256:...`
pub(super) async fn finish(at: Exchange<'_>, upload: &str) -> Result<Reply, Failure> {
    let id = own_upload(at, upload)?;
    let query = Query::read(at.parts.uri.query(), &["digest"])?;
    let digest: Option<Digest> = query.one("digest")?;
    let digest =
        digest.ok_or_else(|| Failure::bad_request("say what it should be: ?digest=sha256:..."))?;
    let size = at.app.catalog.finish_upload(&at.caller.tenant, &id, &digest).await?;
    Ok(json_as(StatusCode::CREATED, &Blob { digest: digest.to_string(), size }))
}

/// `DELETE /api/v1/uploads/{id}`
pub(super) async fn cancel(at: Exchange<'_>, upload: &str) -> Result<Reply, Failure> {
    let id = own_upload(at, upload)?;
    no_query(at)?;
    at.app.catalog.cancel_upload(&at.caller.tenant, &id).await?;
    Ok(crate::reply::empty(StatusCode::NO_CONTENT))
}

/// `HEAD /api/v1/blobs/{digest}`: whether this tenant has sent it; another's does not count.
pub(super) async fn blob(at: Exchange<'_>, digest: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let digest: Digest = segment(digest)?;
    match at.app.catalog.has_blob(&at.caller.tenant, &digest).await? {
        Some(size) => Ok(json(&Blob { digest: digest.to_string(), size })),
        None => {
            Err(Failure::new(StatusCode::NOT_FOUND, "not_found", "this blob has not been uploaded"))
        }
    }
}
