//! A request on its way: what every try of it needs.

use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use onceward_http::{Body, FreshConnection, Operation};

use super::PassThrough;
use super::body::Progress;
use super::fault::Failed;
use super::http1::Returning;
use super::http2::Streaming;
use super::lent::Lent;
use super::names::Names;
use super::settings::{Protocol, UpstreamSettings};
use crate::network::Dial;
use crate::upgrade::Upgrade;
use crate::upstream::Refusal;

/// A request as it was asked for, before it is rewritten for one upstream.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) parts: Parts,
    pub(super) body: Lent,
    pub(super) progress: Arc<Progress>,
    pub(super) pass_through: bool,
    /// Take no connection that was used before.
    pub(super) fresh: bool,
    /// The record of an operation.
    pub(super) record: Option<[u8; 32]>,
    pub(super) upgrade: Option<Upgrade>,
}

impl Asked {
    pub(super) fn new(mut request: Request<Body>, protocol: Protocol) -> Self {
        let pass_through = request.extensions_mut().remove::<PassThrough>().is_some();
        let fresh = request.extensions_mut().remove::<FreshConnection>().is_some();
        let record = request.extensions().get::<Operation>().map(|it| *it.record.as_bytes());
        let upgrade = match protocol {
            Protocol::Auto | Protocol::Http1 if pass_through => Upgrade::take(&mut request),
            Protocol::Auto | Protocol::Http1 | Protocol::H2c | Protocol::H2 => None,
        };
        let progress = Progress::new();
        let (parts, body) = request.into_parts();
        // The body of an operation is in memory, so keeping it for another try costs nothing.
        let body = Lent::new(body, !pass_through, Arc::clone(&progress));
        Self { parts, body, progress, pass_through, fresh, record, upgrade }
    }
}

/// What a try needs, whoever it goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange<'a> {
    pub(super) asked: &'a Asked,
    pub(super) settings: &'a UpstreamSettings,
    pub(super) names: &'a Names,
    pub(super) dial: &'a Dial,
    pub(super) progress: &'a Progress,
}

/// A response head, and what its body comes over.
pub(super) type Answered = (Response<Incoming>, Over);

/// What a body comes over, for as long as it comes.
#[derive(Debug)]
pub(super) enum Over {
    /// A connection that is kept for others, or is not.
    Http1(#[expect(dead_code, reason = "dropping it puts the connection back")] Option<Returning>),
    /// A stream of a connection that others use, too.
    Http2(#[expect(dead_code, reason = "dropping it frees the stream's place")] Streaming),
}

/// Why a try gave no response head.
#[derive(Debug, Clone, Copy)]
pub(super) enum Missed {
    /// The request is one that nobody should see.
    Refused(Refusal),
    Failed(Failed),
}

impl From<Failed> for Missed {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}
