//! A store that is opened by itself, though its records may be on their way to another one, or gone there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::moving::{self, Place};
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Hints, Insert, Loaded, Page, Put, Replace, Swept, Traits,
};
use onceward_core::{Clock, Error, ErrorKind, RecordId, Result, Revision, Store, Timestamp};

use crate::mover::place;
use crate::open::OpenError;

/// How often one look is begun again because others touch the note, too.
const TRIES: usize = 16;

/// The store, for somebody who works on it alone, unless its records have left it: what [`open`](crate::open) does with a
/// store that it opened.
///
/// A store that others may share is watched from then on: while records are leaving, it is noted there that somebody works
/// on it alone, which keeps the move from ending; and once they have left, nothing is claimed there.
///
/// # Errors
/// [`OpenError::MovedAway`], or the store could not be asked. Nothing was written.
///
/// # Cancel safety
/// Dropping it leaves the store as it was, or noted once more that somebody works on it alone.
pub async fn alone(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, OpenError> {
    let alone =
        AloneStore { inside: store, clock, seen: Mutex::default(), turn: tokio::sync::Mutex::default() };
    if !alone.inside.traits().shared {
        return match alone.inside.load(RecordId::reserved(moving::NOTE)).await {
            Ok(Loaded { record, .. }) => match moving::place(record.as_deref()) {
                Place::Here | Place::Leaving => Ok(alone.inside),
                Place::Left { to } => Err(OpenError::MovedAway { to }),
            },
            // A damaged file is no reason to refuse all keys that are in the others.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "whether the records of this store were moved away cannot be read");
                Ok(alone.inside)
            }
            Err(error) => Err(OpenError::Asked(error)),
        };
    }
    match alone.claimable().await {
        Ok(_) => Ok(Arc::new(alone)),
        Err(error) => Err(match alone.seen().left.take() {
            Some(to) => OpenError::MovedAway { to },
            None => OpenError::Asked(error),
        }),
    }
}

/// See [`alone`]. It is shared.
#[derive(Debug)]
struct AloneStore {
    inside: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
    /// One looks for all.
    turn: tokio::sync::Mutex<()>,
}

/// What was found at the last look.
#[derive(Debug, Default)]
struct Seen {
    /// When it was begun, in boot time; `None` when it is to be looked again before anything is claimed.
    at: Option<Duration>,
    /// Until when a claim may land, on the clock of the store.
    until: Timestamp,
    /// Where the records are, if they have left.
    left: Option<String>,
}

impl AloneStore {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when a claim that is sent now may land. Looks first, if that was not done lately.
    ///
    /// # Errors
    /// `Unavailable`: the records have left, or nobody knows.
    async fn claimable(&self) -> Result<Timestamp> {
        if let Some(known) = self.known(moving::LOOK_EVERY) {
            return known;
        }
        self.look(moving::LOOK_EVERY).await
    }

    /// What a look says that was taken less than `age` ago.
    fn known(&self, age: Duration) -> Option<Result<Timestamp>> {
        let seen = self.seen();
        if seen.left.is_some() {
            return Some(Err(has_left()));
        }
        seen.at.filter(|it| self.clock.boot().saturating_sub(*it) < age).map(|_| Ok(seen.until))
    }

    /// Looks, unless another one did less than `age` ago.
    async fn look(&self, age: Duration) -> Result<Timestamp> {
        let _turn = self.turn.lock().await;
        if let Some(known) = self.known(age) {
            return known;
        }
        let at = self.clock.boot();
        let until = self.read().await.map_err(not_asked)?.after(moving::CLAIM_WITHIN);
        *self.seen() = Seen { at: Some(at), until, left: None };
        Ok(until)
    }

    /// When, on the clock of the store, its records had not left it.
    async fn read(&self) -> Result<Timestamp> {
        let id = RecordId::reserved(moving::NOTE);
        let Loaded { mut record, mut now } = self.inside.load(id).await?;
        for _ in 0..TRIES {
            let note = match (moving::place(record.as_deref()), record) {
                (Place::Leaving, Some(note)) => note,
                (Place::Here | Place::Leaving, _) => return Ok(now),
                (Place::Left { to }, _) => {
                    tracing::error!(
                        to = place(&to),
                        "the records of this store were moved to another one: nothing runs here any more; set `store` to \
                         that one"
                    );
                    self.seen().left = Some(to);
                    return Err(has_left());
                }
            };
            match self.inside.replace(id, note.revision, &moving::touched(&note)).await? {
                Replace::Kept(note) => return Ok(note.updated),
                Replace::Lost(found, at) => (record, now) = (found, at),
                Replace::Late(_) => break,
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "see whether the records were moved away: it changes all the time",
        ))
    }

    /// The claim must not land once the records may have left.
    fn in_time(put: &Put, until: Timestamp) -> Option<Put> {
        (put.not_after > until).then(|| Put { not_after: until, ..put.clone() })
    }

    /// Our clock said that there was time, the store's says that there was not.
    fn was_late(&self) {
        self.seen().at = None;
    }
}

fn has_left() -> Error {
    Error::new(ErrorKind::Unavailable, "use this store: its records were moved to another one")
}

/// Nothing of what was asked for was written.
fn not_asked(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Uncertain => {
            Error::new(ErrorKind::Unavailable, "see whether the records were moved away").caused_by(error)
        }
        _ => error,
    }
}

#[async_trait]
impl Store for AloneStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        let until = self.claimable().await?;
        let shorter = Self::in_time(put, until);
        let inserted = self.inside.insert(id, shorter.as_ref().unwrap_or(put)).await?;
        if let Insert::Late(_) = inserted {
            self.was_late();
        }
        Ok(inserted)
    }

    /// Only a grant begins something here. What was begun is finished where it was.
    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        if put.grant.is_none() {
            return self.inside.replace(id, seen, put).await;
        }
        let until = self.claimable().await?;
        let shorter = Self::in_time(put, until);
        let replaced = self.inside.replace(id, seen, shorter.as_ref().unwrap_or(put)).await?;
        if let Replace::Late(_) = replaced {
            self.was_late();
        }
        Ok(replaced)
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        self.inside.load(id).await
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.inside.due(from, limit).await
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.inside.list(filter, cursor, limit).await
    }

    /// Also looks before a claim would have to wait for it.
    async fn sweep(&self, limit: usize) -> Result<Swept> {
        let looked = match self.known(moving::LOOK_EVERY / 2) {
            Some(known) => known,
            None => self.look(moving::LOOK_EVERY / 2).await,
        };
        // Claims find out for themselves, and what is over goes in any case.
        drop(looked);
        self.inside.sweep(limit).await
    }

    async fn check(&self) -> Result<()> {
        if self.seen().left.is_some() {
            return Err(has_left());
        }
        self.inside.check().await
    }

    fn traits(&self) -> Traits {
        self.inside.traits()
    }

    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.inside.hints(id)
    }
}
