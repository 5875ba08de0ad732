//! Reads a body into memory, up to a bound.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;

use crate::body::{Body, BoxError};

/// What became of reading a body.
#[derive(Debug)]
pub(crate) enum Captured {
    /// It came whole.
    Whole { body: Bytes, trailers: Option<HeaderMap> },
    /// It is longer than the bound: what was read so far, and the rest as it comes.
    TooLong(Body),
    /// It was cut off.
    Cut,
}

/// Reads `body` to its end, or until more than `max_bytes` have come.
pub(crate) async fn capture<B>(mut body: B, max_bytes: u64) -> Captured
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Captured::Cut };
        match frame.into_data() {
            Ok(data) => {
                // Most bodies come in one piece and are kept without a copy.
                if first.is_empty() {
                    first = data;
                } else {
                    more.extend_from_slice(&data);
                }
                if (first.len() + more.len()) as u64 > max_bytes {
                    let read = join(first, more);
                    return Captured::TooLong(Body::stream(Prefixed { read: Some(read), rest: body }));
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    Captured::Whole { body: join(first, more), trailers }
}

fn join(first: Bytes, more: BytesMut) -> Bytes {
    if more.is_empty() { first } else { [first, more.freeze()].concat().into() }
}

/// What was read already, then the rest.
struct Prefixed<B> {
    read: Option<Bytes>,
    rest: B,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Prefixed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.read.take() {
            Some(read) => std::task::Poll::Ready(Some(Ok(Frame::data(read)))),
            None => std::pin::Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}
