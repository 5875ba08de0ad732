//! What one answer carries: its effects, one after the other, each claimed before it is tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use onceward_core::mutant::{self, Mutant};
use onceward_core::store::{Put, Replace};
use onceward_core::transition::{carried, carries_on};
use onceward_core::{Error, ErrorKind, Fence, Record, RecordId, Store, Timestamp};

use super::broken;
use super::cargo::{After, Cargo, Unread};
use crate::outbox::hold::Hold;
use crate::outbox::trying::Trying;
use crate::outbox::verdict::{Next, judge_claimed};
use crate::outbox::{Outgoing, RelayEvent};

/// The pause before the first repeat of a swap that the store did not answer; it doubles, up to a second.
const REPEAT: Duration = Duration::from_millis(20);

/// How long a record is left alone after the store did not answer its claim.
const AWAY: Duration = Duration::from_millis(200);

/// What all records share that a relay works on.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) store: Arc<dyn Store>,
    pub(super) trying: Trying,
    pub(super) lease: Duration,
    /// Set once the relay stops: nothing more is begun then.
    pub(super) stops: AtomicBool,
}

/// Whose an answer is whose wake-up time has passed.
pub(super) enum Found {
    /// This relay sends what it carries next.
    Ours(Cargo),
    /// Somebody else is to be woken, or sends it.
    Others,
    /// This build cannot read what it carries. It is left as it is: a newer one may, and must not wait because of this one.
    Unread(Unread),
}

/// What is done with what an answer carries now.
enum Now {
    /// Its first effect is tried.
    Try(Cargo),
    /// This is written instead.
    Leave(Box<Put>),
}

/// A record whose first effect is this relay's for as long as `hold` lasts.
struct Claimed {
    record: Arc<Record>,
    cargo: Cargo,
    hold: Hold,
}

impl Desk {
    /// Whose `record` is that is due.
    pub(super) fn found(&self, record: &Record) -> Found {
        match carried(record).map(|it| Cargo::read(it)) {
            Some(Ok(cargo)) if self.has_sender(&cargo) => Found::Ours(cargo),
            Some(Ok(_)) | None => Found::Others,
            Some(Err(unread)) => Found::Unread(unread),
        }
    }

    fn has_sender(&self, cargo: &Cargo) -> bool {
        cargo.items.first().is_some_and(|it| self.trying.senders.contains_key(&it.effect.kind))
    }

    /// Sends `cargo`, which `record` carries, until nothing is left, something does not go out, or somebody else has it.
    pub(super) async fn deliver(&self, record: Arc<Record>, mut cargo: Cargo) {
        let id = record.id;
        cargo.since.get_or_insert(record.updated);
        let mut record = record;
        // Of the effect before this one, which was sent: until that is noted, the record must stay this relay's.
        let mut sent: Option<Hold> = None;
        loop {
            let was_sent = sent.is_some();
            if !was_sent && self.stops.load(Ordering::Acquire) {
                return;
            }
            let begun = match self.next(&record, cargo, was_sent) {
                Now::Try(cargo) => cargo,
                Now::Leave(put) => {
                    if self.swap(&record, &put, sent.as_ref()).await.is_some() {
                        self.swapped(id, &put, was_sent);
                    }
                    return;
                }
            };
            let Some(mut claimed) = self.claim(&record, begun, sent.as_ref()).await else { return };
            self.trying.observer.on(if was_sent { &RelayEvent::Sent(1) } else { &RelayEvent::Claimed(1) });
            let Some(next) = self.tried(&mut claimed).await else { return };
            let now = claimed.record.updated;
            let Claimed { record: held, cargo: tried, hold } = claimed;
            record = held;
            let after = match tried.after(next, now) {
                After::Next(rest) => {
                    (cargo, sent) = (rest, Some(hold));
                    continue;
                }
                after @ (After::Delivered | After::Rest(..)) => after,
            };
            let put = after.put(&record);
            if self.swap(&record, &put, Some(&hold)).await.is_some() {
                self.swapped(id, &put, after == After::Delivered);
            }
            return;
        }
    }

    /// Whether its first effect is tried now, and counted so.
    fn next(&self, record: &Record, cargo: Cargo, is_held: bool) -> Now {
        let leave = |after: After| Now::Leave(Box::new(after.put(record)));
        if is_held && (!self.has_sender(&cargo) || self.stops.load(Ordering::Acquire)) {
            return leave(After::Next(cargo));
        }
        match judge_claimed(cargo.attempts, &self.trying.retries) {
            None => Now::Try(cargo.begun()),
            Some(next) => match cargo.after(next, record.updated) {
                // It is parked, and so at rest.
                After::Next(cargo) => Now::Try(cargo.begun()),
                after @ (After::Rest(..) | After::Delivered) => leave(after),
            },
        }
    }

    /// Claims the first effect. Where that notes, too, that the one before it was sent, it is repeated for as long as `sent`
    /// lasts.
    async fn claim(&self, record: &Arc<Record>, cargo: Cargo, sent: Option<&Hold>) -> Option<Claimed> {
        let hold = Hold::until(self.trying.clock.boot() + self.lease);
        if mutant::is(Mutant::SentUnclaimed) && sent.is_none() {
            return Some(Claimed { record: Arc::clone(record), cargo, hold });
        }
        let put = if mutant::is(Mutant::NotedBeforeSent) {
            broken::noted(record, cargo.clone(), self.lease)
        } else {
            carries_on(record, cargo.write(), self.lease, Timestamp::MAX)
        };
        let record = match sent {
            None => self.once(record, &put, &hold).await?,
            Some(sent) => self.swap(record, &put, Some(sent)).await?,
        };
        Some(Claimed { record, cargo, hold })
    }

    /// Tries the first effect, and stays its owner meanwhile. `None` where it is not, or may not be, any more.
    async fn tried(&self, claimed: &mut Claimed) -> Option<Next> {
        let effect = outgoing(&claimed.record, &claimed.cargo)?;
        let clock = Arc::clone(&self.trying.clock);
        let Claimed { record, cargo, hold } = claimed;
        let mut trying = std::pin::pin!(self.trying.once(&effect, hold));
        loop {
            tokio::select! {
                biased;
                next = &mut trying => return next,
                () = clock.sleep(self.lease / 3) => {}
            }
            let until = clock.boot() + self.lease;
            let put = carries_on(record, cargo.write(), self.lease, Timestamp::MAX);
            tokio::select! {
                biased;
                // It may be written all the same: the note of how it went knows it again.
                next = &mut trying => return next,
                told = self.store.replace(record.id, record.revision, &put) => match told {
                    Ok(Replace::Kept(kept)) => {
                        *record = kept;
                        hold.extend(until);
                    }
                    // An earlier renewal landed, whose reply was lost.
                    Ok(Replace::Lost(Some(shown), _)) if is_so(&shown, &put) => {
                        *record = shown;
                        hold.extend(until);
                    }
                    Ok(Replace::Lost(..) | Replace::Late(_)) => {
                        hold.lose();
                        self.trying.observer.on(&RelayEvent::LeaseLost);
                        return None;
                    }
                    Err(_) => self.trying.observer.on(&RelayEvent::DatabaseFailed),
                },
            }
        }
    }

    /// One swap that is not repeated: whether it landed is seen when the record is due again.
    async fn once(&self, record: &Record, put: &Put, hold: &Hold) -> Option<Arc<Record>> {
        let clock = &*self.trying.clock;
        let told = tokio::select! {
            biased;
            told = self.store.replace(record.id, record.revision, put) => told,
            () = hold.is_over(clock) => return None,
        };
        match told {
            Ok(Replace::Kept(record)) => Some(record),
            Ok(Replace::Lost(..) | Replace::Late(_)) => {
                self.trying.observer.on(&RelayEvent::Fenced(1));
                None
            }
            Err(_) => {
                self.trying.observer.on(&RelayEvent::DatabaseFailed);
                // It is due again at once: a store that is away is not to be asked without a pause.
                clock.sleep(AWAY).await;
                None
            }
        }
    }

    /// A swap that is repeated for as long as the record is this relay's; at least once.
    async fn swap(&self, record: &Record, put: &Put, hold: Option<&Hold>) -> Option<Arc<Record>> {
        let clock = &*self.trying.clock;
        let (mut pause, mut revision) = (REPEAT, record.revision);
        let mut was_uncertain = false;
        loop {
            let told = tokio::select! {
                biased;
                told = self.store.replace(record.id, revision, put) => told,
                () = clock.sleep(self.lease / 3) => Err(Error::new(ErrorKind::Uncertain, "note how it went")),
            };
            match told {
                Ok(Replace::Kept(record)) => return Some(record),
                // An earlier copy of the call landed.
                Ok(Replace::Lost(Some(shown), _)) if was_uncertain && is_so(&shown, put) => {
                    return Some(shown);
                }
                // A renewal landed that nobody waited for any more. Whoever else claims it counts that, and leaves something else.
                Ok(Replace::Lost(Some(shown), _))
                    if hold.is_some() && shown.is_owing() && shown.checkpoint == record.checkpoint =>
                {
                    revision = shown.revision;
                    continue;
                }
                Ok(Replace::Lost(..) | Replace::Late(_)) => {
                    self.trying.observer.on(&RelayEvent::Fenced(1));
                    return None;
                }
                Err(_) => self.trying.observer.on(&RelayEvent::DatabaseFailed),
            }
            was_uncertain = true;
            if hold.is_none_or(|it| it.left(clock) <= pause) {
                // It is due again: a store that is away is not to be asked without a pause.
                clock.sleep(AWAY).await;
                return None;
            }
            clock.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Tells what was written by the last swap.
    fn swapped(&self, id: RecordId, put: &Put, was_sent: bool) {
        let observer = &self.trying.observer;
        if was_sent {
            observer.on(&RelayEvent::Sent(1));
        }
        match put.wake_after {
            Some(Duration::MAX) => {
                observer.on(&RelayEvent::Parked);
                let cargo = put.checkpoint.as_deref().and_then(|it| Cargo::read(it).ok());
                let first = cargo.as_ref().and_then(|it| it.items.first());
                tracing::warn!(
                    record = id.prefix(),
                    effect = first.map(|it| it.id.to_string()),
                    kind = first.map(|it| &*it.effect.kind),
                    reason = cargo.as_ref().map(|it| &*it.reason),
                    "an effect that an answer carries is parked"
                );
            }
            Some(pause) if !pause.is_zero() => observer.on(&RelayEvent::Retried(pause)),
            Some(_) | None => {}
        }
    }
}

fn is_so(shown: &Record, put: &Put) -> bool {
    let wanted: Option<&Bytes> = put.checkpoint.as_ref();
    shown.wake_at.is_some() == put.wake_after.is_some() && shown.checkpoint.as_ref() == wanted
}

/// The first effect of what `record` carries as its sender gets it.
pub(super) fn outgoing(record: &Record, cargo: &Cargo) -> Option<Outgoing> {
    let item = cargo.items.first()?;
    let effect = item.effect.clone();
    Some(Outgoing {
        id: item.id,
        kind: effect.kind,
        destination: effect.destination,
        key: effect.key,
        headers: effect.headers,
        body: effect.body,
        attempt: cargo.attempts,
        fence: Fence(record.revision.0),
        created: cargo.since.unwrap_or(record.updated),
    })
}
