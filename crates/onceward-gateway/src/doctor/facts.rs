//! What was found out, as plain values. `None` means that nobody looked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use onceward_core::Timestamp;
use onceward_core::moving::Place;

use crate::settings::Settings;

/// What the rules judge.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The settings in force.
    pub settings: Settings,
    /// What reading the settings warned of.
    pub warnings: Vec<String>,
    /// The wall clock of this machine.
    pub now: Option<Timestamp>,
    /// The store.
    pub store: StoreFacts,
    /// The file system that holds the store's directory, or will.
    pub disk: Option<Disk>,
    /// How many operations run for the first time.
    pub rate: Option<Rate>,
    /// How long an answer is on average, in bytes.
    pub answer_bytes: Option<u64>,
    /// What this process may use.
    pub process: Process,
    /// The files of `[tls]` and `upstream.ca_file`; empty lists when they can be used.
    pub files: Option<Files>,
    /// Each upstream URL, and what became of connecting to it.
    pub upstreams: Option<Vec<Reached>>,
    /// The shortest lives of bearer tokens that were seen, by route.
    pub tokens: Vec<TokenLife>,
}

impl Facts {
    /// Settings alone; nothing else was looked at.
    #[must_use]
    pub fn of(settings: Settings) -> Self {
        Self {
            settings,
            warnings: Vec::new(),
            now: None,
            store: StoreFacts::default(),
            disk: None,
            rate: None,
            answer_bytes: None,
            process: Process::default(),
            files: None,
            upstreams: None,
            tokens: Vec::new(),
        }
    }
}

/// What is known of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// Its directory, where it has one.
    pub directory: Option<PathBuf>,
    /// What became of opening it.
    pub state: State,
    /// Whether every write is on the disk before it is told.
    pub durable: Option<bool>,
    /// Whether it hints to those who wait; `None` where it has nothing to listen to.
    pub hints: Option<bool>,
    /// The permissions of the directory, as `chmod` writes them.
    pub mode: Option<u32>,
    /// Whether it was left without an orderly close.
    pub left_abruptly: bool,
    /// How far its time is ahead of the wall clock.
    pub ahead: Option<Duration>,
    /// What it holds.
    pub counts: Option<Counts>,
    /// Where its records are, as far as it says itself.
    pub place: Place,
}

/// What became of opening the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody looked.
    #[default]
    Unknown,
    /// It lives in memory.
    Memory,
    /// There is none yet; the first start makes it.
    New,
    /// It was looked at while nobody used it.
    Closed,
    /// A gateway uses it, and it answers.
    Serving,
    /// A gateway has it open, and it does not answer.
    Down {
        /// What it said.
        reason: String,
    },
    /// Another process has it.
    InUse {
        /// Who, as far as is known.
        holder: String,
    },
    /// It was only looked at from outside.
    NotLooked {
        /// Why.
        reason: String,
        /// What makes it possible.
        remedy: String,
    },
    /// It cannot be opened.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records with an answer.
    pub answers: u64,
    /// Records that wait for an operator or a repeat.
    pub unresolved: u64,
    /// Records without an answer whose key is refused.
    pub tombstones: u64,
    /// Records, files and places in files that cannot be read.
    pub unreadable: u64,
    /// The oldest unresolved record, and for how long nobody has decided.
    pub oldest_unresolved: Option<(String, Duration)>,
    /// Whether counting ended before the last record.
    pub more: bool,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its kind as the system calls it: `ext4`, `tmpfs`; a number where we have no name for it.
    pub kind: String,
    /// Whether it is mounted read-only.
    pub is_read_only: bool,
    /// What an unprivileged process can still write.
    pub free_bytes: u64,
}

/// How many operations run for the first time.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// On average.
    pub per_second: f64,
    /// Where that is known from, as half a sentence: `as --rate says`.
    pub from: String,
}

/// What a process may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Files and sockets at once (the soft limit); `u64::MAX` without a limit.
    pub files_max: Option<u64>,
    /// How far it may raise that by itself (the hard limit).
    pub files_hard: Option<u64>,
    /// Whether this is the gateway itself, and not a command in some shell.
    pub is_gateway: bool,
}

/// The files that the settings name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// What cannot be used.
    pub faults: Vec<super::FileFault>,
    /// The certificate of the listener, where it has one.
    pub certificate: Option<TlsFacts>,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFacts {
    /// From then on.
    pub not_before: Timestamp,
    /// Until then.
    pub not_after: Timestamp,
}

/// What became of connecting to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The upstream, as the settings have it.
    pub url: String,
    /// The address that took the connection (and did the TLS handshake), or why none did.
    pub outcome: Result<SocketAddr, String>,
}

/// How long bearer tokens live that callers of a route send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLife {
    /// The label of the route.
    pub route: String,
    /// The shortest that was seen, from its use to its end.
    pub shortest: Duration,
}
