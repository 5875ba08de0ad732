//! A relay that runs: one task that waits for whatever happens next, and a task for each line.

mod ask;
mod broken;
mod end;
mod listen;
mod notes;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::{Clock, Entropy as _, Error, ErrorKind, Owner, Result};
use onceward_store_postgres::outbox::{Claimed, FIRST_LINE, Failed, Held, OutboxTable, Row};
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;

use self::ask::{Asking, REMOVED_MAX, asked};
use self::broken::Broken;
use self::listen::listen;
use self::notes::{Noted, Notes};
use super::Relay;
use super::hand::Hand;
use super::line::{Desk, How, Report};
use crate::outbox::hold::Hold;
use crate::outbox::trying::Trying;
use crate::outbox::verdict::Next;
use crate::outbox::{RelayEvent, RelayObserver, RelaySettings};

/// The longest pause before a database that is away is asked again.
const AWAY_MAX: Duration = Duration::from_secs(5);

/// How long it waits when no more sent effects are to be removed.
const REMOVE_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Running {
    table: OutboxTable,
    pool: PgPool,
    settings: RelaySettings,
    kinds: Arc<[String]>,
    owner: Owner,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn RelayObserver>,
    desk: Arc<Desk>,
    lines: JoinSet<()>,
    reports: mpsc::UnboundedReceiver<Report>,
    hand: Hand,
    /// What is to be noted next.
    notes: Notes,
    /// Where the next claim goes on, and when.
    after: i64,
    claim_at: Duration,
    /// Whether something was added since the claim that is under way was asked for: it may not have seen that.
    added_since: bool,
    note_at: Duration,
    extend_at: Duration,
    remove_at: Option<Duration>,
    claiming: Asking<(Duration, Result<Claimed>)>,
    noting: Asking<(Notes, Result<Noted>)>,
    extending: Asking<(Duration, Vec<Held>, Result<Vec<i64>>)>,
    removing: Asking<Result<u64>>,
    /// How often in a row the database could not be asked.
    failures: u32,
    /// Until when what is on its way may arrive, once the relay stops.
    stops_at: Option<Duration>,
    broken: Broken,
}

/// What happened next.
enum Happened {
    Stop,
    Told,
    Ended,
    Claimed((Duration, Result<Claimed>)),
    Noted((Notes, Result<Noted>)),
    Extended((Duration, Vec<Held>, Result<Vec<i64>>)),
    Removed(Result<u64>),
    Woken,
    Time,
}

impl Running {
    pub(super) fn new(relay: Relay) -> Result<Self> {
        let mut owner = [0; 16];
        let entropy = onceward_core::SystemEntropy;
        entropy
            .fill(&mut owner)
            .map_err(|it| Error::new(ErrorKind::Unavailable, "make an owner token").caused_by(it))?;
        let (sending, reports) = mpsc::unbounded_channel();
        let now = relay.clock.boot();
        let trying = Trying {
            senders: relay.senders,
            retries: relay.settings.retries,
            send_max: relay.settings.send_max,
            clock: Arc::clone(&relay.clock),
            entropy: relay.entropy,
            observer: Arc::clone(&relay.observer),
        };
        let hands = Semaphore::new(relay.settings.parallel.min(Semaphore::MAX_PERMITS));
        let desk = Desk { trying, hands, reports: sending };
        Ok(Self {
            table: relay.outbox.table,
            pool: relay.pool,
            kinds: desk.trying.senders.keys().cloned().collect(),
            owner: Owner::from_bytes(owner),
            clock: relay.clock,
            observer: relay.observer,
            desk: Arc::new(desk),
            lines: JoinSet::new(),
            reports,
            hand: Hand::default(),
            notes: Notes::default(),
            after: FIRST_LINE,
            claim_at: now,
            added_since: false,
            note_at: now,
            extend_at: now + relay.settings.lease / 3,
            remove_at: relay.settings.keep.map(|_| now + relay.settings.poll),
            settings: relay.settings,
            claiming: None,
            noting: None,
            extending: None,
            removing: None,
            failures: 0,
            stops_at: None,
            broken: Broken::default(),
        })
    }

    pub(super) async fn until(mut self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let mut stop = pin!(stop);
        let woken = Notify::new();
        let clock = Arc::clone(&self.clock);
        let pool = self.settings.listen.then(|| self.pool.clone());
        let mut listening = pin!(listen(pool, &*clock, &woken));
        loop {
            let now = clock.boot();
            if self.stops_at.is_some_and(|it| it <= now || (self.hand.is_empty() && self.claiming.is_none()))
            {
                break;
            }
            self.ask_what_is_due(now);
            let until_time = self.next_time().saturating_sub(now);
            let stopping = self.stops_at.is_some();
            let happened = tokio::select! {
                biased;
                // Before anything that could begin more.
                () = &mut stop, if !stopping => Happened::Stop,
                noted = asked(&mut self.noting) => Happened::Noted(noted),
                extended = asked(&mut self.extending) => Happened::Extended(extended),
                Some(report) = self.reports.recv() => {
                    self.note(report);
                    while let Ok(report) = self.reports.try_recv() {
                        self.note(report);
                    }
                    Happened::Told
                }
                Some(ended) = self.lines.join_next() => match ended {
                    Ok(()) => Happened::Ended,
                    // A sender's panic is caught where it is called; another is a defect of ours.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                claimed = asked(&mut self.claiming) => Happened::Claimed(claimed),
                removed = asked(&mut self.removing) => Happened::Removed(removed),
                () = woken.notified(), if !stopping => Happened::Woken,
                () = &mut listening => Happened::Time,
                () = clock.sleep(until_time) => Happened::Time,
            };
            self.happened(happened, clock.boot());
        }
        self.last_words().await;
        Ok(())
    }

    fn happened(&mut self, happened: Happened, now: Duration) {
        match happened {
            Happened::Stop => {
                self.desk.hands.close();
                self.stops_at = Some(now + self.settings.drain);
            }
            // On from where it is: whoever adds without end must not hold it at the first lines.
            Happened::Woken => {
                self.claim_at = now;
                self.added_since = self.claiming.is_some();
            }
            Happened::Told | Happened::Ended | Happened::Time => {}
            Happened::Claimed((before, Ok(claimed))) => {
                self.failures = 0;
                self.claimed(claimed, before + self.settings.lease, now);
            }
            Happened::Claimed((_, Err(error))) => self.claim_at = now + self.failed(&error),
            Happened::Noted((notes, Ok(noted))) => {
                self.failures = 0;
                self.noted(&notes, &noted, now);
            }
            Happened::Noted((notes, Err(error))) => {
                // Some may be noted; the same again is harmless.
                self.notes.add(notes);
                self.note_at = now + self.failed(&error);
            }
            Happened::Extended((before, asked, Ok(kept))) => {
                let lost = self.hand.extended(&asked, &kept, before + self.settings.lease);
                if lost > 0 {
                    self.observer.on(&RelayEvent::Fenced(lost));
                }
            }
            // It is tried again well before the lease is over.
            Happened::Extended((_, _, Err(error))) => self.extend_at = now + self.failed(&error),
            Happened::Removed(Ok(count)) => {
                if count > 0 {
                    self.observer.on(&RelayEvent::Removed(count));
                }
                let more = usize::try_from(count) == Ok(REMOVED_MAX);
                self.remove_at = Some(now + if more { self.settings.poll } else { REMOVE_EVERY });
            }
            Happened::Removed(Err(error)) => {
                self.failed(&error);
                self.remove_at = Some(now + REMOVE_EVERY);
            }
        }
    }

    fn claimed(&mut self, claimed: Claimed, until: Duration, now: Duration) {
        let nothing = claimed.rows.is_empty() && claimed.next.is_none();
        let whole_round = self.after == FIRST_LINE;
        self.after = claimed.next.unwrap_or(FIRST_LINE);
        // Whatever is done or was left behind: there may be more. Only a whole round without anything says that there is none.
        let added_since = std::mem::take(&mut self.added_since);
        let rests = nothing && whole_round && !added_since;
        self.claim_at = if rests { now + self.settings.poll } else { now };
        if claimed.rows.is_empty() {
            self.broken.is_through = nothing && whole_round;
            return;
        }
        self.observer.on(&RelayEvent::Claimed(claimed.rows.len()));
        let rows = broken::claimed(&mut self.broken, &mut self.notes, claimed.rows);
        let mut rows = rows.into_iter().peekable();
        while let Some(first) = rows.next() {
            let mut line = vec![first];
            while let Some(next) = rows.next_if(|it| it.line == line[0].line) {
                line.push(next);
            }
            self.begin(line, until);
        }
    }

    fn begin(&mut self, line: Vec<Row>, until: Duration) {
        let hold = Arc::new(Hold::until(until));
        for row in &line {
            self.hand.take_up(row.held, &hold);
        }
        let desk = Arc::clone(&self.desk);
        self.lines.spawn(async move { desk.work(line, &hold).await });
    }

    fn note(&mut self, report: Report) {
        let Report { held, how } = report;
        self.hand.told(held);
        match how {
            How::Untouched => self.notes.untouched.push(held),
            How::Judged(Next::Sent, _) => self.notes.sent.push(held),
            How::Judged(Next::Again { pause, reason }, tried) => {
                self.observer.on(&RelayEvent::Retried(pause));
                self.notes.failed.push(Failed { held, pause: Some(pause), reason, tried });
            }
            How::Judged(Next::Park { reason }, tried) => {
                self.observer.on(&RelayEvent::Parked);
                tracing::warn!(
                    number = held.seq,
                    reason,
                    "an effect is parked: what is behind it under its key waits"
                );
                self.notes.failed.push(Failed { held, pause: None, reason, tried });
            }
        }
    }

    fn noted(&mut self, notes: &Notes, noted: &Noted, now: Duration) {
        for held in notes.all() {
            self.hand.forget(held);
        }
        if noted.fenced > 0 {
            self.observer.on(&RelayEvent::Fenced(noted.fenced));
        }
        if noted.sent > 0 {
            self.observer.on(&RelayEvent::Sent(noted.sent));
            // What was behind them may go out now.
            self.claim_at = now;
        }
    }

    /// After which pause the database is asked again.
    fn failed(&mut self, error: &Error) -> Duration {
        self.observer.on(&RelayEvent::DatabaseFailed);
        tracing::warn!(error = error as &dyn std::error::Error, "the outbox could not be asked");
        let pause = Duration::from_millis(10 << self.failures.min(10)).min(AWAY_MAX);
        self.failures = self.failures.saturating_add(1);
        pause.min(self.settings.lease / 6)
    }
}
