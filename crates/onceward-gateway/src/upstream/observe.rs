//! What can be learned about each upstream: events as they happen, and the state now.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::fault::Fault;

/// Hears what happens at each upstream. It is called on the path of requests, so it must be quick.
pub trait UpstreamObserver: fmt::Debug + Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: UpstreamEvent<'_>);
}

/// Something happened at the upstream called `url`: its URL in one spelling, with the port and without
/// user name, password or query, fit for a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamEvent<'a> {
    /// A try to get a response head ended. One request may be tried at several upstreams.
    Ended {
        /// Which upstream.
        url: &'a str,
        /// How it ended.
        outcome: UpstreamOutcome,
        /// How long it took.
        elapsed: Duration,
        /// Requests in flight there now, this one included.
        in_flight: usize,
    },
    /// It gets no requests for a while.
    Ejected {
        /// Which upstream.
        url: &'a str,
        /// For how long.
        pause: Duration,
    },
    /// It gets requests again.
    Returned {
        /// Which upstream.
        url: &'a str,
    },
    /// It was passed over because it has as many requests in flight as it may have.
    Full {
        /// Which upstream.
        url: &'a str,
    },
}

/// How a try at one upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamOutcome {
    /// A response head came.
    Answered(StatusCode),
    /// The upstream vouched that it did not process the request.
    NotProcessed,
    /// None came.
    Failed(Fault),
    /// The caller left before, or the request could not be sent to anybody.
    GivenUp,
}

/// An upstream as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamState {
    /// Its URL in one spelling, as in [`UpstreamEvent`].
    pub url: String,
    /// Requests in flight, from their choice to the end of their response.
    pub in_flight: usize,
    /// How many requests in a row have failed.
    pub failures: u32,
    /// How long it is ejected still (zero: a request or a check is to find out whether it is well again);
    /// None: it is not.
    pub ejected_for: Option<Duration>,
}
