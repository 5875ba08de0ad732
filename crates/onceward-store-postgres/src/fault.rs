//! Where the driver's errors become ours, once.
//!
//! What a server says about a value may quote that value: its detail and its hint never leave this module.

use std::error::Error as _;
use std::fmt;

use onceward_core::{Error, ErrorKind};
use tokio_postgres::error::{Severity, SqlState};

use crate::sql::TOO_LATE;

/// Why a statement has no result.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The server refused it and wrote nothing. The connection is as good as before.
    Refused {
        /// The five characters that SQL has for it.
        code: String,
        cause: Cause,
    },
    /// It was not sent: the connection was gone before, or a value cannot be written.
    Unsent(Cause),
    /// It may have been carried out. The connection is of no more use.
    Lost(Cause),
}

/// What happened, for logs and operators: no value, no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause(pub(crate) String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

impl Cause {
    /// From the driver's error: the server's code and message, or the chain of what the system said.
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(it) = error.as_db_error() {
            return Self(format!("the server said {}: {}", it.code().code(), it.message()));
        }
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(it) = source {
            text = format!("{text}: {it}");
            source = it.source();
        }
        Self(text)
    }
}

impl Fault {
    /// From the driver's error on a statement that was sent, or could not be.
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        let cause = Cause::of(error);
        let Some(said) = error.as_db_error() else { return Self::Lost(cause) };
        let goes_on = matches!(said.parsed_severity(), Some(Severity::Error));
        Self::said(said.code().code(), goes_on, cause)
    }

    /// From what the server said, and whether its connection goes on.
    pub(crate) fn said(code: &str, goes_on: bool, cause: Cause) -> Self {
        // A server that ends the connection, or a pooler that lost its server, may have committed before. The system's
        // own troubles are not trusted either.
        let unsure = !goes_on || ["08", "57P", "58", "XX", "40003"].iter().any(|it| code.starts_with(it));
        if unsure {
            return Self::Lost(cause);
        }
        Self::Refused { code: code.to_owned(), cause }
    }

    /// Whether the same may succeed at once: it met another transaction, or waited for one until a limit had passed.
    pub(crate) fn met_another(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == TOO_LATE || is_conflict(code))
    }

    /// Whether the cause is one of the values, so that the others should be tried without it.
    pub(crate) fn is_of_values(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if ["21", "22", "23", "54"].iter().any(|it| code.starts_with(it)))
    }

    /// Whether the table is not there.
    pub(crate) fn is_of_absence(&self) -> bool {
        self.is([&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME])
    }

    /// Whether the connection should be made anew: it is of no use, or its server is a standby, and another one writes.
    pub(crate) fn ends_the_link(&self) -> bool {
        match self {
            Self::Refused { .. } => self.is([&SqlState::READ_ONLY_SQL_TRANSACTION; 2]),
            Self::Unsent(_) | Self::Lost(_) => true,
        }
    }

    fn is(&self, codes: [&SqlState; 2]) -> bool {
        matches!(self, Self::Refused { code, .. } if codes.iter().any(|it| it.code() == code))
    }

    pub(crate) fn cause(&self) -> &Cause {
        match self {
            Self::Refused { cause, .. } | Self::Unsent(cause) | Self::Lost(cause) => cause,
        }
    }

    /// What a caller gets who was `doing` a write.
    pub(crate) fn of_write(&self, doing: &'static str) -> Error {
        let kind = match self {
            Self::Refused { .. } if self.is_of_values() => ErrorKind::Invalid,
            Self::Refused { .. } | Self::Unsent(_) => ErrorKind::Unavailable,
            Self::Lost(_) => ErrorKind::Uncertain,
        };
        Error::new(kind, doing).caused_by(self.cause().clone())
    }

    /// What a caller gets who was `doing` nothing but reading.
    pub(crate) fn of_read(&self, doing: &'static str) -> Error {
        Error::new(ErrorKind::Unavailable, doing).caused_by(self.cause().clone())
    }
}

/// Whether the server says that two transactions met, and that this one had to give way.
pub(crate) fn is_conflict(code: &str) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].iter().any(|it| it.code() == code)
}
