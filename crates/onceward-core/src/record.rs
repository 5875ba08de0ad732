//! What a store remembers for a record id.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::fingerprint::Fingerprint;
use crate::key::{Principal, RecordId, Scope, parse_hex, write_hex};
use crate::policy::Policy;

mod answer;
pub mod encode;

pub use self::answer::{Answer, PACK_BYTES_MAX, PACK_OVER_BYTES};

/// The version of the scope and fingerprint rules in force. Every record carries the version that made it.
pub const RULES: u16 = 1;

/// Milliseconds since the Unix epoch on a store's own clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Never.
    pub const MAX: Self = Self(u64::MAX);
    /// The epoch.
    pub const ZERO: Self = Self(0);

    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time plus `pause`, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `self` until `later`; zero when `later` has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// A number that a store stamps and that only grows per record: fences and revisions.
///
/// The next number is `max(previous + 1, store milliseconds << 10)`, so that it keeps growing after a record
/// was removed, provided the store's clock did not go back.
#[must_use]
pub fn next_stamp(previous: u64, now: Timestamp) -> u64 {
    previous.saturating_add(1).max(now.0.saturating_mul(1 << 10))
}

/// A number that only grows per record; the far side can refuse a lower one than it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub u64);

/// The state of a record that a swap must have seen. It never repeats for a record id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who holds a permit: 128 random bits, made afresh by each `begin`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner([u8; 16]);

impl Owner {
    /// The owner of a record that was never granted.
    pub const NOBODY: Self = Self([0; 16]);

    /// An owner from 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner(")?;
        write_hex(f, &self.0[..4])?;
        f.write_str("…)")
    }
}

/// What an operator can look records up by. It plays no part in identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Listing {
    /// Who called.
    pub principal: Principal,
    /// The HTTP method, or the kind of operation.
    pub kind: String,
    /// The HTTP host, or the like.
    pub host: String,
    /// The path, or the like.
    pub path: String,
    /// The key as sent, or its hash where the settings say so.
    pub key: String,
}

/// The longest host and path that a listing shows, in bytes. Identity is the hash of the whole.
const LISTED_BYTES_MAX: usize = 1024;

impl Listing {
    /// What is listed of an operation in `scope`: long texts are cut, with a mark. `key` is the key as sent, or what
    /// is to be shown in its place.
    #[must_use]
    pub fn of(scope: &Scope, key: String) -> Self {
        Self {
            principal: scope.principal,
            kind: scope.kind.clone(),
            host: listed(&scope.host),
            path: listed(&scope.path),
            key,
        }
    }
}

/// A text as listings show it: whole, or cut with a mark.
fn listed(text: &str) -> String {
    if text.len() <= LISTED_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=LISTED_BYTES_MAX).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0);
    format!("{}…", &text[..end])
}

impl fmt::Debug for Listing {
    /// The key stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing")
            .field("principal", &self.principal)
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What became of an operation so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A permit was granted. Past its lease it is unresolved.
    Running,
    /// The work ended without an answer; it may have taken effect. The reason is for operators.
    Abandoned {
        /// Why, in a few words without keys or bodies. At most 255 bytes are kept.
        reason: String,
    },
    /// Nothing happened, or an operator freed it: anybody may run.
    Released,
    /// Done, with its answer.
    Done(Answer),
    /// Done, and the answer was dropped after its retention.
    Tombstone,
}

/// Everything that is kept for one record id.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: RecordId,
    /// What operators look it up by: written once, and shared by every later state.
    pub listing: Arc<Listing>,
    /// The version of the scope and fingerprint rules that made it.
    pub rules: u16,
    /// What was asked. Released records have forgotten it.
    pub fingerprint: Option<Fingerprint>,
    /// What became of it.
    pub state: State,
    /// The last holder; stays when the record is done, so that a resend is recognised.
    pub owner: Owner,
    /// The fence of the last grant.
    pub fence: Fence,
    /// What a swap must have seen.
    pub revision: Revision,
    /// How many permits were granted in this life of the record.
    pub attempt: u32,
    /// The policy of the claim.
    pub policy: Policy,
    /// What the work saved on its way, if anything; of a record that is done, what its answer still
    /// [carries](crate::transition::carried).
    pub checkpoint: Option<Bytes>,
    /// Until when the permit is exclusive.
    pub lease_until: Timestamp,
    /// Until when the permit may renew itself.
    pub run_until: Timestamp,
    /// Until when the answer is replayed. [`Timestamp::MAX`] while there is a wake-up time: retention is counted from
    /// when nobody has to do with it any more.
    pub answer_until: Timestamp,
    /// Until when a late retry is refused.
    pub gone_until: Timestamp,
    /// When a sleeper wants to be woken (sagas, redeliveries).
    pub wake_at: Option<Timestamp>,
    /// When this life of the record began.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

impl fmt::Debug for Record {
    /// Keys, answers and what was saved stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("owner", &self.owner)
            .field("fence", &self.fence)
            .field("revision", &self.revision)
            .field("attempt", &self.attempt)
            .field("lease_until", &self.lease_until)
            .field("answer_until", &self.answer_until)
            .field("gone_until", &self.gone_until)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Whether a record in this state is done, and somebody has still to do with it, because it is to be woken: then nothing of it
    /// ends. Its answer is kept, no sweep touches it, and its times begin once the wake-up time is taken away.
    #[must_use]
    pub fn is_owing(&self, is_to_be_woken: bool) -> bool {
        is_to_be_woken && matches!(self, Self::Done(_) | Self::Tombstone)
    }
}

impl Record {
    /// Whether it is done, and somebody has still to do with it: see [`State::is_owing`].
    #[must_use]
    pub fn is_owing(&self) -> bool {
        self.state.is_owing(self.wake_at.is_some())
    }

    /// Whether the record stands for nothing any more: its answer and its tombstone are over.
    #[must_use]
    pub fn vacant_at(&self, now: Timestamp) -> bool {
        match self.state {
            State::Running | State::Abandoned { .. } | State::Released => false,
            State::Done(_) | State::Tombstone => now >= self.gone_until,
        }
    }

    /// Whether a permit is exclusive at `now`.
    #[must_use]
    pub fn lease_alive_at(&self, now: Timestamp) -> bool {
        self.state == State::Running && now < self.lease_until
    }

    /// The word for what an operator sees at `now`.
    #[must_use]
    pub fn status_at(&self, now: Timestamp) -> Status {
        match self.state {
            _ if self.vacant_at(now) => Status::Vacant,
            State::Running if now < self.lease_until => Status::Running,
            State::Running | State::Abandoned { .. } => Status::Unresolved,
            State::Released => Status::Released,
            State::Done(_) if now < self.answer_until => Status::Done,
            State::Done(_) | State::Tombstone => Status::Gone,
        }
    }
}

/// A record's state as seen at one time, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A permit is out and its lease is alive.
    Running,
    /// The outcome is unknown.
    Unresolved,
    /// Free.
    Released,
    /// Done, the answer is replayed.
    Done,
    /// Done, the answer is no longer kept.
    Gone,
    /// Over: the next request starts a new life.
    Vacant,
}

impl Status {
    /// Every status, in the order of a record's life.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Unresolved, Self::Released, Self::Done, Self::Gone, Self::Vacant];

    /// The word in tables, filters and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unresolved => "unresolved",
            Self::Released => "released",
            Self::Done => "done",
            Self::Gone => "gone",
            Self::Vacant => "vacant",
        }
    }
}
