//! What the layer made of a request, for whoever counts and logs: an extension of each response.

use std::sync::Arc;

use onceward_core::RecordId;

use crate::route::Route;

/// What a request turned out to be. One word each, the same in metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// Not an operation: passed through.
    PassThrough,
    /// An operation that ran; its answer is stored.
    FirstRun,
    /// An operation that ran and freed its key: nothing happened.
    Released,
    /// An operation whose outcome is unknown.
    Unknown,
    /// An operation that ran and whose answer is not kept.
    Oversize,
    /// An operation that ran and whose answer could not be stored in time.
    NotStored,
    /// A repeat that got the stored answer.
    Replay,
    /// A duplicate that met a running first attempt.
    Busy,
    /// A key used for another request.
    Mismatch,
    /// A duplicate of an operation whose outcome is unknown.
    Unresolved,
    /// A repeat after retention.
    Gone,
    /// A repeat of an operation whose answer was not kept.
    NotKept,
    /// Refused before anything was asked: key, principal, size.
    Refused,
    /// Refused because the store could not be asked, or the server is stopping.
    Unavailable,
    /// Run unprotected because the store could not be asked and the route says `fail_open`.
    FailedOpen,
}

impl Told {
    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PassThrough => "pass_through",
            Self::FirstRun => "first_run",
            Self::Released => "released",
            Self::Unknown => "unknown",
            Self::Oversize => "oversize",
            Self::NotStored => "not_stored",
            Self::Replay => "replay",
            Self::Busy => "busy",
            Self::Mismatch => "mismatch",
            Self::Unresolved => "unresolved",
            Self::Gone => "gone",
            Self::NotKept => "not_kept",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::FailedOpen => "failed_open",
        }
    }

    /// Whether the request repeated an earlier one (or misused its key): these are audited.
    #[must_use]
    pub fn is_duplicate(self) -> bool {
        match self {
            Self::Replay | Self::Busy | Self::Mismatch | Self::Unresolved | Self::Gone | Self::NotKept => {
                true
            }
            Self::PassThrough
            | Self::FirstRun
            | Self::Released
            | Self::Unknown
            | Self::Oversize
            | Self::NotStored
            | Self::Refused
            | Self::Unavailable
            | Self::FailedOpen => false,
        }
    }
}

/// An extension of every response that came through the layer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What the request turned out to be.
    pub told: Told,
    /// The route that chose the policy; `None` for what passed through.
    pub route: Option<Arc<Route>>,
    /// The record, where there is one.
    pub record: Option<RecordId>,
    /// Which attempt ran, from 1; 0 when nothing ran.
    pub attempt: u32,
}

impl Exchange {
    pub(crate) fn pass_through() -> Self {
        Self { told: Told::PassThrough, route: None, record: None, attempt: 0 }
    }

    pub(crate) fn of(route: &Arc<Route>, told: Told) -> Self {
        Self { told, route: Some(Arc::clone(route)), record: None, attempt: 0 }
    }
}
