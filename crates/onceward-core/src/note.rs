//! Notes: small things that a door keeps beside operations, such as how often a message was tried. A note is changed only by
//! whoever saw what is there, no listing shows it, and it goes by itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Principal, RecordId};
use crate::moving::MOVED;
use crate::policy::Policy;
use crate::record::{Answer, Listing, RULES, Record, Revision, State, Timestamp};
use crate::store::browse::RESERVED_KIND;
use crate::store::{Insert, Put, Replace};

/// What stands under a name, and since when.
#[derive(Clone, PartialEq, Eq)]
pub struct Note {
    /// What was noted.
    pub bytes: Bytes,
    /// What a change must have seen.
    pub revision: Revision,
}

impl fmt::Debug for Note {
    /// What was noted stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Note").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// It stands.
    Kept(Note),
    /// Somebody else changed it meanwhile; this is what stands. Nothing was written.
    Lost(Option<Note>),
}

impl Engine {
    /// What is noted under `name`, if anything, and the store's time.
    ///
    /// # Errors
    /// The store could not be asked, or the note cannot be read.
    pub async fn note(&self, name: &str) -> Result<(Option<Note>, Timestamp)> {
        let call = self.inner.store.load(RecordId::reserved(name));
        let loaded = self.inner.in_budget("read a note", call).await?;
        self.inner.heard(loaded.now);
        let note = loaded.record.as_deref().map(|it| read(it, loaded.now)).transpose()?.flatten();
        Ok((note, loaded.now))
    }

    /// Notes `bytes` under `name` for as long as `keep` says, if what stands there is still `seen`. A note that is over
    /// counts as none.
    ///
    /// # Errors
    /// `Unavailable`: nothing was written. `Uncertain`: it may stand; read it before anything else.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the old or the new note.
    pub async fn set_note(
        &self,
        name: &str,
        seen: Option<Revision>,
        bytes: Bytes,
        keep: Duration,
    ) -> Result<Noted> {
        let inner = &self.inner;
        let id = RecordId::reserved(name);
        let put = noted(bytes, keep, inner.not_after(inner.clock.boot()).await?);
        let late = |now| {
            inner.heard(now);
            Err(Error::new(ErrorKind::Unavailable, "keep a note in time"))
        };
        let seen = match seen {
            Some(seen) => seen,
            None => match inner.in_budget("keep a note", inner.store.insert(id, &put)).await? {
                Insert::Kept(record) => return kept(&record),
                Insert::Found(record, now) => match read(&record, now)? {
                    Some(note) => return Ok(Noted::Lost(Some(note))),
                    None => record.revision,
                },
                Insert::Late(now) => return late(now),
            },
        };
        match inner.in_budget("keep a note", inner.store.replace(id, seen, &put)).await? {
            Replace::Kept(record) => kept(&record),
            Replace::Lost(shown, now) => {
                Ok(Noted::Lost(shown.as_deref().map(|it| read(it, now)).transpose()?.flatten()))
            }
            Replace::Late(now) => late(now),
        }
    }
}

/// The put of a note.
fn noted(bytes: Bytes, keep: Duration, not_after: Timestamp) -> Put {
    Put {
        grant: None,
        listing: Arc::new(Listing {
            principal: Principal::ANONYMOUS,
            kind: RESERVED_KIND.into(),
            host: String::new(),
            path: String::new(),
            key: "note".into(),
        }),
        rules: RULES,
        fingerprint: None,
        state: State::Done(Answer::new("note", bytes)),
        policy: Policy { retention: keep, tombstone: Duration::ZERO, ..Policy::default() },
        checkpoint: None,
        wake_after: None,
        not_after,
    }
}

fn kept(record: &Record) -> Result<Noted> {
    let note = read(record, Timestamp::ZERO)?;
    note.map(Noted::Kept).ok_or_else(|| Error::new(ErrorKind::Corrupt, "read a note"))
}

fn read(record: &Record, now: Timestamp) -> Result<Option<Note>> {
    match &record.state {
        State::Done(_) | State::Tombstone if now >= record.answer_until => Ok(None),
        State::Done(answer) if answer.kind == "note" => {
            Ok(Some(Note { bytes: answer.bytes()?, revision: record.revision }))
        }
        // In a store that was left, and to which records came back without it.
        State::Abandoned { reason } if reason == MOVED => Ok(None),
        State::Done(_) | State::Tombstone | State::Running | State::Abandoned { .. } | State::Released => {
            Err(Error::new(ErrorKind::Corrupt, "read a note"))
        }
    }
}
