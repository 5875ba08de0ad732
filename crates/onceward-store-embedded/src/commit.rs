//! The committer: one thread through which every write goes.
//!
//! While it writes and syncs one group, the calls that arrive wait in the queue and are the next group; so one
//! sync serves all that came during the one before. Judging the next group beside the sync is not done: the
//! engine holds its journal from the write to the end of the sync, so nothing could be written meanwhile, and
//! judging takes microseconds.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use fjall::PersistMode;

use crate::fault;
use crate::group::{Ask, Fuse, Group, Order};
use crate::probe::Probe;
use crate::settings::Durability;
use crate::shelf::{Health, Shelf};

/// How long a relaxed write may stay unsynced.
const RELAXED_SYNC: Duration = Duration::from_secs(1);

pub(crate) struct Committer {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) durability: Durability,
    pub(crate) calls_max: usize,
}

impl Committer {
    /// Serves until every sender is gone, then syncs and notes the orderly end.
    pub(crate) fn run(self) {
        let _last_words = LastWords(&self);
        // Since when there are writes that were told but not synced.
        let mut unsynced: Option<Duration> = None;
        loop {
            let order = match unsynced {
                None => self.orders.recv().map_err(RecvTimeoutError::from),
                Some(_) => self.orders.recv_timeout(RELAXED_SYNC),
            };
            let idle = matches!(order, Err(RecvTimeoutError::Timeout));
            match order {
                Ok(order) => {
                    if self.serve(order) && self.durability == Durability::Relaxed {
                        unsynced = unsynced.or_else(|| Some(self.shelf.boot()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let late = |since| idle || self.shelf.boot().saturating_sub(since) >= RELAXED_SYNC;
            if unsynced.is_some_and(late) {
                self.sync();
                unsynced = None;
            }
        }
        self.finish();
    }

    /// Answers `first` and all that wait behind it. Says whether anything was written.
    fn serve(&self, first: Order) -> bool {
        if self.shelf.health() != Health::Open {
            refuse(first.ask);
            return false;
        }
        let mut group = Group::new(&self.shelf);
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
            Durability::Durable => PersistMode::SyncData,
            Durability::Relaxed => PersistMode::Buffer,
        }
    }

    fn sync(&self) {
        if let Err(error) = self.shelf.database.persist(PersistMode::SyncData) {
            tracing::error!(cause = fault::describe(&error), "a periodic sync failed");
            self.shelf.worsen(Health::Failed);
        }
    }

    fn finish(&self) {
        self.sync();
        if self.shelf.health() == Health::Open {
            self.shelf.worsen(Health::Closed);
            self.shelf.leave();
        }
    }
}

fn refuse(ask: Ask) {
    let error = fault::out_of_order;
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
            drop(Fuse(&self.0.shelf));
            for order in self.0.orders.try_iter() {
                refuse(order.ask);
            }
        }
    }
}
