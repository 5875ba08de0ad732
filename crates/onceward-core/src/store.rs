//! The promises that a store makes. It knows nothing of leases, replays or policies.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::key::RecordId;
use crate::policy::Policy;
use crate::record::{Listing, Owner, Record, Revision, State, Timestamp, next_stamp};

pub mod browse;
mod due;
pub mod hints;
pub mod memory;
mod stamps;
pub mod time;

pub use browse::{Cursor, Filter, Page};
pub use due::{Agenda, Due, DueCursor, DuePage};
pub use hints::Hints;
pub use stamps::Stamps;
pub use time::StoreTime;

/// The longest that one call to a store may take from being sent to being carried out. Shorter budgets are
/// settings; this bound is what sweeping relies on.
pub const CALL_BUDGET_MAX: Duration = Duration::from_secs(300);

/// How long a record stays after it stopped to stand for anything: twice the largest budget, so that no late
/// copy of an old call can find its place empty.
pub const SETTLE: Duration = Duration::from_secs(2 * CALL_BUDGET_MAX.as_secs());

/// A place that remembers one [`Record`] per [`RecordId`].
///
/// Durable means durable: once `insert` or `replace` returns, a kill or a power cut does not undo it, unless
/// [`Store::traits`] says otherwise. Every operation may be sent twice. An error means "unknown": it never
/// stands for a permit or an answer.
///
/// # Cancel safety
/// A dropped call may or may not have been carried out, exactly like one whose reply was lost.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Keeps `put` if `id` has no record, otherwise changes nothing and hands back what is there.
    /// Of any number of racing calls exactly one sees [`Insert::Kept`].
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert>;

    /// Swaps in `put` only while the stored revision is still `seen`. On an absent record it creates nothing.
    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace>;

    /// What is there now, and the store's time.
    async fn load(&self, id: RecordId) -> Result<Loaded>;

    /// Records whose time of this kind has passed, in the order of these times and then of their ids, at most `limit`, from `from`
    /// on. A look that goes on until there is no `next` shows once whatever was due when it began and can be read. Only a record
    /// whose time changes meanwhile, or that a server has which is away, may be missed or seen twice.
    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage>;

    /// Records that match `filter`, in an order of the store's own, at most `limit`, from `cursor` on.
    /// A record that changes meanwhile may be missed or seen twice; no other is.
    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page>;

    /// Looks at up to `limit` records whose answer or tombstone may be over and drops what is logically gone,
    /// each by a swap on the revision that was looked at.
    async fn sweep(&self, limit: usize) -> Result<Swept>;

    /// Whether the store answers now. Used by health pages only.
    async fn check(&self) -> Result<()>;

    /// What this store is and what it promises.
    fn traits(&self) -> Traits;

    /// Hints that `id` may have ended its run, for somebody who waits for that in another process; `None` where there are
    /// none, which is what a store says that does not know better. No promise rests on them. Listening begins with this
    /// call, in the background.
    fn hints(&self, id: RecordId) -> Option<Hints> {
        let _ = id;
        None
    }
}

/// What a store declares about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// One word: `memory`, `embedded`, …
    pub name: &'static str,
    /// Whether a returned write survives a power cut.
    pub durable: bool,
    /// Whether other processes may write the same records.
    pub shared: bool,
}

/// What a caller asks a store to keep. The store adds times, revision and fence.
#[derive(Clone, PartialEq, Eq)]
pub struct Put {
    /// A grant changes fence, attempt and owner; without one they are kept.
    pub grant: Option<Grant>,
    /// What operators look it up by.
    pub listing: Arc<Listing>,
    /// The version of the scope and fingerprint rules.
    pub rules: u16,
    /// What was asked; `None` for a released record.
    pub fingerprint: Option<Fingerprint>,
    /// The new state.
    pub state: State,
    /// The policy of the claim: lease, run_max, retention and tombstone are counted from the store's now; the last two not
    /// while there is a wake-up time.
    pub policy: Policy,
    /// What the work saved.
    pub checkpoint: Option<Bytes>,
    /// When to be woken, counted from the store's now.
    pub wake_after: Option<Duration>,
    /// The store writes nothing once its own clock is past this.
    pub not_after: Timestamp,
}

impl fmt::Debug for Put {
    /// Keys, answers and what was saved stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("grant", &self.grant)
            .field("state", &self.state)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The right to run that a [`Put`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The owner token of this `begin`.
    pub owner: Owner,
    /// Whether a new life of the record begins: attempts count from one again.
    pub new_life: bool,
}

impl Put {
    /// The put that repeats `record` as it is. Callers change the fields they mean.
    #[must_use]
    pub fn keep(record: &Record, not_after: Timestamp) -> Self {
        Self {
            grant: None,
            listing: Arc::clone(&record.listing),
            rules: record.rules,
            fingerprint: record.fingerprint,
            state: record.state.clone(),
            policy: record.policy,
            checkpoint: record.checkpoint.clone(),
            wake_after: None,
            not_after,
        }
    }

    /// What [`Store::insert`] does at `now` where `found` is what the store has: the rule, for backends that
    /// compute in Rust. On [`Insert::Kept`] they keep that record.
    #[must_use]
    pub fn insert(&self, id: RecordId, found: Option<&Arc<Record>>, now: Timestamp) -> Insert {
        match found {
            _ if now > self.not_after => Insert::Late(now),
            Some(found) => Insert::Found(Arc::clone(found), now),
            None => Insert::Kept(Arc::new(self.stamp(id, None, now))),
        }
    }

    /// What [`Store::replace`] does at `now` where `found` is what the store has: the rule, for backends that
    /// compute in Rust. On [`Replace::Kept`] they keep that record.
    #[must_use]
    pub fn replace(
        &self,
        id: RecordId,
        found: Option<&Arc<Record>>,
        seen: Revision,
        now: Timestamp,
    ) -> Replace {
        match found {
            _ if now > self.not_after => Replace::Late(now),
            Some(found) if found.revision == seen => {
                Replace::Kept(Arc::new(self.stamp(id, Some(found), now)))
            }
            other => Replace::Lost(other.cloned(), now),
        }
    }
}

/// What [`Store::insert`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insert {
    /// It was kept; this is the stamped record, shared with whoever keeps it.
    Kept(Arc<Record>),
    /// Another record is there, at the store's time. Nothing was written.
    Found(Arc<Record>, Timestamp),
    /// The store's clock, shown here, is past `not_after`. Nothing was written.
    Late(Timestamp),
}

/// What [`Store::replace`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replace {
    /// It was swapped in; this is the stamped record, shared with whoever keeps it.
    Kept(Arc<Record>),
    /// The revision is another one, or there is no record. Nothing was written.
    Lost(Option<Arc<Record>>, Timestamp),
    /// The store's clock, shown here, is past `not_after`. Nothing was written.
    Late(Timestamp),
}

/// What [`Store::load`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The record, if there is one.
    pub record: Option<Arc<Record>>,
    /// The store's time.
    pub now: Timestamp,
}

/// What [`Store::sweep`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Answers that became tombstones.
    pub tombstones: u64,
    /// Records that were removed.
    pub removed: u64,
    /// Whether there may be more to do at once.
    pub more: bool,
}

/// What sweeping does with a record at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expiry {
    /// It still stands for something, or must settle first.
    Keep,
    /// Its answer goes; this record takes its place.
    Tombstone(Box<Record>),
    /// It goes.
    Remove,
}

impl Record {
    /// What sweeping does with this record at `now`. Running and abandoned records always stay.
    #[must_use]
    pub fn expiry(&self, now: Timestamp) -> Expiry {
        match self.state {
            State::Running | State::Abandoned { .. } => Expiry::Keep,
            State::Released | State::Done(_) | State::Tombstone if now >= self.gone_until.after(SETTLE) => {
                Expiry::Remove
            }
            State::Done(_) if now >= self.answer_until => Expiry::Tombstone(Box::new(Self {
                state: State::Tombstone,
                checkpoint: None,
                revision: Revision(next_stamp(self.revision.0, now)),
                updated: now,
                ..self.clone()
            })),
            State::Released | State::Done(_) | State::Tombstone => Expiry::Keep,
        }
    }

    /// When sweeping has something to do with this record; [`Timestamp::MAX`] while it is unfinished.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        match self.state {
            State::Running | State::Abandoned { .. } => Timestamp::MAX,
            State::Done(_) => self.answer_until,
            State::Released | State::Tombstone => self.gone_until.after(SETTLE),
        }
    }
}
