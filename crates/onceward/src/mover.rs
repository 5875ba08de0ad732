//! Two stores as one, while the records of the first are moved to the second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use onceward_core::moving::{self, Place, Standing};
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Hints, Insert, Loaded, Page, Put, Replace, Swept, Traits,
};
use onceward_core::{Clock, Error, ErrorKind, Record, RecordId, Result, Revision, Store, Timestamp};

use crate::alone::alone;
use crate::open::OpenError;

mod start;

pub use self::start::MoveError;
pub(crate) use self::start::place;

/// How often one call looks at a record that others change all the time.
const TRIES: usize = 16;

/// How long an insert of a moved record may take on its way.
const BUDGET: Duration = Duration::from_secs(30);

/// How many records of the old store a round of upkeep looks at.
const STEP: usize = 256;

/// How many of them are moved at once: each takes several round trips.
const AT_ONCE: usize = 64;

/// What was found on one walk through the old store, or on a part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Records that were moved now.
    pub moved: u64,
    /// Records that stay for now, because their holders are at work, or because the new store's clock is behind their
    /// fences.
    pub running: u64,
    /// Records that could not be read, or that the new store does not take. They are not in the new store.
    pub unreadable: u64,
}

impl Moved {
    /// Whether nothing is left to be moved.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: Self) {
        self.moved += other.moved;
        self.running += other.running;
        self.unreadable += other.unreadable;
    }
}

/// A store that takes over from another one, while processes that know only that one may still run.
///
/// It knows what either store knows. A record of the old store is moved when it is asked for, and the rest of them by
/// [`sweep`](Store::sweep), a part at each call; what an operation writes goes to the new store. A key that neither store
/// knows is marked in the old one first: from then on a process that knows only the old one is told that its outcome is
/// unresolved. So nothing runs twice, whichever process is asked; see [`onceward_core::moving`].
///
/// While it moves, a claim takes one more round trip, to the old store, and nothing is claimed while that one is away.
/// Listings show what was moved so far.
#[derive(Debug)]
pub struct MovingStore {
    from: Arc<dyn Store>,
    to: Arc<dyn Store>,
    /// The one record that both stores have.
    secret: RecordId,
    /// Where the new store is, for those who look for the records in the old one.
    address: String,
    walk: Mutex<Walk>,
    has_left: AtomicBool,
}

/// Where the walk through the old store is, and what it found.
#[derive(Debug, Default)]
struct Walk {
    cursor: Option<Cursor>,
    found: Moved,
    /// The note in the old store, if nobody worked on that store alone when the walk began.
    quiet: Option<Arc<Record>>,
    said: Option<(Moved, bool)>,
}

/// Where a key is now.
enum Crossed {
    /// In the new store, if anywhere.
    There,
    /// Still in the old one, with the time on the clock of the new one.
    Running(Arc<Record>, Timestamp),
    /// Still in the old one, since its fence is ahead of the new one's clock.
    Ahead,
}

fn is_ahead() -> Error {
    Error::new(ErrorKind::Unavailable, "move the record: the new store's clock is behind")
}

impl MovingStore {
    /// Begins to move, or goes on: the new store gets the hash key of the old one, so that callers and requests are known
    /// there.
    ///
    /// # Errors
    /// [`MoveError`] says what to change. The new store has the hash key, or nothing.
    ///
    /// # Cancel safety
    /// Dropping it leaves what an error leaves; it may be begun again.
    pub async fn begin(from: Arc<dyn Store>, to: Arc<dyn Store>) -> Result<Self, MoveError> {
        let secret = start::same_secret(&*from, &*to).await?;
        let address = String::new();
        Ok(Self { from, to, secret, address, walk: Mutex::default(), has_left: AtomicBool::new(false) })
    }

    /// Says where the new store is. The old one keeps it, and whoever opens that one alone afterwards is told: so no
    /// password may be in it.
    #[must_use]
    pub fn to_be_found_at(self, address: impl Into<String>) -> Self {
        Self { address: address.into(), ..self }
    }

    /// The same, which also sees when the records of the new store are moved on to a third one, as whoever has that store by
    /// itself does.
    pub(crate) async fn watching(self, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Ok(Self { to: alone(self.to, clock).await?, ..self })
    }

    /// Whether the move is over, and noted in the old store: nobody works on that one alone any more. A
    /// [`step`](Self::step) finds that out.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// Moves the next part of the old store, at most `limit` records. At the end of the store it begins again, since
    /// holders finish what they were at, and gives what the whole walk found.
    ///
    /// A walk that leaves nothing behind ends the move, which is noted in the old store. Where processes share that one, a
    /// walk must have found nothing at all, and none of them may have worked on it alone for [`moving::QUIET`].
    ///
    /// # Errors
    /// A store could not be asked. What was moved stays moved; the next call goes on at the same place.
    ///
    /// # Cancel safety
    /// Dropping it is as an error: each record is where it was, or moved, or about to be by whoever looks at it next.
    pub async fn step(&self, limit: usize) -> Result<(Moved, Option<Moved>)> {
        let cursor = self.walk().cursor;
        let quiet = match cursor {
            None => self.quiet().await?,
            Some(_) => None,
        };
        let page = self.from.list(&Filter::default(), cursor, limit).await?;
        let mut found = Moved {
            unreadable: u64::try_from(page.unreadable.len()).unwrap_or(u64::MAX),
            ..Moved::default()
        };
        let stays = |it: &Record| matches!(moving::judge(it, page.now), Ok(Standing::Free | Standing::Moved));
        let to_move: Vec<_> = page.records.iter().filter(|it| !stays(it)).map(|it| it.id).collect();
        let mut crossed = stream::iter(to_move).map(|id| self.cross(id, None)).buffer_unordered(AT_ONCE);
        while let Some(crossed) = crossed.next().await {
            match crossed {
                Ok(Crossed::There) => found.moved += 1,
                Ok(Crossed::Running(..) | Crossed::Ahead) => found.running += 1,
                // One that cannot be moved is not in the way of all behind it.
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid) => {
                    found.unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        drop(crossed);
        let ended = {
            let mut walk = self.walk();
            if walk.cursor != cursor {
                // Another call went on from the same place.
                return Ok((found, None));
            }
            if cursor.is_none() {
                walk.quiet = quiet;
            }
            walk.cursor = page.next;
            walk.found.add(found);
            if page.next.is_some() {
                return Ok((found, None));
            }
            (std::mem::take(&mut walk.found), walk.quiet.take())
        };
        if let (walked, Some(note)) = &ended
            && self.leaves_nothing(*walked)
        {
            let left = moving::left(note, &self.address);
            if let Replace::Kept(_) = self.from.replace(note.id, note.revision, &left).await? {
                self.has_left.store(true, Ordering::Relaxed);
            }
        }
        Ok((found, Some(ended.0)))
    }

    /// The note in the old store, where it can be noted there that all records have left: nobody works on that store
    /// alone.
    async fn quiet(&self) -> Result<Option<Arc<Record>>> {
        if self.has_left() {
            return Ok(None);
        }
        let Loaded { record, now } = self.from.load(RecordId::reserved(moving::NOTE)).await?;
        if let Place::Left { .. } = moving::place(record.as_deref()) {
            self.has_left.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        // A store that is not shared is in no other hands than ours.
        let is_quiet = |it: &Record| !self.from.traits().shared || moving::is_quiet(it, now);
        Ok(record.filter(|it| moving::place(Some(it)) == Place::Leaving && is_quiet(it)))
    }

    /// Whether a walk that found this has left nothing in the old store. Where others may have changed records while it
    /// walked, it may have missed one; the next walk finds it.
    fn leaves_nothing(&self, walked: Moved) -> bool {
        walked.running == 0 && walked.unreadable == 0 && (walked.moved == 0 || !self.from.traits().shared)
    }

    /// Sees to it that the new store has what the old one has for `id`. With `claim`, the key is marked in the old store
    /// in any case, so that nobody claims it there.
    async fn cross(&self, id: RecordId, claim: Option<&Put>) -> Result<Crossed> {
        // The time of the new store, asked before the old one is looked at: who looked long ago writes nothing.
        let mut there = None;
        for _ in 0..TRIES {
            let (found, here) = match claim {
                Some(claim) => match self.from.insert(id, &moving::taken(claim)).await? {
                    Insert::Kept(_) => return Ok(Crossed::There),
                    Insert::Found(found, here) => (found, here),
                    Insert::Late(_) => break,
                },
                None => match self.from.load(id).await? {
                    Loaded { record: Some(found), now } => (found, now),
                    Loaded { record: None, .. } => return Ok(Crossed::There),
                },
            };
            let standing = moving::judge(&found, here)?;
            let now = match (&standing, there.take()) {
                (Standing::Moved, _) => return Ok(Crossed::There),
                (Standing::Free, _) if claim.is_none() => return Ok(Crossed::There),
                (Standing::Movable, _) => {
                    // Whatever comes of it shows at the next look.
                    self.from.replace(id, found.revision, &moving::frozen(&found)).await?;
                    continue;
                }
                (Standing::Free | Standing::Running | Standing::Frozen(_), None) => {
                    there = Some(self.to.load(id).await?.now);
                    continue;
                }
                (Standing::Free | Standing::Running | Standing::Frozen(_), Some(now)) => now,
            };
            if let Standing::Running = standing {
                let record = moving::on_the_clock_of(&found, here, now);
                return Ok(Crossed::Running(Arc::new(record), now));
            }
            // A frozen record was perhaps taken from its holder, by which its own fence grew. Nobody has that one.
            let last_held = if let Standing::Frozen(copy) = &standing { copy.as_ref() } else { &*found };
            if !moving::fences_grow(last_held, now) {
                return Ok(Crossed::Ahead);
            }
            if let Standing::Frozen(copy) = standing
                && !self.bring(id, &copy, here, now.after(BUDGET)).await?
            {
                continue;
            }
            if let Replace::Kept(_) = self.from.replace(id, found.revision, &moving::moved(&found)).await? {
                return Ok(Crossed::There);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "move the record: it changes all the time"))
    }

    /// Whether the new store has now what `copy` says, or something that came of it.
    async fn bring(
        &self,
        id: RecordId,
        copy: &Record,
        here: Timestamp,
        not_after: Timestamp,
    ) -> Result<bool> {
        let (found, _) = match self.to.insert(id, &moving::brought(copy, here, not_after)).await? {
            Insert::Kept(_) => return Ok(true),
            Insert::Late(_) => return Ok(false),
            Insert::Found(found, now) => (found, now),
        };
        let put = if moving::is_vacated(&found) {
            moving::brought(copy, here, not_after)
        } else if let Some(put) = moving::came_after_all(&found, copy, here, not_after) {
            put
        } else {
            return Ok(true);
        };
        Ok(matches!(self.to.replace(id, found.revision, &put).await?, Replace::Kept(_)))
    }

    fn walk(&self) -> std::sync::MutexGuard<'_, Walk> {
        self.walk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what a whole walk found, unless the one before found the same.
    fn say(&self, walked: Moved) {
        let has_left = self.has_left();
        if self.walk().said.replace((walked, has_left)) == Some((walked, has_left)) {
            return;
        }
        let Moved { moved, running, unreadable } = walked;
        if walked.is_all() && has_left {
            tracing::info!("all records of the old store were moved: the setting that names it can go");
        } else if walked.is_all() {
            tracing::info!(
                "all records of the old store were moved so far; somebody may still work on that store alone"
            );
        } else {
            tracing::info!(moved, running, unreadable, "went through the old store to move its records");
        }
    }
}

/// Nothing of what was asked for was written, whatever became of the record's move.
fn not_asked_yet(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Uncertain => {
            Error::new(ErrorKind::Unavailable, "look for the record in the old store").caused_by(error)
        }
        _ => error,
    }
}

#[async_trait]
impl Store for MovingStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        if id != self.secret {
            match self.cross(id, Some(put)).await.map_err(not_asked_yet)? {
                Crossed::There => {}
                Crossed::Running(record, now) => return Ok(Insert::Found(record, now)),
                Crossed::Ahead => return Err(is_ahead()),
            }
        }
        self.to.insert(id, put).await
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        self.to.replace(id, seen, put).await
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        if id != self.secret {
            match self.cross(id, None).await? {
                Crossed::There => {}
                Crossed::Running(record, now) => return Ok(Loaded { record: Some(record), now }),
                Crossed::Ahead => return Err(is_ahead()),
            }
        }
        self.to.load(id).await
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.to.due(from, limit).await
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.to.list(filter, cursor, limit).await
    }

    /// Also moves a part of the old store.
    async fn sweep(&self, limit: usize) -> Result<Swept> {
        let swept = self.to.sweep(limit).await?;
        let (moved, walked) = self.step(STEP).await?;
        if let Some(walked) = walked {
            self.say(walked);
        }
        Ok(Swept { more: swept.more || moved.moved > 0, ..swept })
    }

    async fn check(&self) -> Result<()> {
        self.from.check().await?;
        self.to.check().await
    }

    fn traits(&self) -> Traits {
        let (from, to) = (self.from.traits(), self.to.traits());
        Traits { name: to.name, durable: from.durable && to.durable, shared: from.shared || to.shared }
    }

    /// Of both: who runs may have begun in either.
    fn hints(&self, id: RecordId) -> Option<Hints> {
        match (self.from.hints(id), self.to.hints(id)) {
            (Some(from), Some(to)) => Some(stream::select(from, to).boxed()),
            (one, other) => one.or(other),
        }
    }
}
