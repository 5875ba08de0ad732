//! Where the driver's errors become ours. No other file lets one out.

use std::fmt;

use onceward_core::{Error, ErrorKind};
use redis::{ErrorKind as Driver, RedisError, ServerErrorKind};

/// The first words of a server's refusals: it had not begun to carry the call out. A script that writes is refused at
/// its first write at the latest, and our scripts write the record last.
const REFUSALS: &[&str] = &[
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
];

/// What is told of a server's error, without anything that a caller sent.
#[derive(Debug)]
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

/// What it means that the call was answered with an error, or with none before its connection broke.
pub(crate) fn answered(error: &RedisError) -> Error {
    let kind = match error.code() {
        Some("WRONGTYPE") => ErrorKind::Corrupt,
        Some(code) if REFUSALS.contains(&code) => ErrorKind::Unavailable,
        Some(_) | None => ErrorKind::Uncertain,
    };
    Error::new(kind, "ask the Redis server").caused_by(Said(describe(error)))
}

/// Whether this server is of no use any more and another connection has to be looked for.
pub(crate) fn ends_the_connection(error: &RedisError) -> bool {
    match error.kind() {
        Driver::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading,
        ) => true,
        Driver::Server(_) => error.code() == Some("NOAUTH"),
        _ => error.is_unrecoverable_error(),
    }
}

/// The call was never sent: why nobody can be asked now.
pub(crate) fn away(cause: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "reach the Redis server").caused_by(Said(cause.to_owned()))
}

/// The call was never sent: it waited too long for its turn.
pub(crate) fn crowded() -> Error {
    Error::new(ErrorKind::Unavailable, "find a place in the queue to the Redis server")
}

/// The call was sent and not answered in time.
pub(crate) fn silent() -> Error {
    Error::new(ErrorKind::Uncertain, "hear from the Redis server in time")
}

/// The call was carried out, and not on as many replicas as it should be.
pub(crate) fn alone(confirmed: i64, wanted: u32) -> Error {
    let said = Said(format!("{confirmed} of {wanted} replicas confirmed in time"));
    Error::new(ErrorKind::Uncertain, "see the write on enough replicas").caused_by(said)
}

/// The answer has not the shape that the script gives.
pub(crate) fn misunderstood() -> Error {
    Error::new(ErrorKind::Uncertain, "understand the Redis server's answer")
}

/// The same error for another caller of the same batch.
pub(crate) fn same(error: &Error) -> Error {
    let said = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let doing = match error.kind() {
        ErrorKind::Unavailable => "reach the Redis server",
        _ => "hear from the Redis server in time",
    };
    Error::new(error.kind(), doing).caused_by(Said(said))
}

/// What an error says, for operators. A server repeats nothing of a call in what it says of our scripts and commands,
/// but for unknown commands and wrong numbers of arguments: these are told by their code alone.
pub(crate) fn describe(error: &RedisError) -> String {
    match error.kind() {
        Driver::Server(ServerErrorKind::ResponseError) => {
            let detail = error.detail().unwrap_or_default();
            let telling = ["max number of clients", "user_script", "AUTH"];
            if telling.iter().any(|it| detail.contains(it)) {
                format!("ERR {detail}")
            } else {
                "ERR: the server refused a command".to_owned()
            }
        }
        _ => match error.code() {
            Some("NOPERM") => format!("{error}; {}", missing_right(&error.to_string())),
            Some("WRONGTYPE") => format!(
                "{error}; something else keeps its data under the prefix of this store: give the store a prefix of its own, with \
                 `prefix=` in its URL, or remove what is there if it is of no use"
            ),
            Some(_) | None => error.to_string(),
        },
    }
}

/// Which right a user lacks, as far as the server says: it puts a command in quotes, and tells keys and channels apart
/// from commands.
fn missing_right(said: &str) -> String {
    let command = said.split('\'').nth(1).filter(|it| {
        !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'|' | b'-' | b'_'))
    });
    let right = if let (true, Some(command)) = (said.contains("command"), command) {
        format!("`+{}`", command.to_ascii_lowercase())
    } else if said.contains("channel") {
        "`&PREFIX:*`".to_owned()
    } else {
        "`~PREFIX:* ~{PREFIX}:*`".to_owned()
    };
    format!(
        "let the user of this store do that: `ACL SETUSER` with {right}; docs/guide/store-redis.md has all rights"
    )
}

#[cfg(test)]
mod tests {
    use super::missing_right;

    #[test]
    fn the_right_that_is_missing_is_named() {
        for (said, right) in [
            ("NOPERM User pay has no permissions to run the 'evalsha' command", "`+evalsha`"),
            ("NOPERM User pay has no permissions to run the 'config|get' command", "`+config|get`"),
            ("NOPERM this user has no permissions to run the 'INFO' command or its subcommand", "`+info`"),
            ("NOPERM No permissions to access a key", "`~PREFIX:* ~{PREFIX}:*`"),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", "`~PREFIX:*"),
            ("NOPERM No permissions to access a channel", "`&PREFIX:*`"),
        ] {
            assert!(missing_right(said).contains(right), "{said}: {}", missing_right(said));
        }
    }
}
