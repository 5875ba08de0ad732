//! What a consumer keeps in the store besides outcomes: how often a message was tried, and the letters of those that are dead.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onceward_core::{
    Answer, Attempt, Begin, Engine, Entropy, Error, ErrorKind, InFlight, Key, Noted, Policy, Principal,
    RecordId, Result, Revision, Scope, Timestamp, Unresolved,
};

use crate::event::{Event, Observer};
use crate::handler::Failure;
use crate::letter::{KIND, Letter};
use crate::message::{Delivery, Seen};
use crate::verdict::{After, Reason, Retries, Tries, judge_failure};

/// How often a note that others change all the time is written until they are left to it.
const TRIES: usize = 8;

/// What a consumer knows, and what it tells.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) engine: Engine,
    pub(crate) consumer: Arc<str>,
    pub(crate) policy: Policy,
    pub(crate) retries: Retries,
    pub(crate) letters_keep: Duration,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) observer: Arc<dyn Observer>,
}

/// A delivery whose message has an id, and what is known of it.
pub(crate) struct Case {
    pub(crate) delivery: Delivery,
    pub(crate) attempt: Attempt,
    pub(crate) record: RecordId,
    pub(crate) known: Known,
}

/// The note about the attempts at a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    pub(crate) tries: Tries,
    revision: Option<Revision>,
    /// Whether an attempt must be noted before it is made: a message that certainly comes for the first time has none behind
    /// it, and will not come for the first time again.
    note: bool,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its effect is stored, by this delivery or by another, or it is among the dead letters: it is over.
    Over,
    /// It is to be looked at again after this pause.
    Again(Duration),
    /// It is to be put among the dead letters.
    Dead { reason: Reason, attempts: u32 },
}

impl Desk {
    /// What is known of earlier attempts, and the store's time. Asks nobody about a message that comes for the first time.
    pub(crate) async fn known(&self, record: RecordId, seen: Seen) -> Result<(Known, Timestamp)> {
        if seen == Seen::First {
            return Ok((Known::default(), Timestamp::ZERO));
        }
        let (note, now) = self.engine.note(&name(record)).await?;
        let known = match note {
            // Whoever had it may never have begun it.
            None => Known { note: true, ..Known::default() },
            Some(note) => Known { tries: read(&note.bytes)?, revision: Some(note.revision), note: true },
        };
        Ok((known, now))
    }

    /// Counts the attempt that is about to be made, durably where there may have been another before it. `None` when there
    /// were as many as there may be.
    pub(crate) async fn count(
        &self,
        record: RecordId,
        known: Known,
        attempt: u32,
    ) -> Result<(Known, Option<u32>)> {
        let attempt = attempt.max(known.tries.count.saturating_add(1));
        if attempt > self.retries.attempts_max {
            return Ok((known, None));
        }
        let counted = Known { tries: Tries { count: attempt, ..known.tries }, ..known };
        let counted = if known.note { self.note(record, counted).await? } else { counted };
        Ok((counted, Some(attempt)))
    }

    /// Judges the failure of an attempt.
    pub(crate) fn judge(&self, failure: &Failure, attempt: u32, unresolved: Unresolved) -> After {
        let mut jitter = [0];
        // Without randomness pauses are only longer.
        let _ = self.entropy.fill(&mut jitter);
        judge_failure(failure, attempt, &self.retries, unresolved, jitter[0])
    }

    /// Notes that a message is not tried again before `pause` is over.
    pub(crate) async fn postpone(&self, record: RecordId, known: Known, pause: Duration) -> Result<Told> {
        let (_, now) = self.engine.note(&name(record)).await?;
        let tries = Tries { not_before: now.after(pause), ..known.tries };
        self.note(record, Known { tries, ..known }).await?;
        self.observer.on(&Event::Retried(pause));
        Ok(Told::Again(pause))
    }

    /// Writes the note. What somebody else counted meanwhile is not forgotten.
    async fn note(&self, record: RecordId, mut known: Known) -> Result<Known> {
        for _ in 0..TRIES {
            let bytes = write(known.tries);
            // As long as the outcome itself: so long may it come again.
            let keep = self.policy.retention;
            match self.engine.set_note(&name(record), known.revision, bytes, keep).await? {
                Noted::Kept(note) => {
                    known.revision = Some(note.revision);
                    return Ok(known);
                }
                Noted::Lost(None) => known.revision = None,
                Noted::Lost(Some(note)) => {
                    let stands = read(&note.bytes)?;
                    known.tries.count = known.tries.count.max(stands.count);
                    known.tries.not_before = known.tries.not_before.max(stands.not_before);
                    known.revision = Some(note.revision);
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "note an attempt that others note, too"))
    }

    /// Puts a message among the dead letters, once. When this returns, the letter is durable.
    pub(crate) async fn park(
        &self,
        delivery: &Delivery,
        record: Option<RecordId>,
        reason: Reason,
        detail: &str,
        attempts: u32,
    ) -> Result<()> {
        let letter = Letter {
            reason,
            detail: detail.to_owned(),
            attempts,
            consumer: self.consumer.to_string(),
            position: delivery.position.as_deref().map(str::to_owned),
            record: record.map(|it| it.to_string()),
            message: (*delivery.message).clone(),
        };
        let attempt = Attempt {
            scope: Scope {
                principal: Principal::ANONYMOUS,
                kind: KIND.into(),
                host: self.consumer.to_string(),
                path: delivery.message.topic.to_string(),
            },
            key: self.letter_key(delivery, record, reason).await?,
            fingerprint: self.engine.hasher().await?.fingerprint([&delivery.message.body[..]]),
            policy: Policy {
                retention: self.letters_keep,
                tombstone: Duration::ZERO,
                // To write a letter again is to write the same one.
                unresolved: Unresolved::Rerun,
                lease: Duration::from_secs(5),
                ..Policy::default()
            },
            in_flight: InFlight::Wait(Duration::from_secs(10)),
        };
        let parked = match self.engine.begin(&attempt).await? {
            Begin::Run(permit) => permit.complete(letter.to_answer()).await.map(drop),
            // It is there already.
            Begin::Replay(_) | Begin::Gone => return Ok(()),
            Begin::Busy { .. } | Begin::Mismatch | Begin::Unresolved => {
                Err(Error::new(ErrorKind::Unavailable, "write a dead letter"))
            }
        };
        if parked.is_ok() {
            self.observer.on(&Event::Parked(reason));
            tracing::warn!(
                consumer = %self.consumer, topic = %delivery.message.topic, %reason, attempts,
                letter = attempt.record_id().prefix(),
                "a message was put among the dead letters"
            );
        }
        parked
    }

    /// The same for each delivery of a message, as far as anything is.
    async fn letter_key(&self, delivery: &Delivery, record: Option<RecordId>, reason: Reason) -> Result<Key> {
        let hasher = self.engine.hasher().await?;
        let mut random = [0; 16];
        let name: &[u8] = match (&record, &delivery.position) {
            (Some(record), _) => record.as_bytes(),
            (None, Some(position)) => position.as_bytes(),
            (None, None) => {
                // Two letters of one message are better than one letter of two.
                let filled = self.entropy.fill(&mut random);
                filled
                    .map_err(|it| Error::new(ErrorKind::Unavailable, "name a dead letter").caused_by(it))?;
                &random
            }
        };
        let hash = hasher.fingerprint([name, reason.as_str().as_bytes(), &delivery.message.body[..]]);
        let key: String = hash.as_bytes().iter().map(|it| format!("{it:02x}")).collect();
        Ok(Key::parse(&key).expect("hexadecimal digits are a key"))
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("record", &self.record)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// What is stored for a message that is among the dead letters: whoever redrives it frees it first.
pub(crate) fn parked(reason: Reason) -> Answer {
    Answer::new("parked", reason.as_str())
}

fn name(record: RecordId) -> String {
    format!("tries {record}")
}

fn write(tries: Tries) -> Bytes {
    let mut bytes = Vec::with_capacity(13);
    bytes.push(1);
    bytes.extend_from_slice(&tries.count.to_be_bytes());
    bytes.extend_from_slice(&tries.not_before.as_millis().to_be_bytes());
    bytes.into()
}

fn read(bytes: &[u8]) -> Result<Tries> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "read how often a message was tried");
    let (Some((1, rest)), 13) = (bytes.split_first(), bytes.len()) else { return Err(corrupt()) };
    let (count, not_before) = rest.split_first_chunk().ok_or_else(corrupt)?;
    let not_before = not_before.first_chunk().ok_or_else(corrupt)?;
    Ok(Tries {
        count: u32::from_be_bytes(*count),
        not_before: Timestamp::from_millis(u64::from_be_bytes(*not_before)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let tries = Tries { count: 7, not_before: Timestamp::from_millis(1 << 40) };
        assert_eq!(read(&write(tries)).unwrap(), tries);
        assert!(read(b"").is_err());
        assert!(read(&[2; 13]).is_err());
        assert!(read(&[1; 12]).is_err());
    }
}
