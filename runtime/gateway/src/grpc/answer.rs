//! Answers: messages, and the status behind them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Response};
use innkeeper_predict::PredictError;
use prost::Message;
use tonic::{Code, Status};

use super::frame::PREFIX_BYTES;
use crate::error::Failure;

/// One framed message, in parts.
pub(crate) type Framed = VecDeque<Bytes>;

/// What goes out behind the headers.
pub(crate) enum Answer {
    /// Parts of a message and the status, or nothing where the headers have it.
    Whole(Framed, Option<HeaderMap>),
    /// Messages as they are made, up to the failure that ends them, if one does.
    Stream(Pin<Box<dyn Stream<Item = Result<Framed, Failure>> + Send>>, Framed),
    /// What another implementation makes, until it is to end.
    Other(tonic::body::Body, Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut *self {
            Answer::Whole(parts, status) => match parts.pop_front() {
                Some(part) => Some(Frame::data(part)),
                None => status.take().map(Frame::trailers),
            },
            Answer::Stream(stream, parts) => {
                let frame = ready!(poll_stream(stream, parts, context));
                if frame.is_trailers() {
                    *self = Answer::Whole(Framed::new(), None);
                }
                Some(frame)
            }
            Answer::Other(body, ends) => match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Err(status))) => Some(Frame::trailers(trailers(&status))),
                Poll::Ready(other) => other.and_then(Result::ok),
                Poll::Pending => {
                    ready!(ends.as_mut().poll(context));
                    *self = Answer::Whole(Framed::new(), None);
                    Some(Frame::trailers(failed(&PredictError::Draining.into())))
                }
            },
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Whole(parts, None) if parts.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn poll_stream(
    stream: &mut Pin<Box<dyn Stream<Item = Result<Framed, Failure>> + Send>>,
    parts: &mut Framed,
    context: &mut Context<'_>,
) -> Poll<Frame<Bytes>> {
    loop {
        if let Some(part) = parts.pop_front() {
            return Poll::Ready(Frame::data(part));
        }
        match ready!(stream.as_mut().poll_next(context)) {
            Some(Ok(message)) => *parts = message,
            Some(Err(failure)) => return Poll::Ready(Frame::trailers(failed(&failure))),
            None => return Poll::Ready(Frame::trailers(succeeded())),
        }
    }
}

/// A message as it goes over the wire.
pub(crate) fn framed(message: &impl Message) -> Framed {
    let len = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + len);
    prefix(&mut bytes, len);
    // There is room: it was just made.
    message.encode_raw(&mut bytes);
    Framed::from([bytes.freeze()])
}

/// What stands before a message of this length.
pub(crate) fn prefix(bytes: &mut BytesMut, len: usize) {
    bytes.put_u8(0);
    // Outputs are limited far below this.
    bytes.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// The answer with these contents.
pub(crate) fn response(answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The answer that is this message.
pub(crate) fn success(message: Framed) -> Response<Answer> {
    response(Answer::Whole(message, Some(succeeded())))
}

/// The answer that says what went wrong, in its headers.
pub(crate) fn failure(failure: &Failure) -> Response<Answer> {
    let mut response = response(Answer::Whole(Framed::new(), None));
    response.headers_mut().extend(failed(failure));
    response
}

fn succeeded() -> HeaderMap {
    HeaderMap::from_iter([(
        hyper::header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )])
}

fn failed(failure: &Failure) -> HeaderMap {
    let mut headers = trailers(&Status::new(failure.grpc_code(), failure.message.as_str()));
    if let Some((name, value)) = failure.extra() {
        headers.insert(name, value.clone());
    }
    headers
}

fn trailers(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if status.add_header(&mut headers).is_err() {
        // The text has no form in a header; the code always has one.
        let _ = Status::new(status.code(), "").add_header(&mut headers);
    }
    debug_assert!(headers.contains_key("grpc-status") || status.code() == Code::Ok);
    headers
}
