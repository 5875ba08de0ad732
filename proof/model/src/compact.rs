//! Records and puts without what no rule reads, small enough to hold millions of them.
//!
//! Rules are always asked with the real types: a compact form is expanded before and folded after. Dropped are the
//! listing, `rules`, `attempt`, `created`, `updated` and the reason of an abandoned record, which no rule reads;
//! and the ends of lease and run of a record that does not run, which only matter while it runs. So states that
//! differ in nothing else are one state. Everything else is folded without loss, which debug builds check.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use onceward_core::record::RULES;
use onceward_core::store::{Grant, Put};
use onceward_core::{
    Answer, Fence, Fingerprint, Listing, Owner, Policy, Principal, Record, RecordId, Revision, State,
    Timestamp, Unresolved,
};

use crate::time::{LEASE, RUN_MAX};

/// The record that everything is about.
pub const ID: RecordId = RecordId::from_bytes([7; 32]);

/// A small number that stands for an owner token.
pub type Token = u8;
/// A small number that stands for what is asked.
pub type Asked = u8;
/// A small number that stands for an answer.
pub type Told = u8;

/// [`State`], without the reason of an abandoned record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Was {
    /// [`State::Running`].
    Running,
    /// [`State::Abandoned`].
    Abandoned,
    /// [`State::Released`].
    Released,
    /// [`State::Done`].
    Done(Told),
    /// [`State::Tombstone`].
    Tombstone,
}

/// [`Policy`]; lease and longest run are the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Terms {
    /// Whether the policy is `hold`; else it is `rerun`.
    pub hold: bool,
    /// How long an answer is kept.
    pub retention: Duration,
    /// How long a late retry is refused after that.
    pub tombstone: Duration,
}

/// [`Record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields of Record")]
pub struct CompactRecord {
    pub state: Was,
    pub fingerprint: Option<Asked>,
    pub owner: Token,
    pub fence: Fence,
    pub revision: Revision,
    pub terms: Terms,
    pub saved: bool,
    pub lease_until: Timestamp,
    pub run_until: Timestamp,
    pub answer_until: Timestamp,
    pub gone_until: Timestamp,
}

/// [`Put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the fields of Put")]
pub struct CompactPut {
    pub grant: Option<(Token, bool)>,
    pub fingerprint: Option<Asked>,
    pub state: Was,
    pub terms: Terms,
    pub saved: bool,
    pub not_after: Timestamp,
}

/// The owner token for a small number.
#[must_use]
pub fn owner(token: Token) -> Owner {
    Owner::from_bytes([token; 16])
}

/// The fingerprint for a small number.
#[must_use]
pub fn fingerprint(asked: Asked) -> Fingerprint {
    Fingerprint::from_bytes([asked; 32])
}

/// The answer for a small number.
#[must_use]
pub fn answer(told: Told) -> Answer {
    static BYTES: [u8; 256] = {
        let mut bytes = [0; 256];
        let mut at = 0_u8;
        while at < u8::MAX {
            at += 1;
            bytes[at as usize] = at;
        }
        bytes
    };
    let at = usize::from(told);
    Answer::new("number", Bytes::from_static(&BYTES[at..=at]))
}

/// The small number of an answer.
#[must_use]
pub fn told(answer: &Answer) -> Told {
    answer.bytes().expect("answers of the model are plain")[0]
}

/// A listing of nothing: no rule reads it.
#[must_use]
pub fn listing() -> Arc<Listing> {
    static NOTHING: LazyLock<Arc<Listing>> = LazyLock::new(|| {
        Arc::new(Listing {
            principal: Principal::ANONYMOUS,
            kind: String::new(),
            host: String::new(),
            path: String::new(),
            key: String::new(),
        })
    });
    Arc::clone(&NOTHING)
}

/// What a save leaves behind.
#[must_use]
pub fn checkpoint() -> Bytes {
    Bytes::from_static(b"saved")
}

impl Was {
    fn fold(state: &State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Abandoned { .. } => Self::Abandoned,
            State::Released => Self::Released,
            State::Done(answer) => Self::Done(told(answer)),
            State::Tombstone => Self::Tombstone,
        }
    }

    fn expand(self) -> State {
        match self {
            Self::Running => State::Running,
            Self::Abandoned => State::Abandoned { reason: String::new() },
            Self::Released => State::Released,
            Self::Done(told) => State::Done(answer(told)),
            Self::Tombstone => State::Tombstone,
        }
    }
}

impl Terms {
    /// The compact form of `policy`.
    #[must_use]
    pub fn fold(policy: &Policy) -> Self {
        debug_assert!(policy.lease == LEASE && policy.run_max == RUN_MAX, "the same for all");
        let hold = policy.unresolved == Unresolved::Hold;
        Self { hold, retention: policy.retention, tombstone: policy.tombstone }
    }

    /// The policy.
    #[must_use]
    pub fn expand(self) -> Policy {
        Policy {
            lease: LEASE,
            run_max: RUN_MAX,
            retention: self.retention,
            tombstone: self.tombstone,
            unresolved: if self.hold { Unresolved::Hold } else { Unresolved::Rerun },
        }
    }
}

impl CompactRecord {
    /// The compact form of `record`.
    #[must_use]
    pub fn fold(record: &Record) -> Self {
        let runs = record.state == State::Running;
        let folded = Self {
            state: Was::fold(&record.state),
            fingerprint: record.fingerprint.map(|it| it.as_bytes()[0]),
            owner: record.owner.as_bytes()[0],
            fence: record.fence,
            revision: record.revision,
            terms: Terms::fold(&record.policy),
            saved: record.checkpoint.is_some(),
            lease_until: if runs { record.lease_until } else { Timestamp::ZERO },
            run_until: if runs { record.run_until } else { Timestamp::ZERO },
            answer_until: record.answer_until,
            gone_until: record.gone_until,
        };
        debug_assert!(folded.expand() == without_the_unread(record), "{record:?} is folded without loss");
        folded
    }

    /// The record.
    #[must_use]
    pub fn expand(&self) -> Record {
        Record {
            id: ID,
            listing: listing(),
            rules: RULES,
            fingerprint: self.fingerprint.map(fingerprint),
            state: self.state.expand(),
            owner: owner(self.owner),
            fence: self.fence,
            revision: self.revision,
            attempt: 0,
            policy: self.terms.expand(),
            checkpoint: self.saved.then(checkpoint),
            lease_until: self.lease_until,
            run_until: self.run_until,
            answer_until: self.answer_until,
            gone_until: self.gone_until,
            wake_at: None,
            created: Timestamp::ZERO,
            updated: Timestamp::ZERO,
        }
    }
}

/// `record` without what the compact form drops.
fn without_the_unread(record: &Record) -> Record {
    let mut left =
        Record { attempt: 0, created: Timestamp::ZERO, updated: Timestamp::ZERO, ..record.clone() };
    if let State::Abandoned { reason } = &mut left.state {
        reason.clear();
    }
    if left.state != State::Running {
        (left.lease_until, left.run_until) = (Timestamp::ZERO, Timestamp::ZERO);
    }
    left
}

impl CompactPut {
    /// The compact form of `put`.
    #[must_use]
    pub fn fold(put: &Put) -> Self {
        Self {
            grant: put.grant.map(|it| (it.owner.as_bytes()[0], it.new_life)),
            fingerprint: put.fingerprint.map(|it| it.as_bytes()[0]),
            state: Was::fold(&put.state),
            terms: Terms::fold(&put.policy),
            saved: put.checkpoint.is_some(),
            not_after: put.not_after,
        }
    }

    /// The put.
    #[must_use]
    pub fn expand(&self) -> Put {
        Put {
            grant: self.grant.map(|(token, new_life)| Grant { owner: owner(token), new_life }),
            listing: listing(),
            rules: RULES,
            fingerprint: self.fingerprint.map(fingerprint),
            state: self.state.expand(),
            policy: self.terms.expand(),
            checkpoint: self.saved.then(checkpoint),
            wake_after: None,
            not_after: self.not_after,
        }
    }
}
