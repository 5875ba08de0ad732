//! One line: its effects, one after the other, each once the one before was confirmed.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use onceward_core::{Clock, Entropy};
use onceward_store_postgres::outbox::{Held, Row};
use tokio::sync::{Semaphore, mpsc};

use super::hand::Hold;
use super::{RelayEvent, RelayObserver, outgoing};
use crate::outbox::verdict::{Next, judge_claimed, judge_try};
use crate::outbox::{Outgoing, SendFailure, Sender};
use crate::verdict::Retries;

/// How it went with an effect.
#[derive(Debug)]
pub(super) enum How {
    /// This is to be noted; and whether it was tried.
    Judged(Next, bool),
    /// It was not begun, or its lease was over before it ended: it is given back.
    Untouched,
}

/// What a line tells of each of its effects.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) held: Held,
    pub(super) how: How,
}

/// What all lines of a relay share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) senders: HashMap<String, Arc<dyn Sender>>,
    /// A line takes one of these. Closed once the relay stops: nothing more is begun then.
    pub(super) hands: Semaphore,
    pub(super) retries: Retries,
    pub(super) send_max: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) observer: Arc<dyn RelayObserver>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
}

impl Desk {
    /// Sends the effects of a line until one of them does not go out.
    pub(super) async fn work(&self, rows: Vec<Row>, hold: &Hold) {
        let _hand = self.hands.acquire().await;
        let mut goes_on = true;
        for row in rows {
            let held = row.held;
            let how =
                if goes_on && !self.hands.is_closed() { self.one(row, hold).await } else { How::Untouched };
            goes_on = matches!(how, How::Judged(Next::Sent, _));
            // Nobody hears it where the relay is gone; then nobody notes it either.
            let _ = self.reports.send(Report { held, how });
        }
    }

    async fn one(&self, row: Row, hold: &Hold) -> How {
        if let Some(next) = judge_claimed(row.attempts, &self.retries) {
            return How::Judged(next, false);
        }
        let Some(sender) = self.senders.get(&row.kind) else { return How::Untouched };
        let effect = outgoing(row, 1);
        let began = self.clock.boot();
        let told = tokio::select! {
            biased;
            // Before anything is sent, and before anything is heard that came too late.
            () = hold.is_over(&*self.clock) => {
                self.observer.on(&RelayEvent::LeaseLost);
                return How::Untouched;
            }
            told = self.tried(&**sender, &effect) => told,
        };
        self.observer.on(&RelayEvent::Tried(self.clock.boot().saturating_sub(began)));
        let mut jitter = [0];
        // Without randomness the pauses are only longer.
        let _ = self.entropy.fill(&mut jitter);
        How::Judged(judge_try(told, effect.attempt, &self.retries, jitter[0]), true)
    }

    async fn tried(&self, sender: &dyn Sender, effect: &Outgoing) -> Result<(), SendFailure> {
        tokio::select! {
            biased;
            told = AssertUnwindSafe(sender.send(effect)).catch_unwind() => {
                told.unwrap_or_else(|_| Err(SendFailure::retry("its sender panicked")))
            }
            () = self.clock.sleep(self.send_max) => Err(SendFailure::retry("it took longer than send_max")),
        }
    }
}
