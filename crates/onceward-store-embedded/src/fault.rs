//! Where the engine's errors become ours. No other file lets one out.

use std::io;

use onceward_core::{Error, ErrorKind};

/// Why a whole group could not be answered. One fault is told to many callers.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    doing: &'static str,
    cause: String,
}

impl Fault {
    pub(crate) fn error(&self) -> Error {
        Error::new(self.kind, self.doing).caused_by(self.cause.clone())
    }

    /// A probe's fault before anything was written.
    pub(crate) fn unwritten(cause: &io::Error) -> Self {
        Self { kind: ErrorKind::Unavailable, doing: "write to the store's log", cause: cause.to_string() }
    }

    /// The log could not be written or synced: it may be there or not.
    pub(crate) fn unsynced(cause: &io::Error) -> Self {
        Self { kind: ErrorKind::Uncertain, doing: "write to the store's log", cause: cause.to_string() }
    }

    /// The files are out of order; nothing was written.
    pub(crate) fn away() -> Self {
        Self { kind: ErrorKind::Unavailable, doing: "write to the store's log", cause: away().to_string() }
    }

    /// Nothing is written because a file is damaged.
    pub(crate) fn read_only() -> Self {
        Self {
            kind: ErrorKind::Unavailable,
            doing: "write to the store",
            cause: "a file is damaged: stop the gateway and run `onceward doctor --repair`".to_owned(),
        }
    }
}

/// What the engine said to a read. Damage in a file touches the records in it and nobody else.
pub(crate) fn reading(error: &fjall::Error) -> Error {
    use fjall::{Error as E, LsmError};
    let kind = match error {
        // The file ends too early.
        E::Io(it) | E::Storage(LsmError::Io(it)) if it.kind() == io::ErrorKind::UnexpectedEof => {
            ErrorKind::Corrupt
        }
        E::Io(_) | E::Poisoned | E::Locked | E::KeyspaceDeleted | E::Storage(LsmError::Io(_)) => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, "read from the store's files").caused_by(describe(error))
}

/// The engine's error in words.
pub(crate) fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(it) | fjall::Error::Storage(fjall::LsmError::Io(it)) => it.to_string(),
        fjall::Error::Poisoned => "an earlier write or a background task failed".to_owned(),
        other => other.to_string(),
    }
}

/// An error and everything that caused it.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |it| it.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// An earlier write failed, and the files are not open again yet.
pub(crate) fn away() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "use the store: a write failed, look at the disk; it opens again by itself",
    )
}

/// The committer panicked: only a restart helps.
pub(crate) fn broken() -> Error {
    Error::new(ErrorKind::Unavailable, "use the store: it broke down by a defect of its own; restart")
}

/// The store was closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "use the store: it is closed")
}

/// The committer ended without an answer.
pub(crate) fn unanswered() -> Error {
    Error::new(ErrorKind::Uncertain, "hear from the store's committer")
}
