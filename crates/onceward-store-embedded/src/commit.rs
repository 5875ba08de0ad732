//! The committer: one thread through which every write goes.
//!
//! While it writes and syncs one group, the calls that arrive wait in the queue and are the next group; so one
//! sync serves all that came during the one before. Judging the next group beside the sync is not done: the
//! engine holds its journal from the write to the end of the sync, so nothing could be written meanwhile, and
//! judging takes microseconds.
//!
//! After a fault it is the committer that opens the files again ([`Committer::mend`]): it is the only one that
//! writes, so nobody can write meanwhile.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use fjall::PersistMode;
use onceward_core::mutant::{self, Mutant};

use crate::fault;
use crate::group::{Ask, Group, Order};
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
    pub(crate) orders: Receiver<Order>,
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

    fn serve_from(&self, shelf: &Shelf) -> Stop {
        // Since when there are writes that were told but not synced.
        let mut unsynced: Option<Duration> = None;
        while shelf.usable().is_ok() {
            let order = match unsynced {
                None => self.orders.recv().map_err(RecvTimeoutError::from),
                Some(_) => self.orders.recv_timeout(RELAXED_SYNC),
            };
            let idle = matches!(order, Err(RecvTimeoutError::Timeout));
            match order {
                Ok(order) => {
                    if self.serve(shelf, order) && self.durability == Durability::Relaxed {
                        unsynced = unsynced.or_else(|| Some(shelf.boot()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Stop::Closed,
            }
            let late = |since| idle || shelf.boot().saturating_sub(since) >= RELAXED_SYNC;
            if unsynced.is_some_and(late) {
                sync(shelf);
                unsynced = None;
            }
        }
        Stop::Failed
    }

    /// Answers `first` and all that wait behind it. Says whether anything was written.
    fn serve(&self, shelf: &Shelf, first: Order) -> bool {
        let mut group = Group::new(shelf);
        group.take(first);
        while !group.is_full(self.calls_max)
            && let Ok(order) = self.orders.try_recv()
        {
            group.take(order);
        }
        group.settle(self.mode(), &self.probe)
    }

    /// `fdatasync` is enough: it also writes the metadata without which the data could not be read back, such
    /// as the file's size (fdatasync(2)), and the engine syncs new journal files and their directory in full.
    fn mode(&self) -> PersistMode {
        match self.durability {
            Durability::Durable if mutant::is(Mutant::ToldBeforeSynced) => PersistMode::Buffer,
            Durability::Durable => PersistMode::SyncData,
            Durability::Relaxed => PersistMode::Buffer,
        }
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
            match self.orders.recv_timeout(pause) {
                Ok(order) => refuse(order.ask),
                Err(RecvTimeoutError::Timeout) => return Stop::Failed,
                Err(RecvTimeoutError::Disconnected) => return Stop::Closed,
            }
        }
    }

    fn finish(&self, shelf: &Shelf) {
        sync(shelf);
        if shelf.usable().is_ok() {
            shelf.leave();
        }
        self.seat.close();
    }
}

fn sync(shelf: &Shelf) {
    if let Err(error) = shelf.database.persist(PersistMode::SyncData) {
        tracing::error!(cause = fault::describe(&error), "a periodic sync failed");
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
            for order in self.0.orders.try_iter() {
                refuse(order.ask);
            }
        }
    }
}
