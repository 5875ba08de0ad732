//! What a store adds to what it is asked to keep.

use std::sync::Arc;

use super::Put;
use crate::key::RecordId;
use crate::mutant::{self, Mutant};
use crate::record::{Fence, Owner, Record, Revision, State, Timestamp, next_stamp};

/// What a store stamps on a record that it keeps: all of it that was not put. Times are the store's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// Grows with every change.
    pub revision: Revision,
    /// Grows with every grant.
    pub fence: Fence,
    /// Who was granted the right to run last.
    pub owner: Owner,
    /// Counts grants in this life of the record.
    pub attempt: u32,
    /// See [`Record::lease_until`].
    pub lease_until: Timestamp,
    /// See [`Record::run_until`].
    pub run_until: Timestamp,
    /// See [`Record::answer_until`].
    pub answer_until: Timestamp,
    /// See [`Record::gone_until`].
    pub gone_until: Timestamp,
    /// See [`Record::wake_at`].
    pub wake_at: Option<Timestamp>,
    /// When this life of the record began.
    pub created: Timestamp,
    /// When this was stamped.
    pub updated: Timestamp,
}

impl Stamps {
    /// The record of `id` that is kept: what was put, and these.
    #[must_use]
    pub fn on(self, id: RecordId, put: &Put) -> Record {
        Record {
            id,
            listing: Arc::clone(&put.listing),
            rules: put.rules,
            fingerprint: put.fingerprint,
            state: put.state.clone(),
            owner: self.owner,
            fence: self.fence,
            revision: self.revision,
            attempt: self.attempt,
            policy: put.policy,
            checkpoint: put.checkpoint.clone(),
            lease_until: self.lease_until,
            run_until: self.run_until,
            answer_until: self.answer_until,
            gone_until: self.gone_until,
            wake_at: self.wake_at,
            created: self.created,
            updated: self.updated,
        }
    }
}

impl Put {
    /// The record that a store keeps at `now` when `previous` is what it had.
    #[must_use]
    pub fn stamp(&self, id: RecordId, previous: Option<&Record>, now: Timestamp) -> Record {
        self.stamps(previous, now).on(id, self)
    }

    /// What a store stamps at `now` when `previous` is what it had. Backends that compute in SQL or in a script do
    /// exactly this.
    #[must_use]
    pub fn stamps(&self, previous: Option<&Record>, now: Timestamp) -> Stamps {
        let (old_fence, old_revision) = previous.map_or((0, 0), |it| (it.fence.0, it.revision.0));
        let kept = previous.filter(|_| self.grant.is_none_or(|it| !it.new_life));
        let run_until = match (self.grant, previous) {
            (Some(_), _) | (None, None) => now.after(self.policy.run_max),
            (None, Some(previous)) => previous.run_until,
        };
        let (lease_until, answer_until, gone_until) = match self.state {
            State::Running => (now.after(self.policy.lease).min(run_until), Timestamp::MAX, Timestamp::MAX),
            State::Abandoned { .. } => (now, Timestamp::MAX, Timestamp::MAX),
            State::Released => (now, now, now),
            State::Done(_) | State::Tombstone if self.state.is_owing(self.wake_after.is_some()) => {
                (now, Timestamp::MAX, Timestamp::MAX)
            }
            State::Done(_) | State::Tombstone => {
                let since =
                    previous.filter(|_| mutant::is(Mutant::RetentionFromClaim)).map_or(now, |it| it.created);
                let answer_until = since.after(self.policy.retention);
                (now, answer_until, answer_until.after(self.policy.tombstone))
            }
        };
        Stamps {
            revision: Revision(next_stamp(old_revision, now)),
            fence: Fence(match (self.grant, previous) {
                (None, Some(previous)) => previous.fence.0,
                (Some(_), _) | (None, None) => next_stamp(old_fence, now),
            }),
            owner: match (self.grant, previous) {
                (Some(grant), _) => grant.owner,
                (None, Some(previous)) => previous.owner,
                (None, None) => Owner::NOBODY,
            },
            attempt: kept.map_or(0, |it| it.attempt).saturating_add(u32::from(self.grant.is_some())),
            lease_until,
            run_until,
            answer_until,
            gone_until,
            wake_at: self.wake_after.map(|it| now.after(it)),
            created: kept.map_or(now, |it| it.created),
            updated: now,
        }
    }
}
