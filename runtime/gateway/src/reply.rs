//! Answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use innkeeper_tensor::Buffer;
use serde::Serialize;
use tokio::sync::mpsc;

/// An answer.
pub(crate) type Reply = Response<Payload>;

/// The bytes of an answer: none, one run or several, and what is still to come.
#[derive(Debug, Default)]
pub(crate) struct Payload(VecDeque<Bytes>, Option<Box<mpsc::Receiver<Bytes>>>);

/// How JSON is labelled.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Payload {
    /// What comes as it comes.
    pub(crate) fn stream(receiver: mpsc::Receiver<Bytes>) -> Payload {
        Payload(VecDeque::new(), Some(Box::new(receiver)))
    }

    pub(crate) fn chunks(&self) -> &VecDeque<Bytes> {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

/// A tensor's bytes, to be sent from where they lie.
pub(crate) struct Shared(pub(crate) Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<VecDeque<Bytes>> for Payload {
    fn from(mut chunks: VecDeque<Bytes>) -> Payload {
        chunks.retain(|chunk| !chunk.is_empty());
        Payload(chunks, None)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        VecDeque::from([Bytes::from(bytes)]).into()
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(chunk) = self.0.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match &mut self.1 {
            Some(receiver) => {
                receiver.poll_recv(context).map(|chunk| chunk.map(|c| Ok(Frame::data(c))))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty() && self.1.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.1 {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.len() as u64),
        }
    }
}

/// 200 with a JSON body.
pub(crate) fn json(value: &impl Serialize) -> Reply {
    json_as(StatusCode::OK, value)
}

/// A JSON body under any status.
pub(crate) fn json_as(status: StatusCode, value: &impl Serialize) -> Reply {
    // What is answered are structs and string-keyed maps of ours, which always have a JSON form.
    let text = serde_json::to_vec(value).unwrap_or_default();
    with_type(status, JSON, text.into())
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Payload::default());
    *reply.status_mut() = status;
    reply
}

/// Any body.
pub(crate) fn with_type(status: StatusCode, content_type: HeaderValue, payload: Payload) -> Reply {
    let mut reply = Response::new(payload);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}
