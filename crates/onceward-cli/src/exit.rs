//! Exit codes, the same for every verb.

use std::process::ExitCode;

use crate::say::complain;

/// How the command ended. The numbers are part of the interface: see docs/reference/exit-codes.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Done = 0,
    /// It ran, and the answer is no: a demo step not as promised, a record not found or changed meanwhile.
    No = 1,
    /// Flags, variables or the configuration file are wrong. Nothing was started.
    Usage = 2,
    /// The gateway stopped with operations under way; their records are unresolved.
    Abandoned = 3,
    /// It could not start: an address or a directory is taken, or something cannot be opened.
    CannotStart = 4,
    /// The admin API could not be reached or refused the token.
    Admin = 5,
}

impl Exit {
    /// The code for the system.
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    /// The code, with the reason on stderr.
    pub(crate) fn report(self, reason: &str) -> ExitCode {
        complain(reason);
        self.code()
    }
}
