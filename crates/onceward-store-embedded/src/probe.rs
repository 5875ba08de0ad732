//! A place for tests and crash harnesses to stand: between the steps of a commit.

use std::fmt;
use std::io;

/// A step of the committer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Point {
    /// A group was judged and nothing of it is written. An error here stands for a disk that refused at once:
    /// the group gets `Unavailable`, the store goes on.
    BeforeWrite {
        /// How many calls the group answers.
        calls: usize,
        /// How many records it changes; groups without a change write nothing and pass no point.
        changes: usize,
    },
    /// The group is written and, where the store is durable, synced; nobody was told yet. An error here stands
    /// for a failed sync: the group gets `Uncertain` and the store is out of order.
    AfterWrite,
    /// The store is out of order and about to open its files again. An error here stands for a disk that is
    /// still not right: it tries again after a pause.
    BeforeReopen,
}

/// Is told when the committer reaches a [`Point`], and may hold it there, fail it, or end the process.
pub trait Probe: fmt::Debug + Send + Sync + 'static {
    /// Called on the committer's own thread.
    ///
    /// # Errors
    /// The fault to act out; [`Point`] says what it means at each place.
    fn reached(&self, point: Point) -> io::Result<()>;
}

/// Nobody looks.
#[derive(Debug)]
pub(crate) struct NoProbe;

impl Probe for NoProbe {
    fn reached(&self, _: Point) -> io::Result<()> {
        Ok(())
    }
}
