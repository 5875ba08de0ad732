//! One delivery, from its id to what the broker is told.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::{Attempt, ErrorKind, InFlight, Key, Principal, Result, Scope};

use crate::desk::{Case, Desk, Told};
use crate::event::Event;
use crate::handler::with_causes;
use crate::identity::{Identity, NoIdentity};
use crate::letters::was_letter;
use crate::message::{Delivery, Seen};
use crate::source::Source;
use crate::strength::Strength;
use crate::verdict::{Before, Reason, judge_before};

/// The kind of a message's operation, as listings show it.
const KIND: &str = "consume";

/// What works on deliveries.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) desk: Desk,
    pub(super) source: Arc<dyn Source>,
    pub(super) key: Identity,
    pub(super) strength: Arc<dyn Strength>,
    pub(super) per_topic: bool,
}

/// What the loop does with a delivery next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Forget it: the broker was told, or cannot be.
    Forget,
    /// Look at it again after this pause.
    Again(Duration),
    /// The store is away. Look at it again when it is back.
    StoreAway,
}

impl Worker {
    /// Works on a delivery, and acknowledges it if it is over.
    pub(super) async fn work(&self, delivery: Delivery) -> Next {
        let receipt = delivery.receipt.clone();
        match self.over_or_again(delivery).await {
            Ok(None) => {
                if let Err(error) = self.source.acknowledge(std::slice::from_ref(&receipt)).await {
                    // It comes again, is known by then, and is acknowledged again.
                    self.broker_failed(&error);
                }
                Next::Forget
            }
            Ok(Some(pause)) => Next::Again(pause),
            Err(error) => match error.kind() {
                ErrorKind::Unavailable | ErrorKind::Uncertain => Next::StoreAway,
                kind => {
                    tracing::warn!(
                        consumer = %self.desk.consumer, lane = %receipt.lane, number = receipt.number, ?kind,
                        error = with_causes(&error),
                        "a message cannot be worked on; it is looked at again later"
                    );
                    Next::Again(self.desk.retries.pause_max)
                }
            },
        }
    }

    /// After which pause it is to be looked at again, unless it is over.
    async fn over_or_again(&self, delivery: Delivery) -> Result<Option<Duration>> {
        let desk = &self.desk;
        // A function of the application's looks at the message, and may panic.
        let found = std::panic::catch_unwind(AssertUnwindSafe(|| self.key.of(&delivery)));
        let key = match found.unwrap_or(Err(NoIdentity::Panicked)) {
            Ok(key) => key,
            Err(error) => {
                desk.park(&delivery, None, Reason::NoIdentity, &error.to_string(), 0).await?;
                return Ok(None);
            }
        };
        let attempt = self.attempt(key, &delivery).await?;
        let record = attempt.record_id();
        let (known, now) = desk.known(record, delivery.seen).await?;
        if let Before::Wait(pause) = judge_before(known.tries, now) {
            return Ok(Some(pause));
        }
        let mut case = Case { delivery, attempt, record, known };
        let (reason, attempts) = match self.strength.run(desk, &mut case).await? {
            Told::Over => return Ok(None),
            Told::Again(pause) => return Ok(Some(pause)),
            Told::Dead { reason, attempts } => (reason, attempts),
        };
        let detail = match reason {
            Reason::OtherPayload => "its id was first used for another payload",
            Reason::Unresolved => "an earlier attempt may have had its effect: resolve its record",
            Reason::NoIdentity | Reason::Attempts | Reason::Handler => "",
        };
        desk.park(&case.delivery, Some(case.record), reason, detail, attempts).await?;
        Ok(None)
    }

    async fn attempt(&self, key: Key, delivery: &Delivery) -> Result<Attempt> {
        let desk = &self.desk;
        let hasher = desk.engine.hasher().await?;
        let message = &delivery.message;
        let mut path = if self.per_topic { message.topic.to_string() } else { String::new() };
        if let Some(letter) = was_letter(&hasher, message) {
            // Under its id alone it stays dead.
            path = format!("{path}/redriven/{letter}");
        }
        Ok(Attempt {
            scope: Scope {
                principal: Principal::ANONYMOUS,
                kind: KIND.into(),
                host: desk.consumer.to_string(),
                path,
            },
            key,
            fingerprint: hasher.fingerprint([&message.body[..]]),
            policy: desk.policy,
            in_flight: InFlight::Reject,
        })
    }

    pub(super) fn broker_failed(&self, error: &onceward_core::Error) {
        self.desk.observer.on(&Event::BrokerFailed);
        tracing::warn!(
            consumer = %self.desk.consumer, source = ?self.source, error = with_causes(error),
            "the broker did not do what it was asked for"
        );
    }
}

/// How a delivery is looked at for the second time: by then it may have been begun.
pub(super) fn seen_again(delivery: &mut Delivery) {
    delivery.seen = match delivery.seen {
        Seen::First | Seen::Perhaps => Seen::Perhaps,
        Seen::Before(count) => Seen::Before(count),
    };
}
