//! What waits for a time, and where a look at it goes on.

use std::sync::Arc;

use crate::key::RecordId;
use crate::record::{Record, State, Timestamp};

/// Which time [`Store::due`](super::Store::due) looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Running records past their lease.
    Lease,
    /// Records past their wake-up time.
    Wake,
}

impl Due {
    /// Where a look at this time begins.
    #[must_use]
    pub const fn start(self) -> DueCursor {
        DueCursor { due: self, behind: None }
    }
}

/// Where a look at what is due begins: at the [start](Due::start), or behind a time and a record. It says which time is looked at,
/// so that no look at one goes on where a look at the other ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueCursor {
    due: Due,
    behind: Option<(Timestamp, RecordId)>,
}

impl DueCursor {
    /// Which time is looked at.
    #[must_use]
    pub const fn due(self) -> Due {
        self.due
    }

    /// Behind which time and record; `None` at the start. It is only a place: the record need not be due any more, nor be there.
    #[must_use]
    pub const fn behind(self) -> Option<(Timestamp, RecordId)> {
        self.behind
    }

    /// The same look, behind what is due at `time` under `id`.
    #[must_use]
    pub const fn pass(self, time: Timestamp, id: RecordId) -> Self {
        Self { behind: Some((time, id)), ..self }
    }

    /// The same look, behind `record`, which it has shown.
    #[must_use]
    pub fn pass_record(self, record: &Record) -> Self {
        record.waits_for(self.due.into()).map_or(self, |time| self.pass(time, record.id))
    }
}

/// One page of what is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePage {
    /// The records, the earliest first and those of one time by their ids; fewer than asked for where the store stopped looking
    /// early.
    pub records: Vec<Arc<Record>>,
    /// Where to go on; `None` where nothing more was due.
    pub next: Option<DueCursor>,
    /// The store's time by which they are due.
    pub now: Timestamp,
}

/// What a record waits for. A store keeps an index of these times, so that nothing scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agenda {
    /// The end of its lease: [`Due::Lease`].
    Lease,
    /// Its wake-up time: [`Due::Wake`].
    Wake,
    /// When sweeping has something to do with it: [`Record::expires_at`].
    Expiry,
}

impl From<Due> for Agenda {
    fn from(due: Due) -> Self {
        match due {
            Due::Lease => Self::Lease,
            Due::Wake => Self::Wake,
        }
    }
}

impl Record {
    /// What this record waits for and when, each kind at most once, in the order of [`Agenda`].
    pub fn agenda(&self) -> impl Iterator<Item = (Agenda, Timestamp)> + use<> {
        let lease = (self.state == State::Running).then_some((Agenda::Lease, self.lease_until));
        let wake = self.wake_at.map(|it| (Agenda::Wake, it));
        let expires_at = self.expires_at();
        let expiry = (expires_at < Timestamp::MAX).then_some((Agenda::Expiry, expires_at));
        [lease, wake, expiry].into_iter().flatten()
    }

    /// Until when this record waits for `what`, if it does.
    #[must_use]
    pub fn waits_for(&self, what: Agenda) -> Option<Timestamp> {
        self.agenda().find(|it| it.0 == what).map(|it| it.1)
    }
}
