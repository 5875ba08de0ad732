//! One line: its effects, one after the other, each once the one before was confirmed.

use onceward_store_postgres::outbox::{Held, Row};
use tokio::sync::{Semaphore, mpsc};

use super::outgoing;
use crate::outbox::hold::Hold;
use crate::outbox::trying::Trying;
use crate::outbox::verdict::{Next, judge_claimed};

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
    pub(super) trying: Trying,
    /// A line takes one of these. Closed once the relay stops: nothing more is begun then.
    pub(super) hands: Semaphore,
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
        if let Some(next) = judge_claimed(row.attempts, &self.trying.retries) {
            return How::Judged(next, false);
        }
        match self.trying.once(&outgoing(row, 1), hold).await {
            Some(next) => How::Judged(next, true),
            None => How::Untouched,
        }
    }
}
