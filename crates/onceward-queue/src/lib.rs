//! Consumers whose messages have their effect once, however often they arrive.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use onceward_core::store::memory::MemoryStore;
//! use onceward_core::{Engine, SystemClock};
//! use onceward_queue::source::memory::{MemoryBroker, MemorySettings};
//! use onceward_queue::{Consumer, Failure, Handling, Identity, Message};
//!
//! let broker = MemoryBroker::new(Arc::new(SystemClock), MemorySettings::default());
//! let paid = Message {
//!     topic: "orders".into(),
//!     key: None,
//!     headers: vec![("event-id".into(), Bytes::from_static(b"paid-1001"))],
//!     body: Bytes::from_static(br#"{"order":1001,"cents":1200}"#),
//! };
//! for _ in 0..5 {
//!     broker.publish(paid.clone()); // the producer got no answer, and sent it again
//! }
//! let (ship, mut shipped) = tokio::sync::mpsc::unbounded_channel();
//! let engine = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
//! Consumer::new("shipping", broker.source("orders"), engine)
//!     .key(Identity::header("event-id"))
//!     .handler(move |it: Handling| {
//!         let ship = ship.clone();
//!         async move { ship.send(it.message.body.clone()).map_err(Failure::retry) }
//!     })
//!     .run(async { while !broker.kept("orders").is_empty() { tokio::task::yield_now().await } })
//!     .await?;
//! assert_eq!(shipped.recv().await.as_deref(), Some(&br#"{"order":1001,"cents":1200}"#[..]));
//! assert_eq!(shipped.recv().await, None, "once");
//! # Ok::<(), onceward_core::Error>(()) }).unwrap();
//! ```
//!
//! # What is promised, and what is not
//! A message is acknowledged only when its effect is stored, when it is a repeat of one whose effect is, or when it lies among
//! the dead letters. A repeat of a message that is being worked on is not acknowledged. Its handler runs under a permit of the
//! [`Engine`](onceward_core::Engine): at most one at a time holds it, however many consumers there are. What the handler does
//! lies outside: a crash between the effect and its note leaves the message *unresolved*, and under
//! [`Hold`](onceward_core::Unresolved::Hold) it goes among the dead letters until somebody who knows the far side resolves it.
//!
//! # Time
//! The store's clock judges leases, pauses between tries, and how long outcomes are kept. Outcomes must be kept for longer than
//! a message can come again.

mod consumer;
mod desk;
mod event;
mod handler;
mod identity;
mod letter;
mod letters;
mod message;
#[cfg(feature = "metrics")]
mod metrics;
pub mod outbox;
#[cfg(feature = "receive")]
mod receive;
pub mod source;
mod strength;
pub mod verdict;
mod windows;

pub use crate::consumer::{Consumer, ConsumerSettings, Order};
pub use crate::event::{Event, NoObserver, Observer};
pub use crate::handler::{Failure, Handling};
pub use crate::identity::{Identity, NoIdentity, NoPlace};
pub use crate::letter::{KIND as DEAD_LETTER, Letter};
pub use crate::letters::{Letters, REDRIVEN, Redriven};
pub use crate::message::{Delivery, Lane, Message, Receipt, Seen};
#[cfg(feature = "metrics")]
pub use crate::metrics::Metrics;
#[cfg(feature = "receive")]
pub use crate::receive::{EVENT_ID, NotTaken, Receiver};
pub use crate::source::Source;
pub use crate::verdict::{Reason, Retries};
pub use crate::windows::{Kept, Level, Misfit, Windows};
