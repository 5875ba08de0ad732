//! A stored HTTP answer: status, header lines in order, body and trailers, as bytes and back.
//!
//! Layout: format version (1 byte), status (2), then header lines, trailer lines and the body, each text
//! behind its length (4 bytes). The record around it carries the checksum.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, DATE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use onceward_core::Answer;

use crate::body::Body;
use crate::hop::strip_hop_by_hop;
use crate::outcome::{Outcome, Reason};
use crate::problem::Ours;

/// `Idempotent-Replayed`: marks a replay.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// `Onceward-Outcome`: how an upstream overrules the status lists.
pub const ONCEWARD_OUTCOME: HeaderName = HeaderName::from_static("onceward-outcome");

const KIND_WHOLE: &str = "http";
const KIND_NOT_KEPT: &str = "http-not-kept";
const FORMAT: u8 = 1;

/// A whole answer, ready to be stored or replayed.
#[derive(Debug, Clone)]
pub(crate) struct StoredAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) body: Bytes,
    /// What the application said of the outcome on the first run. Not stored.
    pub(crate) said: Option<Outcome>,
    /// Why the service says that nobody knows. Not stored.
    pub(crate) reason: Option<Reason>,
    /// Whether the service behind speaks for Onceward and not for the application. Not stored.
    pub(crate) is_ours: bool,
}

/// What a stored answer turned out to be.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and taken apart once a replay")]
pub(crate) enum Read {
    Whole(StoredAnswer),
    NotKept,
    Unreadable,
}

impl StoredAnswer {
    pub(crate) fn to_answer(&self) -> Answer {
        let mut out = BytesMut::with_capacity(256 + self.body.len());
        out.put_u8(FORMAT);
        out.put_u16(self.status.as_u16());
        put_lines(&mut out, Some(&self.headers));
        put_lines(&mut out, self.trailers.as_ref());
        out.put_slice(&self.body);
        Answer::new(KIND_WHOLE, out.freeze())
    }

    /// The answer of an operation that is done and whose answer is not kept.
    pub(crate) fn not_kept() -> Answer {
        Answer::new(KIND_NOT_KEPT, Bytes::new())
    }

    pub(crate) fn read(answer: &Answer) -> Read {
        Self::read_lines(answer, |_| true)
    }

    /// The same for a repeat: without the lines that belong to the moment when the answer was made, and those to
    /// `drop`.
    pub(crate) fn read_for_replay(answer: &Answer, drop: &[HeaderName]) -> Read {
        Self::read_lines(answer, |name| *name != DATE && !drop.contains(name))
    }

    fn read_lines(answer: &Answer, keep: impl Fn(&HeaderName) -> bool) -> Read {
        let read = |bytes| read_whole(bytes, keep);
        match &*answer.kind {
            KIND_WHOLE => answer.bytes().ok().and_then(read).map_or(Read::Unreadable, Read::Whole),
            KIND_NOT_KEPT => Read::NotKept,
            _ => Read::Unreadable,
        }
    }

    /// The answer as the first caller gets it.
    pub(crate) fn first(self) -> Response<Body> {
        let mut response = Response::new(Body::whole(self.body, self.trailers));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if self.is_ours {
            response.extensions_mut().insert(Ours);
        }
        response
    }

    /// The answer as a repeat gets it: marked. It was [read for that](Self::read_for_replay).
    pub(crate) fn replay(self) -> Response<Body> {
        let mut response = self.first();
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// The answer to store for an operation that is known to have given this response.
///
/// For operators that resolve a record by hand. Hop-by-hop header lines are left out.
#[must_use]
pub fn stored_answer(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Answer {
    strip_hop_by_hop(&mut headers);
    headers.remove(CONTENT_LENGTH);
    StoredAnswer { status, headers, trailers: None, body, said: None, reason: None, is_ours: false }
        .to_answer()
}

/// What the application says of the outcome, taken out of the response together with everything that no
/// client may see or that belongs to one connection only.
pub(crate) fn strip_first_run(headers: &mut HeaderMap) -> Option<Outcome> {
    let said = headers.get(ONCEWARD_OUTCOME).map(|it| match it.as_bytes().to_ascii_lowercase().as_slice() {
        b"store" => Outcome::Store,
        b"release" => Outcome::Release,
        b"unknown" => Outcome::Unknown,
        // A misspelt word was meant to overrule something; nobody knows what, so nothing is decided for it.
        _ => {
            tracing::warn!("Onceward-Outcome is none of store, release, unknown: taken as unknown");
            Outcome::Unknown
        }
    });
    keep_lines(headers, |name| *name != ONCEWARD_OUTCOME && *name != IDEMPOTENT_REPLAYED);
    said
}

/// Keeps the lines of the fields that `keep` likes, in their order. `HeaderMap::remove` would put the last field in the
/// place of the one that goes.
pub fn keep_lines(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    if headers.keys().all(&keep) {
        return;
    }
    let all = std::mem::take(headers);
    headers.reserve(all.keys_len());
    let mut kept = None;
    for (name, value) in all {
        // Only the first line of a field comes with its name.
        if let Some(name) = name {
            kept = keep(&name).then_some(name);
        }
        if let Some(name) = &kept {
            headers.append(name, value);
        }
    }
}

/// Drops a length that the answer's framing will not have: behind trailers the body is chunked.
pub(crate) fn fit_length(answer: &mut StoredAnswer) {
    if answer.trailers.is_some() {
        keep_lines(&mut answer.headers, |name| *name != CONTENT_LENGTH);
    } else {
        keep_lines(&mut answer.headers, |name| *name != TRAILER);
    }
}

fn put_lines(out: &mut BytesMut, lines: Option<&HeaderMap>) {
    // u32::MAX stands for "none at all", which differs from an empty set.
    out.put_u32(lines.map_or(u32::MAX, |it| u32::try_from(it.len()).unwrap_or(u32::MAX - 1)));
    for (name, value) in lines.into_iter().flatten() {
        put_text(out, name.as_str().as_bytes());
        put_text(out, value.as_bytes());
    }
}

fn put_text(out: &mut BytesMut, text: &[u8]) {
    out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.put_slice(text);
}

fn read_whole(input: Bytes, keep: impl Fn(&HeaderName) -> bool) -> Option<StoredAnswer> {
    let mut input = Input { bytes: &input, at: 0 };
    if input.take(1)? != [FORMAT] {
        return None;
    }
    let status = u16::from_be_bytes(input.take(2)?.try_into().ok()?);
    let status = StatusCode::from_u16(status).ok()?;
    let headers = input.lines(keep)??;
    let trailers = input.lines(|_| true)?;
    let body = input.bytes.slice(input.at..);
    Some(StoredAnswer { status, headers, trailers, body, said: None, reason: None, is_ours: false })
}

/// The most lines that room is made for before they are read. There may be more.
const LINES_FORESEEN: usize = 64;

/// What is still to be read of a stored answer. Values and body share its bytes.
struct Input<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Input<'_> {
    fn lines(&mut self, keep: impl Fn(&HeaderName) -> bool) -> Option<Option<HeaderMap>> {
        let count = self.u32()?;
        if count == u32::MAX {
            return Some(None);
        }
        // One more, for the mark of a replay.
        let room = usize::try_from(count).ok()?.min(LINES_FORESEEN) + 1;
        let mut lines = HeaderMap::with_capacity(room);
        for _ in 0..count {
            let name = HeaderName::from_bytes(self.text()?).ok()?;
            let start = self.at + 4;
            let end = start + self.text()?.len();
            let value = HeaderValue::from_maybe_shared(self.bytes.slice(start..end)).ok()?;
            if keep(&name) {
                lines.append(name, value);
            }
        }
        Some(Some(lines))
    }

    fn text(&mut self) -> Option<&[u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(trailers: Option<HeaderMap>) -> StoredAnswer {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", b"a=1".as_slice()),
            ("set-cookie", b"b=2"),
            ("location", b"/payments/1"),
            ("x-latin", b"\xe9"),
            ("date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        StoredAnswer {
            status: StatusCode::CREATED,
            headers,
            trailers,
            body: Bytes::from_static(b"\x00\xff\xfe"),
            said: None,
            reason: None,
            is_ours: false,
        }
    }

    #[test]
    fn an_answer_reads_back_with_every_line_in_order() {
        for trailers in [None, Some(HeaderMap::new()), Some(sample(None).headers)] {
            let stored = sample(trailers);
            let Read::Whole(read) = StoredAnswer::read(&stored.to_answer()) else { panic!("unreadable") };
            assert_eq!(read.status, stored.status);
            assert_eq!(read.body, stored.body);
            assert_eq!(read.trailers, stored.trailers);
            assert!(read.headers.iter().eq(stored.headers.iter()));
        }
    }

    #[test]
    fn a_cut_or_foreign_answer_is_unreadable() {
        let mut stored = sample(None);
        stored.body = Bytes::new();
        let good = stored.to_answer().bytes().unwrap();
        for len in 0..good.len() {
            assert!(matches!(StoredAnswer::read(&Answer::new("http", good.slice(..len))), Read::Unreadable));
        }
        assert!(matches!(StoredAnswer::read(&Answer::new("json", good)), Read::Unreadable));
        assert!(matches!(StoredAnswer::read(&StoredAnswer::not_kept()), Read::NotKept));
    }

    #[test]
    fn lines_that_stay_keep_their_order_and_their_fields_keep_all_of_them() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-a", "1"), ("x-b", "1"), ("x-c", "1"), ("x-c", "2"), ("x-b", "2"), ("x-d", "1")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        keep_lines(&mut headers, |name| name != "x-b");
        let lines: Vec<_> = headers.iter().map(|it| (it.0.as_str(), it.1.to_str().unwrap())).collect();
        assert_eq!(lines, [("x-a", "1"), ("x-c", "1"), ("x-c", "2"), ("x-d", "1")]);
    }

    #[test]
    fn a_replay_keeps_the_order_of_the_lines() {
        let mut stored = sample(None);
        stored.headers = HeaderMap::new();
        for (name, value) in [
            ("x-a", "1"),
            ("date", "now"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
            ("x-b", "2"),
            ("x-c", "3"),
        ] {
            stored.headers.append(name, value.parse().unwrap());
        }
        let drop = [HeaderName::from_static("x-b")];
        let Read::Whole(read) = StoredAnswer::read_for_replay(&stored.to_answer(), &drop) else {
            panic!("unreadable")
        };
        let replay = read.replay();
        let lines: Vec<_> =
            replay.headers().iter().map(|it| (it.0.as_str(), it.1.to_str().unwrap())).collect();
        assert_eq!(
            lines,
            [
                ("x-a", "1"),
                ("set-cookie", "a"),
                ("set-cookie", "b"),
                ("x-c", "3"),
                ("idempotent-replayed", "true")
            ]
        );
    }
}
