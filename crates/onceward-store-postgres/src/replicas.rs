//! Nobody is shown what the server's synchronous replicas may not have.
//!
//! A commit is seen by others once the replicas have it, unless the server crashed meanwhile: its recovery shows all
//! that was on its own disk. Who acts on that, and then loses the server, has acted on nothing. So a connection is used
//! once a commit of nothing is through. Behind a pooler, where one connection leads to many of the server, the first
//! statement over each of those is followed by such a commit, and told when that is through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::time::Instant;
use tokio_postgres::Row;

use crate::fault::{Cause, Fault};
use crate::link::Link;

/// What each statement ends with, so that a connection is known again behind a pooler.
pub(crate) const WHO: &str = "pg_backend_pid(), pg_postmaster_start_time()";

/// Whether commits wait for replicas.
const WAITS: &str = "SELECT current_setting('synchronous_standby_names') <> '' \
     AND current_setting('synchronous_commit') NOT IN ('off', 'local'), \
     pg_backend_pid(), pg_postmaster_start_time()";
/// Commits a message that nobody reads, and no row.
const COMMIT: &str = "SELECT pg_logical_emit_message(true, 'onceward', '')::text, pg_backend_pid(), \
     pg_postmaster_start_time()";

/// How many connections of the server are remembered: more than a pooler has.
const KNOWN_MAX: usize = 256;

/// A connection of the server, between two crashes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backend {
    process: i32,
    since: SystemTime,
}

impl Backend {
    /// Who carried out a statement, by the last columns of its rows.
    fn of(rows: &[Row]) -> Option<Self> {
        let row = rows.first()?;
        let last = row.len().checked_sub(2)?;
        Some(Self { process: row.try_get(last).ok()?, since: row.try_get(last + 1).ok()? })
    }
}

/// How often a connection ended in the middle of a statement, whichever of this store's it was: somebody may have stopped a
/// commit that waited for its replicas, and the server shows it from then on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doubts(Arc<AtomicU64>);

impl Doubts {
    pub(crate) fn arise(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// The connections of the server behind one of ours whose replicas have all that the server had when they began.
#[derive(Debug)]
pub(crate) struct CaughtUp {
    backends: Vec<Backend>,
    doubts: Doubts,
    /// How many doubts there were when the first of them was added.
    since: u64,
}

impl CaughtUp {
    pub(crate) fn new(doubts: Doubts) -> Self {
        Self { backends: Vec::new(), doubts, since: 0 }
    }

    /// Forgets all where there are new doubts, and gives how many there are.
    fn renew(&mut self) -> u64 {
        let doubts = self.doubts.0.load(Ordering::Acquire);
        if doubts != self.since {
            (self.since, self.backends) = (doubts, Vec::new());
        }
        doubts
    }

    /// Adds one that committed after there were so many doubts. Where there are more by now it counts for nothing.
    fn add(&mut self, backend: Backend, doubts: u64) {
        if self.renew() != doubts {
            return;
        }
        if self.backends.len() >= KNOWN_MAX {
            self.backends.clear();
        }
        self.backends.push(backend);
    }
}

/// Waits until the replicas have all that the server shows: before it is so, writes would wait, too.
pub(crate) async fn wait(link: &mut Link, deadline: Instant) -> Result<(), Cause> {
    let doubts = link.caught_up.renew();
    match commit(link, deadline).await {
        Ok(through) => {
            link.caught_up.add(through, doubts);
            Ok(())
        }
        Err(cause) => Err(Cause(format!("waiting for the server's replicas: {cause}"))),
    }
}

/// Waits until the replicas have all that the statement could see that gave these rows.
///
/// # Errors
/// `Lost`: they may not have it, and may not have what the statement wrote.
pub(crate) async fn catch_up(link: &mut Link, rows: &[Row], deadline: Instant) -> Result<(), Fault> {
    let Some(asked) = Backend::of(rows) else { return Ok(()) };
    let doubts = link.caught_up.renew();
    if link.caught_up.backends.contains(&asked) {
        return Ok(());
    }
    let through = commit(link, deadline).await.map_err(Fault::Lost)?;
    if through.since != asked.since {
        return Err(Fault::Lost(Cause("a pooler went on to another server meanwhile".to_owned())));
    }
    link.caught_up.add(asked, doubts);
    Ok(())
}

/// Commits, and waits for the replicas where commits do. Gives who did so.
async fn commit(link: &mut Link, deadline: Instant) -> Result<Backend, Cause> {
    let mut text = WAITS;
    loop {
        let rows = link.rows(text, &Vec::new(), deadline).await.map_err(|it| it.cause().clone())?;
        let strange = || Cause("the server answered something else than it was asked".to_owned());
        let by = Backend::of(&rows).ok_or_else(strange)?;
        let waits = rows.first().is_some_and(|it| it.try_get(0).is_ok_and(|waits: bool| waits));
        if !waits {
            return Ok(by);
        }
        text = COMMIT;
    }
}
