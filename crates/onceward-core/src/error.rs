//! What a call answers when it cannot answer.

use std::fmt;

/// The result of a call to a store or to the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A call that could not be answered.
///
/// `Display` tells this level only; [`source`](std::error::Error::source) holds the cause. Messages carry no
/// key, no body and no credential. An error never stands for a permit or for an answer.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    doing: &'static str,
    source: Option<Cause>,
}

/// What an [`Error`] means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input breaks a documented rule. Repeating it cannot help; nothing was written.
    Invalid,
    /// Nothing was written. Repeat after a pause.
    Unavailable,
    /// The write may have landed. Load the record, or repeat the very same call.
    Uncertain,
    /// What is stored under this record id cannot be read. It is left as it is, and refused.
    Corrupt,
    /// The permit is no longer this holder's: another holder or an operator has the record.
    /// Nothing was written. Stores never say this; permits do.
    Lost,
}

impl Error {
    /// An error of `kind` that happened while `doing` ("keep the record").
    #[must_use]
    pub fn new(kind: ErrorKind, doing: &'static str) -> Self {
        Self { kind, doing, source: None }
    }

    /// The same error with the cause that a backend met, for logs and operators.
    #[must_use]
    pub fn caused_by(self, source: impl Into<Cause>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// What this error means for the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self.kind {
            ErrorKind::Invalid => "the input is not valid",
            ErrorKind::Unavailable => "nothing was written, repeat after a pause",
            ErrorKind::Uncertain => "it may have been written, look before you repeat",
            ErrorKind::Corrupt => "the stored record cannot be read and is left as it is",
            ErrorKind::Lost => "the record has another holder now, nothing was written",
        };
        write!(f, "failed to {}: {hint}", self.doing)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|it| it as _)
    }
}
