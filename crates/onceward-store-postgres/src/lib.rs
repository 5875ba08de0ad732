//! Keeps records in PostgreSQL, so that any number of gateways and services act as one.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use onceward_core::Engine;
//! use onceward_store_postgres::{PostgresSettings, PostgresStore};
//!
//! let settings = PostgresSettings::from_url("postgres://pay@db.example/shop?schema=onceward")?;
//! let engine = Engine::new(Arc::new(PostgresStore::open(settings).await?));
//! # Ok(()) }
//! ```
//!
//! # What is promised, and what is not
//! Every promise of [`Store`](onceward_core::Store), for all processes that use the same table. A write is told only
//! after the server said that it is committed; it is as durable as the server makes its commits. Where it has
//! `synchronous_commit` or `fsync` off, the store says that it is not durable, and a warning names the setting. A failover to a
//! replica that did not have the last commits loses them, whatever the store does: an operation can then run twice.
//! `synchronous_standby_names` is the remedy, with `synchronous_commit` at its default or at `remote_apply`: then nothing is told,
//! not even to those who read, before a replica has it, also where the server crashed in between.
//!
//! # How it works
//! One statement, and so one round trip, for each promise. It carries all calls of its kind that wait for a connection
//! (arrays and `unnest`): one call alone is sent at once; while all connections are busy, calls gather. A statement
//! judges by the server's clock, stamps times, revision and fence, and shows what it kept or what is there. It needs
//! nothing of its session, so that any pooler may sit in between, in any mode. See `sql/insert.sql` and
//! `sql/replace.sql`.
//!
//! # When the server is away
//! A call that was not sent gets `Unavailable` at once, with what is wrong; one that was sent and has no answer gets
//! `Uncertain`. The connections come back by themselves, with growing pauses up to 2 s. A connection on which an answer
//! is missing is never used again.
//!
//! # When a future is dropped
//! The call may or may not be carried out, like one whose reply was lost.
//!
//! # Time
//! The server's `clock_timestamp()`, read once per statement, for `replace` after the rows are locked. An insert that waited
//! for another transaction until its limit had passed is taken back. Where the server's clock is
//! set back, leases and retention last longer; fences and revisions still grow for every record that is there.
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `sqlx` | the module `operations`: key, effect and answer in the caller's own `sqlx` transaction |
//! | | the module `outbox`: the table of effects that go out once such a transaction has committed |
//! | `sqlx-tls` | `PostgresSettings::sqlx_pool` can encrypt |

mod batch;
mod dial;
mod due;
mod fault;
mod link;
mod list;
#[cfg(feature = "sqlx")]
pub mod operations;
#[cfg(feature = "sqlx")]
pub mod outbox;
#[cfg(feature = "sqlx")]
mod pool;
mod puts;
mod queue;
mod replicas;
mod row;
mod schema;
mod settings;
mod sql;
mod store;
mod sweep;
mod tls;
mod told;
mod watch;
mod worker;

#[cfg(feature = "sqlx")]
pub use crate::pool::PoolError;
pub use crate::settings::{PostgresSettings, SettingsError, Tls};
pub use crate::store::{OpenError, PostgresStore, migrate};
