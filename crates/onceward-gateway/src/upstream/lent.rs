//! The body of a request, lent to one connection after another until one of them takes it for good.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use onceward_http::{Body, BoxError};

use super::body::Progress;

/// Owns the body while connections read it.
#[derive(Debug)]
pub(super) struct Lent {
    passing: Arc<Mutex<Passing>>,
    progress: Arc<Progress>,
    /// How many bytes it has, if that is known.
    length: Option<u64>,
}

#[derive(Debug)]
struct Passing {
    rest: Body,
    /// What has been read, if it is to be read again.
    read: Vec<Bytes>,
    /// How many of the pieces in `read` this reader has got.
    next: usize,
    /// Whether pieces are remembered. They cost nothing where the body is in memory anyway.
    remembers: bool,
    /// Whether a piece went out that is not remembered.
    spent: bool,
    /// The number of the reader; those before it get nothing more.
    reader: u32,
}

impl Lent {
    /// With `remembers` the body can be lent again even after it was read: for bodies that are in memory.
    pub(super) fn new(body: Body, remembers: bool, progress: Arc<Progress>) -> Self {
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let passing = Passing { rest: body, read: Vec::new(), next: 0, remembers, spent: false, reader: 0 };
        Self { passing: Arc::new(Mutex::new(passing)), progress, length }
    }

    /// How many bytes it has, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The whole body, for a connection to read; None: part of it is gone. Who had it before gets no more.
    pub(super) fn lend(&self) -> Option<RequestBody> {
        let mut passing = lock(&self.passing);
        if passing.spent {
            return None;
        }
        passing.next = 0;
        passing.reader += 1;
        let (passing_by, progress) = (Arc::clone(&self.passing), Arc::clone(&self.progress));
        Some(RequestBody { passing: passing_by, progress, reader: passing.reader })
    }

    /// Whether it can be lent once more.
    pub(super) fn is_whole(&self) -> bool {
        !lock(&self.passing).spent
    }
}

/// The body of a request on its way to one connection. Its trailers are dropped: few upstreams expect any, and
/// a header that was checked at the door must not be amended behind it.
#[derive(Debug)]
pub(super) struct RequestBody {
    passing: Arc<Mutex<Passing>>,
    progress: Arc<Progress>,
    reader: u32,
}

/// The request went to another connection.
#[derive(Debug, thiserror::Error)]
#[error("the request is sent over another connection")]
struct TakenBack;

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut passing = lock(&self.passing);
        if passing.reader != self.reader {
            return Poll::Ready(Some(Err(TakenBack.into())));
        }
        if let Some(piece) = passing.read.get(passing.next).cloned() {
            passing.next += 1;
            self.progress.mark();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let polled = Pin::new(&mut passing.rest).poll_frame(cx);
        self.progress.wait_for_client(matches!(polled, Poll::Pending | Poll::Ready(Some(Err(_)))));
        let frame = ready!(polled);
        self.progress.mark();
        match &frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(piece) if passing.remembers => {
                    passing.read.push(piece.clone());
                    passing.next += 1;
                }
                Some(_) => passing.spent = true,
                None => {}
            },
            Some(Err(_)) => passing.spent = true,
            None => {}
        }
        Poll::Ready(frame.filter(|it| !it.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        let passing = lock(&self.passing);
        passing.next >= passing.read.len() && passing.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let passing = lock(&self.passing);
        let again: u64 = passing.read.iter().skip(passing.next).map(|it| it.len() as u64).sum();
        let rest = passing.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(again + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(again + upper);
        }
        hint
    }
}

fn lock(passing: &Mutex<Passing>) -> MutexGuard<'_, Passing> {
    passing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn lent(body: Body, remembers: bool) -> Lent {
        Lent::new(body, remembers, Progress::new())
    }

    fn stream() -> Body {
        Body::stream(http_body_util::Full::new(Bytes::from_static(b"pay")))
    }

    async fn text(body: RequestBody) -> Result<Bytes, String> {
        body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|it| it.to_string())
    }

    #[tokio::test]
    async fn a_remembered_body_is_whole_for_every_reader() {
        let lent = lent(stream(), true);
        for _ in 0..3 {
            let reader = lent.lend().unwrap();
            assert_eq!((reader.size_hint().exact(), reader.is_end_stream()), (Some(3), false));
            assert_eq!(text(reader).await.unwrap(), "pay");
            assert_eq!(lent.length(), Some(3));
        }
    }

    #[tokio::test]
    async fn a_stream_can_be_lent_until_it_is_read() {
        let lent = lent(stream(), false);
        let first = lent.lend().unwrap();
        let second = lent.lend().unwrap();
        assert!(text(first).await.is_err(), "a body went to two connections");
        assert!(lent.is_whole());
        assert_eq!(text(second).await.unwrap(), "pay");
        assert!(!lent.is_whole() && lent.lend().is_none());
    }

    #[tokio::test]
    async fn an_empty_body_can_be_lent_for_ever() {
        let lent = lent(Body::empty(), false);
        for _ in 0..2 {
            assert_eq!(text(lent.lend().unwrap()).await.unwrap(), "");
        }
    }
}
