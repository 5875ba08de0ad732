//! Connections of a runtime's own, so that no call crosses threads.
//!
//! A connection lives on the runtime where it was made: a call from another one wakes that runtime's thread, and its
//! answer wakes the caller's. So a runtime that goes on calling gets a few connections that it carries itself. Calls that
//! it makes at one time are then written together, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use crate::link::Link;
use crate::settings::Address;
use crate::wire::Dialer;

/// How many connections a runtime gets.
const LANES: usize = 2;

/// How many runtimes get some: more would be too many connections to one server.
const RUNTIMES_MAX: usize = 128;

/// A runtime that made no call for so long may not have run at all, as it does between two calls of `block_on`, and not
/// have seen that its connections ended.
const WARM: Duration = Duration::from_secs(1);

/// The connections of all runtimes but the one that the node was opened on.
#[derive(Debug)]
pub(crate) struct Near {
    home: Id,
    since: Instant,
    all: RwLock<Vec<Arc<Group>>>,
}

/// The connections of one runtime.
#[derive(Debug)]
struct Group {
    runtime: Id,
    /// When it called last, in milliseconds since the node was opened.
    called: AtomicU64,
    lanes: OnceLock<[Link; LANES]>,
}

/// The connections of the current runtime.
#[derive(Debug)]
pub(crate) struct Here {
    group: Arc<Group>,
    /// Whether they are known to have been carried lately.
    pub(crate) is_warm: bool,
}

impl Near {
    /// None yet. The current runtime is the one that needs none.
    pub(crate) fn new() -> Self {
        Self { home: Handle::current().id(), since: Instant::now(), all: RwLock::default() }
    }

    /// Those of the current runtime, where it has or gets some.
    pub(crate) fn here(&self, dialer: &Arc<Dialer>, address: &Address) -> Option<Here> {
        let runtime = Handle::current().id();
        if runtime == self.home {
            return None;
        }
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let known = {
            let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().find(|it| it.runtime == runtime).cloned()
        };
        let Some(group) = known else {
            self.note(runtime, now);
            return None;
        };
        let before = group.called.load(Ordering::Relaxed);
        if before != now {
            group.called.store(now, Ordering::Relaxed);
        }
        let is_warm = is_warm(before, now);
        if is_warm {
            let link = || Link::start(Arc::clone(dialer), address.clone());
            group.lanes.get_or_init(|| std::array::from_fn(|_| link()));
        }
        Some(Here { group, is_warm })
    }

    /// Remembers a runtime that calls for the first time: it gets connections when it calls again.
    fn note(&self, runtime: Id, now: u64) {
        // Nobody waits for this: there will be another call.
        let Ok(mut all) = self.all.try_write() else { return };
        all.retain(|it| it.is_of_use(now));
        if all.len() < RUNTIMES_MAX && all.iter().all(|it| it.runtime != runtime) {
            let called = AtomicU64::new(now);
            all.push(Arc::new(Group { runtime, called, lanes: OnceLock::new() }));
        }
    }
}

impl Here {
    /// The connection for the calls about a bucket, or another one, if any is up.
    pub(crate) fn lane(&self, bucket: u16) -> Option<&Link> {
        let lanes = self.group.lanes.get()?;
        let own = &lanes[usize::from(bucket) % LANES];
        if own.is_up() { Some(own) } else { lanes.iter().find(|it| it.is_up()) }
    }
}

impl Group {
    /// Whether the runtime calls, or may call again: one that is gone took its connections with it.
    fn is_of_use(&self, now: u64) -> bool {
        match self.lanes.get() {
            Some(lanes) => !lanes.iter().all(Link::has_ended),
            None => is_warm(self.called.load(Ordering::Relaxed), now),
        }
    }
}

fn is_warm(called: u64, now: u64) -> bool {
    u128::from(now.saturating_sub(called)) <= WARM.as_millis()
}
