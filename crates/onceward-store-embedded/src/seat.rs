//! Where the tables sit while the store lives. After a fault they are put away; once the directory can be read
//! and written again they are opened anew and sit there again. The directory stays locked all the while.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::{Clock, Result};

use crate::contents;
use crate::directory::{Directory, OpenError};
use crate::fault;
use crate::journal;
use crate::opening;
use crate::probe::Probe;
use crate::settings::EmbeddedSettings;
use crate::shelf::{Base, Shelf};

#[derive(Debug)]
pub(crate) struct Seat {
    base: Arc<Base>,
    settings: EmbeddedSettings,
    probe: Arc<dyn Probe>,
    state: Mutex<State>,
    reopened: AtomicU64,
}

#[derive(Debug)]
enum State {
    /// Calls are served.
    Open(Arc<Shelf>),
    /// A write failed; the files are to be opened again.
    Away,
    /// The store was closed.
    Closed,
    /// The committer is gone: nobody is left to open the files again.
    Broken,
}

impl Seat {
    /// Claims the directory and opens the tables in it. Blocks.
    pub(crate) fn open(
        settings: &EmbeddedSettings,
        clock: Arc<dyn Clock>,
        probe: Arc<dyn Probe>,
    ) -> Result<Self, OpenError> {
        let directory = Directory::claim(&settings.path, settings.lock_wait)?;
        let (shelf, base) = Shelf::first(directory, settings, clock, &*probe)?;
        Ok(Self {
            base,
            settings: settings.clone(),
            probe,
            state: Mutex::new(State::Open(Arc::new(shelf))),
            reopened: AtomicU64::new(0),
        })
    }

    /// The tables.
    ///
    /// # Errors
    /// `Unavailable` while there are none to use.
    pub(crate) fn shelf(&self) -> Result<Arc<Shelf>> {
        let shelf = match &*self.state() {
            State::Open(shelf) => Arc::clone(shelf),
            State::Away => return Err(fault::away()),
            State::Closed => return Err(fault::closed()),
            State::Broken => return Err(fault::broken()),
        };
        shelf.usable().map(|()| shelf)
    }

    /// Takes the failed tables from everybody. Calls that still read hold them for a moment.
    pub(crate) fn put_away(&self) -> Option<Arc<Shelf>> {
        self.leave_open(State::Away)
    }

    /// Opens the files again and serves from them. The old tables must be gone: their journal could still be
    /// written to while it is read. When it is to `look` and finds a damaged file, nothing is written from then on.
    pub(crate) fn reopen(&self, look: bool) -> Result<(), OpenError> {
        let directory = &self.base.directory;
        directory.is_in_place()?;
        if journal::is_held(directory.root()) {
            let cause = "the old journal is not closed yet".to_owned();
            return Err(OpenError::Files { path: directory.root().to_owned(), cause });
        }
        directory.has_room()?;
        let damaged = if look { contents::damaged(&directory.database()) } else { Ok(Vec::new()) };
        let damaged = damaged.unwrap_or_default();
        opening::only_to_read(&damaged);
        let shelf = Shelf::again(&self.base, &self.settings, !damaged.is_empty(), &*self.probe)?;
        *self.state() = State::Open(Arc::new(shelf));
        self.reopened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes no more calls.
    pub(crate) fn close(&self) {
        drop(self.leave_open(State::Closed));
    }

    /// Takes no more calls, because of a defect of ours.
    pub(crate) fn break_down(&self) {
        drop(self.leave_open(State::Broken));
    }

    /// How often the files were opened again after a fault.
    pub(crate) fn reopened(&self) -> u64 {
        self.reopened.load(Ordering::Relaxed)
    }

    /// How many places in the tables calls have found unreadable since the files were opened.
    pub(crate) fn damaged(&self) -> usize {
        self.shelf().map_or(0, |it| it.damaged())
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Nothing leads back from a closed or broken seat.
    fn leave_open(&self, next: State) -> Option<Arc<Shelf>> {
        let mut state = self.state();
        if matches!(*state, State::Closed | State::Broken) {
            return None;
        }
        match mem::replace(&mut *state, next) {
            State::Open(shelf) => Some(shelf),
            State::Away | State::Closed | State::Broken => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
