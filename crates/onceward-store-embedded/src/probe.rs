//! A place for tests and crash harnesses to stand: between the steps of a commit, of the drain and of an opening.

use std::fmt;
use std::io;

/// A step of the committer or of the drain.
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
    /// The group is in the log, but not synced. An error here stands for a failed sync: the group gets `Uncertain` and
    /// the store is out of order.
    BeforeSync,
    /// The group is written and, where the store is durable, synced; reading calls may show it, but nobody was told
    /// yet. An error here is like one at [`Point::BeforeSync`].
    AfterWrite,
    /// The store is out of order and about to open its files again. An error here stands for a disk that is
    /// still not right: it tries again after a pause.
    BeforeReopen,
    /// The drain is about to move what is in the log into the tables. An error here and at the next two stands for
    /// one of the disk: the store is out of order.
    BeforeDrain,
    /// It did, and did not sync the tables.
    AfterDrain,
    /// What a segment of the log holds is no longer needed, if it is left: it may be used again.
    BeforeRecycle,
    /// The files are open, and what the log holds is about to be brought into the tables. An error here and at the next
    /// two is told by the opening.
    BeforeReplay,
    /// The tables have everything, synced; a new log is about to be begun.
    BeforeBegin,
    /// The new log is there; the segments of the old one are about to be removed.
    BeforeRemove,
}

/// Is told when one of the store's threads reaches a [`Point`], and may hold it there, fail it, or end the process.
pub trait Probe: fmt::Debug + Send + Sync + 'static {
    /// Called on the thread in question.
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
