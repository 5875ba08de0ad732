//! One delivery, from its id to what the broker is told.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::{Attempt, ErrorKind, InFlight, Principal, Result, Scope};

use crate::desk::{Case, Desk, Told};
use crate::event::Event;
use crate::identity::Identity;
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
        match self.told(delivery).await {
            Ok(Told::Over) => {
                if let Err(error) = self.source.acknowledge(std::slice::from_ref(&receipt)).await {
                    // It comes again, is known by then, and is acknowledged again.
                    self.broker_failed(&error);
                }
                Next::Forget
            }
            Ok(Told::Again(pause)) => Next::Again(pause),
            Ok(Told::Dead { .. }) => unreachable!("the dead are buried by `told`"),
            Err(error) => match error.kind() {
                ErrorKind::Unavailable | ErrorKind::Uncertain => Next::StoreAway,
                kind => {
                    tracing::warn!(
                        consumer = %self.desk.consumer, lane = %receipt.lane, number = receipt.number, ?kind,
                        error = &error as &dyn std::error::Error,
                        "a message cannot be worked on; it is looked at again later"
                    );
                    Next::Again(self.desk.retries.pause_max)
                }
            },
        }
    }

    async fn told(&self, delivery: Delivery) -> Result<Told> {
        let desk = &self.desk;
        let key = match self.key.of(&delivery) {
            Ok(key) => key,
            Err(error) => {
                desk.park(&delivery, None, Reason::NoIdentity, &error.to_string(), 0).await?;
                return Ok(Told::Over);
            }
        };
        let topic = if self.per_topic { delivery.message.topic.to_string() } else { String::new() };
        let attempt = Attempt {
            scope: Scope {
                principal: Principal::ANONYMOUS,
                kind: KIND.into(),
                host: desk.consumer.to_string(),
                path: topic,
            },
            key,
            fingerprint: desk.engine.hasher().await?.fingerprint([&delivery.message.body[..]]),
            policy: desk.policy,
            in_flight: InFlight::Reject,
        };
        let record = attempt.record_id();
        let (known, now) = desk.known(record, delivery.seen).await?;
        if let Before::Wait(pause) = judge_before(known.tries, now) {
            return Ok(Told::Again(pause));
        }
        let mut case = Case { delivery, attempt, record, known };
        match self.strength.run(desk, &mut case).await? {
            Told::Dead { reason, attempts } => {
                let detail = match reason {
                    Reason::OtherPayload => "its id was first used for another payload",
                    Reason::Unresolved => "an earlier attempt may have had its effect: resolve its record",
                    Reason::NoIdentity | Reason::Attempts | Reason::Handler => "",
                };
                desk.park(&case.delivery, Some(case.record), reason, detail, attempts).await?;
                Ok(Told::Over)
            }
            told @ (Told::Over | Told::Again(_)) => Ok(told),
        }
    }

    pub(super) fn broker_failed(&self, error: &onceward_core::Error) {
        self.desk.observer.on(&Event::BrokerFailed);
        tracing::warn!(
            consumer = %self.desk.consumer,
            error = error as &dyn std::error::Error,
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
