//! What holds for an operation, fully resolved.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

pub use onceward_core::{InFlight, Unresolved};
pub use onceward_http::{Compare, KeyRule, KeySource, Oversize};
pub use onceward_webhook::Scheme;

/// What holds for an operation. Every field may be set in `[policy]` and in every route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether a caller has to send a key.
    pub key: KeyRule,
    /// Where the key stands.
    pub key_from: KeySource,
    /// What a repeat has to have in common with the first request.
    pub compare: Compare,
    /// How every operation has to be signed; `None` for not at all.
    pub verify: Option<Scheme>,
    /// The file with the secrets that sign, one on each line; empty for none.
    pub verify_secret_file: PathBuf,
    /// How far the time of a signature may be from ours. 1 s to 1 hour.
    pub verify_tolerance: Duration,
    /// What a duplicate does while the first attempt runs.
    pub in_flight: InFlight,
    /// What becomes of an operation whose outcome is unknown.
    pub unresolved: Unresolved,
    /// How long an answer is kept, counted from completion. At least 1 s.
    pub retention: Duration,
    /// How long a late retry is refused after retention. Zero turns tombstones off.
    pub tombstone: Duration,
    /// How long a permit is exclusive without renewal. 1 s to 1 hour.
    pub lease: Duration,
    /// How long a permit renews itself, counted from its grant. More than `lease` and than
    /// `upstream.response_timeout`.
    pub run_max: Duration,
    /// The largest request body of an operation, in bytes. At most 1 GiB.
    pub max_request: u64,
    /// The largest answer body that is kept, in bytes. At most 1 GiB.
    pub max_answer: u64,
    /// Who the caller is taken to be.
    pub principal: Principal,
    /// Statuses after which the key is free again: nothing happened. 400 to 599, none of `unknown_on`.
    pub release_on: BTreeSet<u16>,
    /// Statuses after which the outcome is unknown. 400 to 599, none of `release_on`.
    pub unknown_on: BTreeSet<u16>,
    /// What becomes of an answer that is too large to keep.
    pub oversize: Oversize,
    /// Whether operations go through unprotected while the store is down.
    pub fail_open: bool,
    /// Headers of an answer that go stale and are left out of its replays. In lower case.
    pub replay_drop: BTreeSet<String>,
    /// For how long callers are known to retry; zero when that is not known. It changes nothing: `doctor`
    /// holds `retention` against it.
    pub retry_window: Duration,
}

/// Who the caller is taken to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// The credential in `Authorization` or `X-Api-Key`; anonymous without any.
    Auto,
    /// The value of this header. The name is in lower case.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// All callers share one space of keys.
    None,
}
