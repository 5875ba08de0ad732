//! Whether records may be moved from one store to another, and what both have to know before.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use onceward_core::moving::{self, BEHIND_MAX, Place};
use onceward_core::store::{Filter, Insert, Loaded, Put, Replace};
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
    /// What is on its way from a store cannot come back to it meanwhile: there it is marked as moved.
    #[error(
        "records of the new store are being moved away from it: let that end first (`onceward store copy` does), or move into \
         an empty store"
    )]
    MovedAway,
    /// There is nothing left to be moved, and the new store is not where it went.
    #[error(
        "the records of the old store were moved before, to {}: that is the store to move them from",
        place(to)
    )]
    MovedBefore {
        /// Where they are, without a password; empty where that is not known.
        to: String,
    },
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
            Self::OtherSecret | Self::Same | Self::MovedAway | Self::MovedBefore { .. } | Self::Empty => true,
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
    if known.as_ref().is_some_and(|it| it.state != record.state) {
        return Err(MoveError::OtherSecret);
    }
    leave(from, to, &record, known.is_none()).await?;
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

/// Notes in `from` that its records are moved away, and makes sure that nobody moves them away from `to`: what that store
/// marked as moved would be taken for what it has. One that they had left is made ready for them to come back.
async fn leave(
    from: &dyn Store,
    to: &dyn Store,
    hash_key: &Record,
    to_is_empty: bool,
) -> Result<(), MoveError> {
    let note = RecordId::reserved(moving::NOTE);
    let (old, new) = (from.load(note).await?.record, to.load(note).await?.record);
    if old.is_some() && old == new && moving::place(old.as_deref()) != Place::Here {
        return Err(MoveError::Same);
    }
    let comes_back = match (moving::place(old.as_deref()), moving::place(new.as_deref())) {
        (Place::Left { to }, Place::Left { .. }) => return Err(MoveError::MovedBefore { to }),
        (Place::Left { to }, Place::Here) if to_is_empty => return Err(MoveError::MovedBefore { to }),
        (_, Place::Leaving) => return Err(MoveError::MovedAway),
        (Place::Here | Place::Leaving, Place::Left { .. }) => new.as_deref(),
        (Place::Here | Place::Leaving | Place::Left { .. }, Place::Here) => None,
    };
    let noted = match from.insert(note, &moving::leaving(hash_key)).await? {
        Insert::Kept(noted) => noted,
        Insert::Found(found, _) if moving::place(Some(&found)) != Place::Here => found,
        Insert::Found(found, _) => {
            match from.replace(note, found.revision, &moving::leaving(hash_key)).await? {
                Replace::Kept(noted) => noted,
                Replace::Lost(..) | Replace::Late(_) => return Err(not_noted().into()),
            }
        }
        Insert::Late(_) => return Err(not_noted().into()),
    };
    let shown = to.load(note).await?.record;
    if shown.as_ref() == Some(&noted) {
        // It was noted just now, of a store that nobody leaves.
        from.replace(note, noted.revision, &transition::released(&noted, Timestamp::MAX)).await?;
        return Err(MoveError::Same);
    }
    match (moving::place(shown.as_deref()), comes_back) {
        (Place::Here, _) => Ok(()),
        (Place::Left { .. }, Some(left)) => make_ready(to, left).await,
        (Place::Leaving | Place::Left { .. }, _) => Err(MoveError::MovedAway),
    }
}

/// How many records are read, and how many are written, at once.
const PAGE: usize = 1000;
const AT_ONCE: usize = 64;

/// Makes a store that its records had left, as it says in `note`, one to which they can come back. It stays one that was
/// left until all of it is ready.
async fn make_ready(store: &dyn Store, note: &Record) -> Result<(), MoveError> {
    let unreadable = || Error::new(ErrorKind::Corrupt, "make the store ready to which records come back");
    let mut cursor = None;
    loop {
        let page = store.list(&Filter::default(), cursor, PAGE).await?;
        if !page.unreadable.is_empty() {
            return Err(unreadable().into());
        }
        let old: Vec<_> = page
            .records
            .iter()
            .filter_map(|it| Some((it.id, it.revision, moving::vacated(it, note)?)))
            .collect();
        let mut written = stream::iter(old)
            .map(|(id, seen, put)| async move { store.replace(id, seen, &put).await })
            .buffer_unordered(AT_ONCE);
        while let Some(replaced) = written.next().await {
            // Another one makes it ready just now.
            replaced?;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    store.replace(note.id, note.revision, &transition::released(note, Timestamp::MAX)).await?;
    Ok(())
}

/// Where records are, in words.
pub(crate) fn place(to: &str) -> &str {
    if to.is_empty() { "another store" } else { to }
}

fn not_noted() -> Error {
    Error::new(ErrorKind::Unavailable, "note that records are moved away")
}
