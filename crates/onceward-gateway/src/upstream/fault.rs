//! What is said when the upstream gave no response head.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use onceward_http::{Body, Outcome, Problem, Reason};

/// Why no response of the upstream came back. Found in the extensions of the response that stands in for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No connection, or provably nothing of the request was processed.
    Unreachable,
    /// The request was sent, at least in part, and the connection ended or spoke nonsense.
    Broken,
    /// The request was sent and no response head came in time.
    TimedOut,
}

impl Fault {
    /// An operation is told what it means for its key. A request that passes through asked for no key, so it
    /// gets the plain words of any proxy.
    pub(crate) fn response(self, pass_through: bool) -> Response<Body> {
        let mut response = match (self, pass_through) {
            (Self::Unreachable | Self::Broken, true) => plain(StatusCode::BAD_GATEWAY, "bad gateway\n"),
            (Self::TimedOut, true) => plain(StatusCode::GATEWAY_TIMEOUT, "gateway timeout\n"),
            (Self::Unreachable, false) => {
                with_outcome(Problem::UpstreamUnreachable.response(), Outcome::Release)
            }
            (Self::Broken | Self::TimedOut, false) => {
                with_outcome(Problem::OutcomeUnresolved.response(), Outcome::Unknown)
            }
        };
        response.extensions_mut().insert(self);
        response.extensions_mut().insert(Reason(self.reason()));
        response
    }

    /// What happened, in words for operators.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Unreachable => "the upstream could not be reached",
            Self::Broken => "the connection to the upstream broke before an answer came",
            Self::TimedOut => "the upstream did not answer in time",
        }
    }
}

/// How a try on one connection ended without a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The connection was gone before a byte was written: another one may do.
    Unsent,
    /// The upstream vouches that it did not process the request.
    NotProcessed,
    /// There is nothing more to try here.
    Ended(Fault),
}

impl Failed {
    /// What it means for the request when nobody else is tried.
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Unsent | Self::NotProcessed => Fault::Unreachable,
            Self::Ended(fault) => fault,
        }
    }
}

/// Every upstream that could be tried has as many requests in flight as it may have. Nothing was sent.
pub(super) fn all_full(pass_through: bool) -> Response<Body> {
    let mut response = Problem::Overloaded.response();
    response.extensions_mut().insert(Reason("every upstream has as many requests in flight as it may have"));
    if pass_through { response } else { with_outcome(response, Outcome::Release) }
}

/// A request that no upstream should see. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// More than one `Host` line, or one that is not a host: two readers could take it for two hosts.
    BadHost,
    /// `CONNECT` asks for a forward proxy, and this is none.
    Connect,
    /// With the prefix of the upstream in front, the target is longer than a request line may be.
    TooLong,
}

impl Refusal {
    pub(crate) fn response(self) -> Response<Body> {
        let response = match self {
            Self::BadHost => plain(StatusCode::BAD_REQUEST, "one valid host is needed\n"),
            Self::TooLong => plain(StatusCode::URI_TOO_LONG, "the path is too long\n"),
            Self::Connect => plain(StatusCode::NOT_IMPLEMENTED, "CONNECT is not available\n"),
        };
        with_outcome(response, Outcome::Release)
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn with_outcome(mut response: Response<Body>, outcome: Outcome) -> Response<Body> {
    response.extensions_mut().insert(outcome);
    response
}
