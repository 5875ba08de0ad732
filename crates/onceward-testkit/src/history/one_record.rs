//! What one record of a store does, call after call: inserts, swaps and looks, with revisions and fences.
//!
//! Sweeps are no calls here. What is over may turn into a tombstone, or go, at any time after its end: by a sweep or by
//! itself. That it did is learnt from the next call that is shown it, whose reply tells the time.
//!
//! A write that was told nothing leaves a record of which only its caller's part is known. What the store stamped on
//! it is learnt from the first call that is shown it, and must fit what came before.

use std::time::Duration;

use onceward_core::store::SETTLE;
use onceward_core::{Record, State, Timestamp};
use serde::{Deserialize, Serialize};

use super::check::Sequential;

/// What can be asked of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// To keep this where nothing is.
    Insert(Write),
    /// To swap this in for the revision that was seen.
    Replace(u64, Write),
    /// What is there.
    Load,
}

/// What a write says about the record that it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Write {
    /// The name of this write; no other has it. It is the listed key of the record.
    pub name: u64,
    /// The owner, where it grants.
    pub grant: Option<u8>,
    /// The state.
    pub kind: Kind,
    /// Until when it may be carried out, in milliseconds of the store's time.
    pub not_after: u64,
}

/// The word for a record's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the words of `State`")]
pub enum Kind {
    Running,
    Abandoned,
    Released,
    Done,
    Tombstone,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It was kept, like this.
    Kept(Facts),
    /// Nothing was changed, and this is there at this time of the store, in milliseconds.
    Shown(Option<Facts>, u64),
    /// Nothing was changed: it was refused, or too late.
    Nothing,
}

/// What counts of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are the fields of `Record`")]
pub struct Facts {
    /// The name of the write that made it.
    pub name: u64,
    pub kind: Kind,
    pub owner: [u8; 16],
    pub fence: u64,
    pub revision: u64,
    pub attempt: u32,
    pub lease_until: u64,
    pub answer_until: u64,
    pub gone_until: u64,
    pub updated: u64,
}

impl Facts {
    /// The facts of a record that a [`Client`](super::Client) wrote.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            name: record.listing.key.parse().unwrap_or(u64::MAX),
            kind: match record.state {
                State::Running => Kind::Running,
                State::Abandoned { .. } => Kind::Abandoned,
                State::Released => Kind::Released,
                State::Done(_) => Kind::Done,
                State::Tombstone => Kind::Tombstone,
            },
            owner: *record.owner.as_bytes(),
            fence: record.fence.0,
            revision: record.revision.0,
            attempt: record.attempt,
            lease_until: record.lease_until.as_millis(),
            answer_until: record.answer_until.as_millis(),
            gone_until: record.gone_until.as_millis(),
            updated: record.updated.as_millis(),
        }
    }
}

/// One record of a store that does one thing at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneRecord;

/// What is known of the record, and of the numbers that were given out before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known {
    place: Place,
    /// Every revision so far is at most this.
    revision: u64,
    /// Every fence so far is at most this.
    fence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Vacant,
    /// It was shown, or told.
    Shown(Facts),
    /// A write made it that was told nothing, or a sweep.
    Unseen {
        name: u64,
        kind: Kind,
        holder: Holder,
    },
}

/// What is known of the holder of a record that nobody was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    /// It was granted to this owner, under a new fence.
    Granted(u8),
    /// It is the one from before.
    Same([u8; 16], u64),
    /// Nobody was shown that one either.
    Unknown,
}

impl Known {
    /// The same, once the record there turned out to be `facts`; `None` where it cannot be.
    fn shown(self, facts: &Facts) -> Option<Self> {
        let fits = match self.place {
            Place::Vacant => false,
            Place::Shown(known) => known == *facts || is_tombstone_of(facts, &known),
            Place::Unseen { name, kind, holder } => {
                let is_tombstone = kind == Kind::Done && facts.kind == Kind::Tombstone;
                name == facts.name
                    && (kind == facts.kind || is_tombstone)
                    && facts.revision > self.revision
                    && match holder {
                        Holder::Granted(owner) => facts.fence > self.fence && facts.owner == [owner; 16],
                        Holder::Same(owner, fence) => (facts.owner, facts.fence) == (owner, fence),
                        Holder::Unknown => true,
                    }
            }
        };
        fits.then(|| self.having(facts))
    }

    /// The same, once it turned out that nothing is there at `now`; `None` where that cannot be.
    fn vacant(self, now: u64) -> Option<Self> {
        let finished = |kind| matches!(kind, Kind::Released | Kind::Done | Kind::Tombstone);
        let may_be = match self.place {
            Place::Vacant => true,
            Place::Shown(it) => finished(it.kind),
            Place::Unseen { kind, .. } => finished(kind),
        };
        let ended = match self.place {
            Place::Vacant => 0,
            Place::Shown(it) => settled(it.gone_until),
            // Its times were never told, but it settles from when it was written.
            Place::Unseen { .. } => settled(self.time()),
        };
        // Whatever is stamped from then on is stamped then.
        let revision = self.revision.max((ended << 10).saturating_sub(1));
        (may_be && ended <= now).then_some(Self { place: Place::Vacant, revision, ..self })
    }

    /// When it was written last, or later: that is in its revision.
    fn time(&self) -> u64 {
        self.revision >> 10
    }

    fn having(self, facts: &Facts) -> Self {
        let (revision, fence) = (self.revision.max(facts.revision), self.fence.max(facts.fence));
        Self { place: Place::Shown(*facts), revision, fence }
    }

    /// Whether a swap on `seen` may find it there.
    fn may_be_at(&self, seen: u64) -> bool {
        match self.place {
            Place::Vacant => false,
            Place::Shown(facts) => facts.revision == seen,
            Place::Unseen { .. } => seen > self.revision,
        }
    }

    /// After `write` was kept as `facts`; `None` where they do not fit, or do not follow what was there.
    fn kept(self, write: &Write, facts: &Facts) -> Option<Self> {
        let granted = |owner: u8| facts.owner == [owner; 16] && facts.fence > self.fence;
        let holder_fits = match (write.grant, self.place) {
            (Some(owner), Place::Shown(old)) => granted(owner) && facts.attempt == old.attempt + 1,
            (Some(owner), Place::Vacant) => granted(owner) && facts.attempt == 1,
            (Some(owner), Place::Unseen { .. }) => granted(owner),
            (None, Place::Shown(old)) => {
                (facts.owner, facts.fence, facts.attempt) == (old.owner, old.fence, old.attempt)
            }
            (None, Place::Vacant | Place::Unseen { .. }) => true,
        };
        let fits = holder_fits
            && (facts.name, facts.kind) == (write.name, write.kind)
            && facts.revision > self.revision
            && facts.updated <= write.not_after;
        fits.then(|| self.having(facts))
    }

    /// After `write` was kept and nobody was told; `None` where it was too late for that.
    fn unseen(self, write: &Write) -> Option<Self> {
        if self.time() > write.not_after {
            return None;
        }
        let holder = write.grant.map_or_else(|| self.holder(), Holder::Granted);
        Some(Self { place: Place::Unseen { name: write.name, kind: write.kind, holder }, ..self })
    }

    fn holder(&self) -> Holder {
        match self.place {
            Place::Shown(it) => Holder::Same(it.owner, it.fence),
            Place::Unseen { holder: Holder::Same(owner, fence), .. } => Holder::Same(owner, fence),
            Place::Vacant | Place::Unseen { .. } => Holder::Unknown,
        }
    }
}

/// Whether a sweep made `facts` of `old`.
fn is_tombstone_of(facts: &Facts, old: &Facts) -> bool {
    let over = facts.kind == Kind::Tombstone && old.kind == Kind::Done && facts.updated >= old.answer_until;
    let Facts { kind, revision, updated, .. } = *facts;
    over && revision > old.revision && Facts { kind, revision, updated, ..*old } == *facts
}

/// When a record may go whose tombstone ends at `gone_until`.
fn settled(gone_until: u64) -> u64 {
    let settle: Duration = SETTLE;
    Timestamp::from_millis(gone_until).after(settle).as_millis()
}

impl Sequential for OneRecord {
    type State = Known;
    type Ask = Ask;
    type Told = Told;

    fn start(&self) -> Known {
        Known { place: Place::Vacant, revision: 0, fence: 0 }
    }

    fn step(&self, known: &Known, ask: &Ask, told: Option<&Told>) -> Vec<Known> {
        let next = match (ask, told) {
            (Ask::Insert(_) | Ask::Replace(..) | Ask::Load, Some(Told::Nothing)) => Some(*known),
            (Ask::Load | Ask::Replace(..), Some(Told::Shown(None, now))) => known.vacant(*now),
            (Ask::Load | Ask::Insert(_), Some(Told::Shown(Some(facts), _))) => known.shown(facts),
            (Ask::Replace(seen, _), Some(Told::Shown(Some(facts), _))) => {
                known.shown(facts).filter(|_| facts.revision != *seen)
            }
            (Ask::Insert(write), Some(Told::Kept(facts))) => {
                known.vacant(facts.updated).and_then(|it| it.kept(write, facts))
            }
            (Ask::Replace(seen, write), Some(Told::Kept(facts))) if known.may_be_at(*seen) => {
                known.kept(write, facts).filter(|_| facts.revision > *seen)
            }
            // It may have found what was over and not swept: then it had no effect.
            (Ask::Insert(write), None) => known.vacant(write.not_after).and_then(|it| it.unseen(write)),
            (Ask::Replace(seen, write), None) if known.may_be_at(*seen) => {
                let seen = known.revision.max(*seen);
                Known { revision: seen, ..*known }.unseen(write)
            }
            (Ask::Insert(_), Some(Told::Shown(None, _)))
            | (Ask::Load, Some(Told::Kept(_)) | None)
            | (Ask::Replace(..), Some(Told::Kept(_)) | None) => None,
        };
        next.into_iter().collect()
    }

    fn only_looks(&self, ask: &Ask, told: Option<&Told>) -> bool {
        match (ask, told) {
            (Ask::Load, _) | (_, Some(Told::Shown(..) | Told::Nothing)) => true,
            (Ask::Insert(_) | Ask::Replace(..), Some(Told::Kept(_)) | None) => false,
        }
    }
}
