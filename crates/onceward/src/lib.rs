//! For the request, the message or the job that may arrive twice and whose effect must happen once.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use onceward::{Attempt, Engine, Failure, InFlight, Key, Policy, Principal, Scope};
//!
//! let engine = Engine::new(onceward::open("memory:").await?); // or "embedded:./data"
//! let attempt = Attempt {
//!     scope: Scope {
//!         principal: Principal::ANONYMOUS,
//!         kind: "charge".into(),
//!         host: String::new(),
//!         path: "/payments".into(),
//!     },
//!     key: Key::parse("order-1001")?,
//!     fingerprint: engine.hasher().await?.fingerprint([b"12.00 EUR".as_slice()]),
//!     policy: Policy::default(),
//!     in_flight: InFlight::Reject,
//! };
//! for _ in 0..3 {
//!     let receipt: u32 =
//!         engine.run(&attempt, |_run| async { Ok::<_, Failure<std::io::Error>>(7) }).await?;
//!     assert_eq!(receipt, 7); // ran once
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `embedded` (default) | `open("embedded:./data")` |
//! | `postgres` | `open("postgres://…")` |
//! | `postgres-transactions` | `postgres::operations`: key, effect and answer in your own `sqlx` transaction |
//! | `queue`, and one for each broker | `queue`: consumers whose messages have their effect once |
//! | `outbox` | `queue::outbox` with what sends webhooks and e-mail |
//! | `redis` | `open("redis://…")` and `open("redis-cluster://…")` |
//! | `http` | the tower layer, as the module `http` |
//! | `mutants` | nothing: only for builds that are broken on purpose, never in a release |
//!
//! A feature adds doors; it never changes behaviour.

mod alone;
mod late;
mod mover;
mod open;

pub use onceward_core::*;

pub use crate::alone::alone;
pub use crate::late::LateStore;
pub use crate::mover::{MoveError, Moved, MovingStore};
#[cfg(feature = "embedded")]
pub use crate::open::embedded_settings;
pub use crate::open::{
    OpenError, check, directory, migrate, open, open_mover, open_moving, open_once_left, open_to_look,
    open_when_possible,
};

/// The store in one directory: its survey and its repair.
#[cfg(feature = "embedded")]
pub use onceward_store_embedded as embedded;

/// The store in a PostgreSQL database.
#[cfg(feature = "postgres")]
pub use onceward_store_postgres as postgres;

/// The store in Redis or Valkey.
#[cfg(feature = "redis")]
pub use onceward_store_redis as redis;

/// The tower layer that makes HTTP operations safe to repeat.
#[cfg(feature = "http")]
pub use onceward_http as http;

/// Consumers whose messages have their effect once, however often they arrive.
#[cfg(feature = "queue")]
pub use onceward_queue as queue;

/// Signatures of webhooks, made and verified.
#[cfg(feature = "http")]
pub use onceward_webhook as webhook;
