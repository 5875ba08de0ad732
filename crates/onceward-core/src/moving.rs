//! The rules by which the records of one store are moved to another one, while processes work on both. As pure as
//! [`decide`](crate::decide): no clock, no await, no store.
//!
//! A record is moved in three writes, each of which may be repeated by anybody:
//! 1. it is *frozen* where it is: a swap that leaves it unresolved there, with a copy of itself inside;
//! 2. the copy is inserted into the other store, unless it is there already;
//! 3. the copy is dropped from the frozen record, which says from then on that it was *moved*.
//!
//! So whoever knows only the old store never runs an operation that the new one may have answered: it is told that the
//! outcome is unresolved. A record whose lease is alive is not frozen; its holder finishes it first. A key that the old
//! store does not know is taken there, as one that was moved, before it is claimed in the new store.
//!
//! Times are carried over as what is left of them, since the two stores have two clocks.
//!
//! The old store keeps a note of the move, [`NOTE`], in two phases. While records are *leaving*, processes that know only
//! the old store go on; those that share it touch the note again and again, and claim nothing that lands long after. Once a
//! walk has found nothing left and nobody touched the note for [`QUIET`], the note says that all records have *left*:
//! from then on nobody works on that store alone. All of it is timed by the clock of the old store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use crate::policy::{Policy, Unresolved};
use crate::record::{Listing, Owner, Record, State, Timestamp, encode, next_stamp};
use crate::store::{Grant, Put};

/// How far the clock of the new store may be behind that of the old one: what was swept from the old store a moment ago may
/// have had a fence that high.
pub const BEHIND_MAX: Duration = Duration::from_secs(60);

/// The name of what a store notes about its records being moved away.
pub const NOTE: &str = "moved away";

/// How old what a process knows of the note may be when it claims.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How long after it looked a process may still have a claim land. More than [`LOOK_EVERY`], by what a call takes.
pub const CLAIM_WITHIN: Duration = Duration::from_secs(8);

/// How long nobody must have touched the note of a store that is shared, until nobody works on that store alone. More than
/// [`CLAIM_WITHIN`], by what a write may take from its stamp until others see it.
pub const QUIET: Duration = Duration::from_secs(12);

/// Why a record that was moved is unresolved where it was.
pub const MOVED: &str = "it was moved to another store: resolve it there";

/// Why a record whose holder is gone is unresolved in the store to which it was moved.
const UNFINISHED: &str = "its lease ended before it was moved to this store";

/// What a record in the old store says about its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The new store has it.
    Moved,
    /// It may not change here any more; this copy of it belongs into the new store.
    Frozen(Box<Record>),
    /// Its holder is at work. It stays until the work is finished or the lease is over.
    Running,
    /// It stands for nothing.
    Free,
    /// It can be frozen.
    Movable,
}

/// Judges a record that was found in the old store at `now` by its clock.
///
/// # Errors
/// `Corrupt`: the copy in a frozen record cannot be read.
pub fn judge(found: &Record, now: Timestamp) -> Result<Standing> {
    Ok(match (&found.state, &found.checkpoint) {
        (State::Abandoned { reason }, None) if reason == MOVED => Standing::Moved,
        (State::Abandoned { reason }, Some(copy)) if reason == MOVED => {
            Standing::Frozen(Box::new(encode::decode(found.id, copy)?))
        }
        (State::Released, _) => Standing::Free,
        _ if found.vacant_at(now) => Standing::Free,
        _ if found.lease_alive_at(now) => Standing::Running,
        _ => Standing::Movable,
    })
}

/// What the old store keeps for a key that `claim` is about to claim in the new one.
#[must_use]
pub fn taken(claim: &Put) -> Put {
    marked(Put { grant: None, wake_after: None, not_after: Timestamp::MAX, ..claim.clone() }, None)
}

/// What freezes `found`: it cannot change any more, and carries itself. Under `rerun` somebody else may run in the new
/// store from now on, so its holder is locked out, as if that had happened here. Under `hold` its answer may still come.
#[must_use]
pub fn frozen(found: &Record) -> Put {
    let copy = Bytes::from(encode::encode(found));
    let is_unfinished = matches!(found.state, State::Running | State::Abandoned { .. });
    let may_be_overtaken = is_unfinished && found.policy.unresolved == Unresolved::Rerun;
    let put = Put { grant: may_be_overtaken.then_some(NO_HOLDER), ..Put::keep(found, Timestamp::MAX) };
    marked(put, Some(copy))
}

/// What says of `found` that the new store has it, or may have it: a record that is frozen, or that stands for nothing. Who
/// held one that stands for nothing is locked out, as the next claim would do.
#[must_use]
pub fn moved(found: &Record) -> Put {
    let is_frozen = matches!(found.state, State::Abandoned { .. });
    let put = Put { grant: (!is_frozen).then_some(NO_HOLDER), ..Put::keep(found, Timestamp::MAX) };
    marked(put, None)
}

/// Takes a record from its holder and gives it to nobody.
const NO_HOLDER: Grant = Grant { owner: Owner::NOBODY, new_life: false };

/// Where the records of a store are, as far as its own [`NOTE`] says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// Here.
    #[default]
    Here,
    /// They are on their way to another store. Who knows only this one goes on for now.
    Leaving,
    /// In another store. Nobody may work on this one alone.
    Left {
        /// Where, in words for operators; empty where that is not known. No password is in it.
        to: String,
    },
}

/// Reads what a store has under [`NOTE`].
#[must_use]
pub fn place(note: Option<&Record>) -> Place {
    match note {
        Some(Record { state: State::Abandoned { reason }, checkpoint, .. }) if reason == MOVED => {
            match checkpoint {
                None => Place::Leaving,
                Some(to) => Place::Left { to: String::from_utf8_lossy(to).into_owned() },
            }
        }
        _ => Place::Here,
    }
}

/// What a store keeps beside `hash_key`, its own, from the moment its records are moved away. No listing shows it.
#[must_use]
pub fn leaving(hash_key: &Record) -> Put {
    let listing = Listing { key: NOTE.into(), ..Listing::clone(&hash_key.listing) };
    marked(Put { listing: Arc::new(listing), ..Put::keep(hash_key, Timestamp::MAX) }, None)
}

/// What somebody who knows only this store makes of its note while records are leaving: as it was, and touched just now.
#[must_use]
pub fn touched(note: &Record) -> Put {
    Put::keep(note, Timestamp::MAX)
}

/// Whether nobody touched the note for so long that nobody works on its store alone, nor can a claim of theirs still land.
#[must_use]
pub fn is_quiet(note: &Record, now: Timestamp) -> bool {
    note.updated.until(now) >= QUIET
}

/// What the note says once all records are in the store that is found at `to`.
#[must_use]
pub fn left(note: &Record, to: &str) -> Put {
    Put { checkpoint: Some(Bytes::copy_from_slice(to.as_bytes())), ..Put::keep(note, Timestamp::MAX) }
}

/// What becomes of `found` when records come back to the store that they had [left](Place::Left), which `note` says: it
/// stands for nothing, and the one that comes back takes its place. `None` where it is newer than that and no mark either:
/// it stands.
#[must_use]
pub fn vacated(found: &Record, note: &Record) -> Option<Put> {
    let is_mark = matches!(&found.state, State::Abandoned { reason } if reason == MOVED);
    let policy = Policy { retention: Duration::ZERO, tombstone: Duration::ZERO, ..found.policy };
    (!is_vacated(found) && (is_mark || found.updated <= note.updated)).then(|| Put {
        grant: Some(NO_HOLDER),
        state: State::Tombstone,
        policy,
        checkpoint: None,
        ..Put::keep(found, Timestamp::MAX)
    })
}

/// Whether `found` is what [`vacated`] made, and nothing came in its place yet.
#[must_use]
pub fn is_vacated(found: &Record) -> bool {
    let Policy { retention, tombstone, .. } = found.policy;
    found.state == State::Tombstone && found.owner == Owner::NOBODY && retention.max(tombstone).is_zero()
}

/// It is unresolved here for ever, whatever its claim allowed.
fn marked(put: Put, copy: Option<Bytes>) -> Put {
    Put {
        state: State::Abandoned { reason: MOVED.to_owned() },
        policy: Policy { unresolved: Unresolved::Hold, ..put.policy },
        checkpoint: copy,
        ..put
    }
}

/// What the new store keeps for `copy`, a record of the old store, where it is `now`. The holder stays, so that an answer
/// that comes after all is known as its own; attempts count from one again.
#[must_use]
pub fn brought(copy: &Record, now: Timestamp, not_after: Timestamp) -> Put {
    let grant = Some(Grant { owner: copy.owner, new_life: false });
    let wake_after = copy.wake_at.map(|it| now.until(it));
    let put = Put { grant, wake_after, ..Put::keep(copy, not_after) };
    let left = |until: Timestamp| match until {
        Timestamp::MAX => Duration::from_millis(u64::MAX),
        until => now.until(until),
    };
    match &copy.state {
        // Its times begin once nobody has to do with it any more.
        State::Done(_) | State::Tombstone if copy.is_owing() => put,
        State::Done(_) if now < copy.answer_until => {
            let tombstone = match copy.gone_until {
                Timestamp::MAX => Duration::from_millis(u64::MAX),
                until => copy.answer_until.until(until),
            };
            Put { policy: Policy { retention: left(copy.answer_until), tombstone, ..put.policy }, ..put }
        }
        State::Done(_) | State::Tombstone => {
            let policy = Policy { retention: Duration::ZERO, tombstone: left(copy.gone_until), ..put.policy };
            Put { state: State::Tombstone, policy, ..put }
        }
        State::Running => Put { state: State::Abandoned { reason: UNFINISHED.to_owned() }, ..put },
        State::Abandoned { .. } | State::Released => put,
    }
}

/// What the new store keeps where it has `found` already: the answer of `copy`, if it came after its holder was thought
/// to be gone. Otherwise what the new store has stands.
#[must_use]
pub fn came_after_all(found: &Record, copy: &Record, now: Timestamp, not_after: Timestamp) -> Option<Put> {
    let is_unfinished = matches!(found.state, State::Abandoned { .. });
    let is_its = found.owner == copy.owner && found.fingerprint == copy.fingerprint;
    let is_answered = matches!(copy.state, State::Done(_)) && now < copy.answer_until;
    (is_unfinished && is_its && is_answered).then(|| Put { grant: None, ..brought(copy, now, not_after) })
}

/// Whether a fence that the new store stamps at `there` is higher than the last one of `found`, so that fences go on
/// growing.
#[must_use]
pub fn fences_grow(found: &Record, there: Timestamp) -> bool {
    // Whoever sends what an answer carries shows the revision as the fence.
    let shown = if found.wake_at.is_some() { found.fence.0.max(found.revision.0) } else { found.fence.0 };
    next_stamp(0, there) > shown
}

/// A record of the old store as its times are on the clock of the new one: what was `here` is `there`.
#[must_use]
pub fn on_the_clock_of(found: &Record, here: Timestamp, there: Timestamp) -> Record {
    let moved = |time: Timestamp| match time {
        Timestamp::MAX => Timestamp::MAX,
        time if time >= here => there.after(here.until(time)),
        time => {
            let ago = time.until(here).as_millis();
            Timestamp::from_millis(there.as_millis().saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX)))
        }
    };
    Record {
        lease_until: moved(found.lease_until),
        run_until: moved(found.run_until),
        answer_until: moved(found.answer_until),
        gone_until: moved(found.gone_until),
        wake_at: found.wake_at.map(moved),
        created: moved(found.created),
        updated: moved(found.updated),
        listing: Arc::clone(&found.listing),
        ..found.clone()
    }
}

#[cfg(test)]
mod tests;
