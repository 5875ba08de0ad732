//! Effects that go out once the transaction that added them has committed, and not if it was rolled back.
//!
#![cfg_attr(feature = "postgres", doc = "```no_run")]
#![cfg_attr(not(feature = "postgres"), doc = "```ignore")]
//! # async fn example(pool: sqlx::PgPool, broker: impl onceward_queue::Source) -> Result<(), Box<dyn std::error::Error>> {
//! use onceward_queue::outbox::{Effect, Outbox, Publish, Relay};
//!
//! let outbox = Outbox::default();
//! let mut transaction = pool.begin().await?;
//! sqlx::query("UPDATE orders SET paid = true WHERE id = 1001").execute(&mut *transaction).await?;
//! let paid = Effect {
//!     kind: "kafka".into(),
//!     destination: "order-paid".into(),
//!     key: Some("1001".into()),
//!     headers: Vec::new(),
//!     body: r#"{"order":1001}"#.into(),
//! };
//! outbox.add(&mut transaction, &paid).await?;
//! transaction.commit().await?;
//!
//! // Here or in another process, as many as you like:
//! Relay::new(pool, outbox).sender("kafka", Publish::new(broker)).run(std::future::pending()).await?;
//! # Ok(()) }
//! ```
//!
//! # Without PostgreSQL
//! In every store an *answer* can carry effects: they are stored in one swap with it, and an [`AnswerRelay`] sends them. A handler of
//! a [`Consumer`](crate::Consumer) adds them to [`Handling::effects`](crate::Handling::effects); whoever has a permit in the hand
//! makes [`Effects`] and completes it with them.
//!
//! ```
//! # async fn example(handling: onceward_queue::Handling) -> Result<(), onceward_queue::Failure> {
//! use onceward_queue::outbox::Effect;
//!
//! let ship = Effect {
//!     kind: "http".into(),
//!     destination: "https://warehouse.example/shipments".into(),
//!     key: None,
//!     headers: Vec::new(),
//!     body: handling.message.body.clone(),
//! };
//! handling.effects.add(ship)?; // goes out once the message counts as done, and never if it does not
//! # Ok(()) }
//! ```
//!
//! Each effect that was stored with an answer goes out at least once, under one id. Those of one answer go out in the order in which
//! they were added, each after the one before it was confirmed; those of two answers in any order: where the order of several
//! operations matters, take the table. An effect that cannot be sent is parked, and holds up what is behind it in its answer. An
//! answer is kept until nothing of it is left to send, and its retention is counted from then.
//!
//! # What is promised, and what is not
//! Each effect that was committed goes out at least once, under one id; none that was rolled back does. Of effects with one kind,
//! destination and key, each goes out after the one before it was confirmed. What was in the hands of a relay that dies goes out
//! twice: the id is there so that the far side, or a [`Consumer`](crate::Consumer), tells the second from the first. An effect that
//! cannot be sent is parked, and holds up what is behind it under its key, and nothing else.
//!
//! # When a transaction waits
//! To add an effect with a key, a transaction waits until others that added one with that key have ended. Two that add several
//! keys in another order may wait for one another; then the server ends one of them with `deadlock_detected`, and it is begun again
//! ([`is_conflict`](onceward_store_postgres::operations::is_conflict)). [`Outbox::add_all`] adds in one order for all.
//!
//! # Time
//! The database's clock judges leases, pauses and ages. A relay counts its lease by its own clock from before it asked, and sends
//! nothing once that is over.

mod carried;
mod effect;
mod event;
mod hold;
#[cfg(feature = "email")]
pub mod mail;
#[cfg(feature = "metrics")]
mod metrics;
mod publish;
#[cfg(feature = "postgres")]
mod relay;
mod sender;
mod settings;
#[cfg(feature = "postgres")]
mod table;
mod trying;
pub mod verdict;
#[cfg(feature = "webhook")]
pub mod webhook;

use std::time::Duration;

use onceward_core::Error;

pub use self::carried::{AnswerOutbox, AnswerRelay, CARRIED_BYTES_MAX, CARRIED_MAX, Effects, NotAdded};
pub use self::effect::{Effect, EffectId};
pub use self::event::{NoRelayObserver, RelayEvent, RelayObserver};
#[cfg(feature = "metrics")]
pub use self::metrics::RelayMetrics;
pub use self::publish::{EVENT_ID, Publish};
#[cfg(feature = "postgres")]
pub use self::relay::Relay;
pub use self::sender::{Outgoing, SendFailure, Sender};
pub use self::settings::RelaySettings;
#[cfg(feature = "postgres")]
pub use self::table::{AddError, Outbox, OutboxSettings};

/// An effect that is parked.
#[derive(Debug, Clone)]
pub struct Parked {
    /// Its number, for the next page; 0 for one that an answer carries, which has none.
    pub number: i64,
    /// What it is; `attempt` is how many tries it had.
    pub effect: Outgoing,
    /// Since when, by the database's clock.
    pub since: onceward_core::Timestamp,
    /// Why.
    pub reason: String,
}

/// How an outbox stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many effects are not sent, parked ones included.
    pub unsent: u64,
    /// How many are parked. Those behind them in their lines are not counted here.
    pub parked: u64,
    /// How many a relay has in hand.
    pub owned: u64,
    /// For how long the oldest waits that is neither sent nor parked.
    pub oldest: Option<Duration>,
    /// The most tries that an unsent one had.
    pub attempts: u32,
}

#[cfg(feature = "postgres")]
impl From<onceward_store_postgres::outbox::Stats> for Stats {
    fn from(it: onceward_store_postgres::outbox::Stats) -> Self {
        Self {
            unsent: it.unsent,
            parked: it.parked,
            owned: it.owned,
            oldest: it.oldest,
            attempts: it.attempts,
        }
    }
}

/// Settings that cannot be.
fn wrong(what: &'static str) -> Error {
    Error::new(onceward_core::ErrorKind::Invalid, what)
}
