//! The ledger: what reached the upstream and what it did, one line each, appended before anybody is answered.
//!
//! Nothing in it is unique, so that nothing but the gateway keeps an effect from happening twice.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

/// What a line of the ledger tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request is here.
    Arrived,
    /// Its effect has happened.
    Effect,
}

/// The name of a record, as all sides know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) caller: String,
    pub(crate) path: String,
    pub(crate) key: String,
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) at: Duration,
    pub(crate) name: Name,
    pub(crate) fence: u64,
    pub(crate) attempt: u32,
    pub(crate) payload: u64,
    /// What the answer carries, so that it can be traced to its effect.
    pub(crate) receipt: String,
}

/// A short name for a payload.
pub(crate) fn payload_of(body: &[u8]) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write(body);
    hash.finish()
}

impl Row {
    pub(crate) fn line(&self) -> String {
        let Self { kind, at, name, fence, attempt, payload, receipt } = self;
        let kind = match kind {
            Kind::Arrived => "arrived",
            Kind::Effect => "effect",
        };
        let Name { caller, path, key } = name;
        let at = at.as_micros();
        format!("{kind}\t{at}\t{caller}\t{path}\t{key}\t{fence}\t{attempt}\t{payload:x}\t{receipt}\n")
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        let mut next = || words.next();
        Some(Self {
            kind: match next()? {
                "arrived" => Kind::Arrived,
                "effect" => Kind::Effect,
                _ => return None,
            },
            at: Duration::from_micros(next()?.parse().ok()?),
            name: Name { caller: next()?.to_owned(), path: next()?.to_owned(), key: next()?.to_owned() },
            fence: next()?.parse().ok()?,
            attempt: next()?.parse().ok()?,
            payload: u64::from_str_radix(next()?, 16).ok()?,
            receipt: next()?.to_owned(),
        })
    }
}

/// Reads what is new in a ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: File,
    rest: Vec<u8>,
}

impl Ledger {
    /// The ledger in this file, which is made if there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path)?;
        Ok(Self { file: File::open(path)?, rest: Vec::new() })
    }

    /// The lines that were appended since the last time.
    pub(crate) fn news(&mut self) -> io::Result<Vec<Row>> {
        self.file.read_to_end(&mut self.rest)?;
        let end = self.rest.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let read = |line: &str| Row::read(line).ok_or_else(|| io::Error::other(format!("no row: {line}")));
        String::from_utf8_lossy(&whole).lines().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_as_it_was_and_half_a_line_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let name = Name { caller: "a".into(), path: "/pay".into(), key: "k".into() };
        let row = Row {
            kind: Kind::Effect,
            at: Duration::from_micros(7),
            name,
            fence: u64::MAX,
            attempt: 2,
            payload: payload_of(b"x"),
            receipt: "1-2".into(),
        };
        let mut ledger = Ledger::open(&path).unwrap();
        let line = row.line();
        std::fs::write(&path, format!("{line}{}", &line[..9])).unwrap();
        assert_eq!(ledger.news().unwrap(), std::slice::from_ref(&row));
        assert_eq!(ledger.news().unwrap(), []);
        let mut file = File::options().append(true).open(&path).unwrap();
        io::Write::write_all(&mut file, &line.as_bytes()[9..]).unwrap();
        assert_eq!(ledger.news().unwrap(), [row]);
    }
}
