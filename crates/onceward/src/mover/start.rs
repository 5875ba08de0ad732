//! Whether records may be moved from one store to another, and what both have to know before.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::moving::{self, BEHIND_MAX};
use onceward_core::store::{Insert, Loaded, Put, Replace};
use onceward_core::{Error, ErrorKind, Record, RecordId, Store, Timestamp, transition};

use super::BUDGET;

/// Why records cannot be moved from one store to the other. Nothing was moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The keys of the two stores cannot be compared.
    #[error(
        "the new store has a hash key of its own, so it was in use before: the callers of the old store would be strangers \
         there; move into an empty store"
    )]
    OtherSecret,
    /// Fences would go back.
    #[error("the clock of the new store is {behind:?} behind that of the old one: set it right, then move")]
    ClockBehind {
        /// How much.
        behind: Duration,
    },
    /// Both URLs are one store, however they are written.
    #[error("the old store and the new one are the same")]
    Same,
    /// What was moved away from a store cannot come back to it: there it is marked as moved.
    #[error("records were moved away from the new store before: move into an empty store")]
    MovedAway,
    /// There is nothing to move.
    #[error(
        "the old store holds nothing, no gateway ever used it: check that its URL, relative paths included, is the one that \
         was used"
    )]
    Empty,
    /// One of the stores could not be asked.
    #[error(transparent)]
    Store(#[from] Error),
}

impl MoveError {
    /// Whether no waiting cures it.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::OtherSecret | Self::Same | Self::MovedAway | Self::Empty => true,
            Self::ClockBehind { .. } | Self::Store(_) => false,
        }
    }
}

/// Gives the new store the hash key of the old one, and the name of that record.
pub(super) async fn same_secret(from: &dyn Store, to: &dyn Store) -> Result<RecordId, MoveError> {
    let secret = RecordId::reserved("hash key");
    let Loaded { record: known, now: there } = to.load(secret).await?;
    let here = from.load(secret).await?;
    let behind = there.until(here.now);
    if behind > BEHIND_MAX {
        return Err(MoveError::ClockBehind { behind });
    }
    let Some(record) = here.record else { return Err(MoveError::Empty) };
    if known.is_some_and(|it| it.state != record.state) {
        return Err(MoveError::OtherSecret);
    }
    leave(from, to, &record).await?;
    let put = Put { grant: None, ..moving::brought(&record, here.now, there.after(BUDGET)) };
    match to.insert(secret, &put).await? {
        Insert::Kept(_) => {}
        Insert::Found(found, _) if found.state == record.state => {}
        Insert::Found(..) => return Err(MoveError::OtherSecret),
        Insert::Late(_) => {
            return Err(Error::new(ErrorKind::Unavailable, "keep the hash key in time").into());
        }
    }
    Ok(secret)
}

/// Notes in `from` that its records are moved away, and makes sure that `to` is not such a store: what it marked as moved
/// would be taken for what it has.
async fn leave(from: &dyn Store, to: &dyn Store, hash_key: &Record) -> Result<(), MoveError> {
    let note = RecordId::reserved("moved away");
    let leaves = |shown: &Option<Arc<Record>>| shown.as_ref().is_some_and(|it| moving::leaves(it));
    if leaves(&to.load(note).await?.record) {
        return Err(MoveError::MovedAway);
    }
    let noted = match from.insert(note, &moving::leaving(hash_key)).await? {
        Insert::Kept(noted) => noted,
        Insert::Found(found, _) if moving::leaves(&found) => found,
        Insert::Found(found, _) => {
            match from.replace(note, found.revision, &moving::leaving(hash_key)).await? {
                Replace::Kept(noted) => noted,
                Replace::Lost(..) | Replace::Late(_) => return Err(not_noted().into()),
            }
        }
        Insert::Late(_) => return Err(not_noted().into()),
    };
    let shown = to.load(note).await?.record;
    if !leaves(&shown) {
        return Ok(());
    }
    if shown != Some(Arc::clone(&noted)) {
        return Err(MoveError::MovedAway);
    }
    // It was noted just now, of a store that nobody leaves.
    from.replace(note, noted.revision, &transition::released(&noted, Timestamp::MAX)).await?;
    Err(MoveError::Same)
}

fn not_noted() -> Error {
    Error::new(ErrorKind::Unavailable, "note that records are moved away")
}
