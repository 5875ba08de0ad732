//! The drain: the thread that moves what is hot into the engine's tables, and gives segments of the log free.
//!
//! Nobody waits for it but who needs a complete view of the tables, and the committer when it is far ahead. Each
//! batch is synced: there is one for about a thousand records.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::{OwnedWriteBatch, PersistMode};

use crate::engine;
use crate::fault;
use crate::hot::{Generation, Wake};
use crate::line::Line;
use crate::probe::{Point, Probe};
use crate::row::{self, Times};
use crate::shelf::Shelf;

/// What is hot goes into the tables after this long, even if it is little; and so often one looks whether a background
/// task of the engine has failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How many records one batch of the engine may change, and about how many bytes it may have.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// The thread, ended and waited for when this is dropped.
pub(crate) struct Drain {
    shelf: Arc<Shelf>,
    thread: Option<JoinHandle<()>>,
}

struct Drainer {
    shelf: Arc<Shelf>,
    line: Arc<Line>,
    probe: Arc<dyn Probe>,
}

impl Drain {
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(
        shelf: &Arc<Shelf>,
        line: &Arc<Line>,
        probe: &Arc<dyn Probe>,
    ) -> std::io::Result<Self> {
        let drainer = Drainer { shelf: Arc::clone(shelf), line: Arc::clone(line), probe: Arc::clone(probe) };
        let thread =
            std::thread::Builder::new().name("onceward-drain".to_owned()).spawn(move || drainer.run())?;
        Ok(Self { shelf: Arc::clone(shelf), thread: Some(thread) })
    }
}

impl Drop for Drain {
    /// What is hot and usable is drained first.
    fn drop(&mut self) {
        self.shelf.hot.end();
        if let Some(thread) = self.thread.take() {
            // A drain that panicked has taken the tables out of order; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drainer {
    fn run(self) {
        let _fuse = Fuse(&self);
        loop {
            let wake = self.shelf.hot.wait(PAUSE);
            if self.shelf.usable().is_err() {
                return;
            }
            if let Err(cause) = self.work() {
                tracing::error!(cause, "what is in the log could not be moved into the store's tables");
                return self.fail();
            }
            if wake == Wake::Ended {
                return;
            }
        }
    }

    fn work(&self) -> Result<(), String> {
        let Some(log) = &self.shelf.log else { return Ok(()) };
        let tables = |it: fjall::Error| fault::describe(&it);
        let system = |it: std::io::Error| it.to_string();
        match self.shelf.hot.freeze() {
            Some(frozen) => {
                self.probe.reached(Point::BeforeDrain).map_err(system)?;
                apply(&self.shelf, &frozen).map_err(tables)?;
                drop(frozen);
                self.probe.reached(Point::AfterDrain).map_err(system)?;
                self.shelf.hot.thaw();
            }
            None => self.shelf.database.persist(PersistMode::Buffer).map_err(tables)?,
        }
        let applied = self.shelf.hot.applied();
        if log.wants(applied) {
            self.shelf.database.persist(PersistMode::SyncData).map_err(tables)?;
            log.drained(applied);
        }
        self.probe.reached(Point::BeforeRecycle).map_err(system)?;
        log.recycle().map_err(system)
    }

    /// Takes the tables out of order; the committer opens them again.
    fn fail(&self) {
        self.shelf.fail();
        self.line.wake();
    }
}

/// Brings a generation into the engine's tables. Each batch is synced before the next begins, so that a power cut
/// leaves no hole in front of a later one: in the engine's journal that is damage, wherever the log has its records.
pub(crate) fn apply(shelf: &Shelf, frozen: &Generation) -> fjall::Result<()> {
    // In the order of the tables, which takes less time.
    let mut entries: Vec<_> = frozen.entries.iter().collect();
    entries.sort_unstable_by_key(|it| it.0);
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let mut batch = OwnedWriteBatch::with_capacity(shelf.database.clone(), BATCH * 3);
        let mut bytes = 0;
        for (id, entry) in entries.by_ref().take(BATCH) {
            let after = entry.after.as_ref().map(|it| (Times::of(&it.record), &it.bytes[..]));
            bytes += after.map_or(0, |it| it.1.len());
            row::change(&mut batch, (&shelf.records, &shelf.agenda), *id, entry.before, after);
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        engine::pace(&shelf.database, [&shelf.records, &shelf.agenda], true)?;
        batch.durability(Some(PersistMode::SyncData)).commit()?;
    }
    Ok(())
}

/// A drain that panics takes the tables out of order.
struct Fuse<'a>(&'a Drainer);

impl Drop for Fuse<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
    }
}
