//! The committer: one thread through which every write goes.
//!
//! While it writes and syncs one group, the calls that arrive wait in the line and are the next group; so one
//! sync serves all that came during the one before. Judging the next group beside the sync is not done: it takes
//! microseconds, and on few cores the callers need them.
//!
//! After a fault it is the committer that opens the files again ([`Committer::mend`]): it is the only one that
//! writes to the log, so nobody can write meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fjall::PersistMode;

use crate::drain::Drain;
use crate::fault;
use crate::group::{Ask, Group, Order};
use crate::line::{Line, Waited};
use crate::probe::{Point, Probe};
use crate::seat::Seat;
use crate::settings::Durability;
use crate::shelf::Shelf;

/// How long a relaxed write may stay unsynced.
const RELAXED_SYNC: Duration = Duration::from_secs(1);
/// The pauses between tries to open the files again.
const MEND_PAUSE: Duration = Duration::from_millis(100);
const MEND_PAUSE_MAX: Duration = Duration::from_secs(2);
/// After so long without a fault the pauses begin anew.
const MENDED: Duration = Duration::from_secs(60);

pub(crate) struct Committer {
    pub(crate) seat: Arc<Seat>,
    pub(crate) line: Arc<Line>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) durability: Durability,
    pub(crate) calls_max: usize,
}

/// Why the committer stopped to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Every sender is gone: the store is closed.
    Closed,
    /// The files are out of order.
    Failed,
}

impl Committer {
    /// Serves until every sender is gone, then syncs and notes the orderly end.
    pub(crate) fn run(self) {
        let _last_words = LastWords(&self);
        let mut pause = MEND_PAUSE;
        while let Ok(shelf) = self.seat.shelf() {
            let opened = shelf.boot();
            if self.serve_from(&shelf) == Stop::Closed {
                self.finish(&shelf);
                return;
            }
            let soon = self.seat.reopened() > 0 && shelf.boot().saturating_sub(opened) < MENDED;
            if !soon {
                pause = MEND_PAUSE;
            }
            drop(shelf);
            if self.mend(&mut pause, soon) == Stop::Closed {
                break;
            }
        }
        self.seat.close();
    }

    fn serve_from(&self, shelf: &Arc<Shelf>) -> Stop {
        let _drain = match Drain::start(shelf, &self.line, &self.probe) {
            Ok(it) => it,
            Err(error) => {
                tracing::error!(%error, "no thread can be started for the store");
                shelf.fail();
                return Stop::Failed;
            }
        };
        let mut taken = VecDeque::new();
        // Since when there are writes that were told but not synced.
        let mut unsynced: Option<Duration> = None;
        let stop = loop {
            if shelf.usable().is_err() {
                break Stop::Failed;
            }
            let patience = unsynced.map(|_| RELAXED_SYNC);
            let waited = if taken.is_empty() { self.line.wait(patience) } else { Waited::Orders };
            match waited {
                Waited::Orders => {
                    if self.serve(shelf, &mut taken) && self.durability == Durability::Relaxed {
                        unsynced = unsynced.or_else(|| Some(shelf.boot()));
                    }
                }
                Waited::Nothing | Waited::Woken => {}
                Waited::Closed => break Stop::Closed,
            }
            let late =
                |since| waited == Waited::Nothing || shelf.boot().saturating_sub(since) >= RELAXED_SYNC;
            if unsynced.is_some_and(late) {
                sync(shelf);
                unsynced = None;
            }
        };
        // Nothing is written of these.
        taken.into_iter().for_each(|it| refuse(it.ask));
        stop
    }

    /// Answers those who wait. Says whether anything was written.
    fn serve(&self, shelf: &Shelf, taken: &mut VecDeque<Order>) -> bool {
        // Before the time of the group is taken.
        shelf.hot.wait_for_room(|| shelf.usable().is_ok());
        let mut group = Group::new(shelf);
        while !group.is_full(self.calls_max) {
            if taken.is_empty() {
                self.line.take(taken);
            }
            let Some(order) = taken.pop_front() else { break };
            group.take(order);
        }
        group.settle(self.durability, &self.probe)
    }

    /// Refuses every call and tries to open the files again, until that succeeds or the store is closed. The
    /// pauses are of real time: a disk does not mend by a clock that somebody sets.
    ///
    /// When it failed again `soon` after that, the cause may be a damaged file that the engine would merge. All files
    /// are looked at then; with a damaged one the store only reads from now on, so that replays go on.
    fn mend(&self, pause: &mut Duration, soon: bool) -> Stop {
        tracing::error!("the store takes no calls until its files could be opened again");
        let (mut old, mut said) = (self.seat.put_away(), String::new());
        loop {
            if self.refuse_for(*pause) == Stop::Closed {
                return Stop::Closed;
            }
            *pause = (*pause * 2).min(MEND_PAUSE_MAX);
            // Closes the files, unless a call still reads from them.
            old = old.and_then(|it| Arc::try_unwrap(it).err());
            if old.is_some() {
                continue;
            }
            let opened = match self.probe.reached(Point::BeforeReopen) {
                Ok(()) => self.seat.reopen(soon).map_err(|it| fault::chain(&it)),
                Err(it) => Err(it.to_string()),
            };
            match opened {
                Ok(()) => {
                    tracing::info!("the store's files are open again, it takes calls");
                    return Stop::Failed;
                }
                Err(cause) if cause == said => {}
                Err(cause) => {
                    tracing::warn!(cause, "the store's files cannot be opened yet; it tries again");
                    said = cause;
                }
            }
        }
    }

    /// Waits. Calls that were on their way are told that nothing was written.
    fn refuse_for(&self, pause: Duration) -> Stop {
        loop {
            match self.line.wait(Some(pause)) {
                Waited::Orders => self.refuse_all(),
                Waited::Woken => {}
                Waited::Nothing => return Stop::Failed,
                Waited::Closed => return Stop::Closed,
            }
        }
    }

    fn refuse_all(&self) {
        let mut taken = VecDeque::new();
        self.line.take(&mut taken);
        taken.into_iter().for_each(|it| refuse(it.ask));
    }

    /// Notes the orderly end, once everything is in the engine's tables and synced.
    fn finish(&self, shelf: &Shelf) {
        let end = || {
            shelf.usable().map_err(|it| it.to_string())?;
            if !shelf.hot.is_empty() {
                return Err("what is in the log was not moved into the tables".to_owned());
            }
            shelf.database.persist(PersistMode::SyncAll).map_err(|it| fault::describe(&it))?;
            let log = shelf.log.as_ref().ok_or("nothing is written any more")?;
            log.drained(log.last());
            log.mark(shelf.now()).map_err(|it| it.to_string())
        };
        match end() {
            Ok(()) => shelf.leave(),
            Err(cause) => tracing::warn!(cause, "the store has no orderly end; the next start does more"),
        }
        self.seat.close();
    }
}

fn sync(shelf: &Shelf) {
    if let Some(Err(error)) = shelf.log.as_ref().map(|it| it.sync()) {
        tracing::error!(%error, "a periodic sync failed");
        shelf.fail();
    }
}

fn refuse(ask: Ask) {
    let error = fault::away;
    // Callers that left need no answer.
    match ask {
        Ask::Insert { reply, .. } => drop(reply.send(Err(error()))),
        Ask::Replace { reply, .. } => drop(reply.send(Err(error()))),
        Ask::Expire { reply, .. } => drop(reply.send(Err(error()))),
        Ask::Check { reply } => drop(reply.send(Err(error()))),
    }
}

/// A committer that panics takes the store out of order with it, and nobody is left waiting: of the calls
/// that it did not take up yet nothing was written.
struct LastWords<'a>(&'a Committer);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.seat.break_down();
            self.0.line.close();
            self.0.refuse_all();
        }
    }
}
