//! Stores records in Redis or Valkey: many processes, one server or a Cluster.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use onceward_core::Engine;
//! use onceward_core::store::Store;
//! use onceward_store_redis::{RedisSettings, RedisStore};
//!
//! let settings = RedisSettings::from_url("redis://onceward:secret@cache:6379?durability=durable")?;
//! let store = RedisStore::open(settings).await?;
//! assert!(store.traits().durable);
//! let engine = Engine::new(Arc::new(store));
//! # Ok(()) }
//! ```
//!
//! # What is promised, and what is not
//! Every promise of [`Store`](onceward_core::Store), as long as the server keeps what it has confirmed. A server with
//! `appendonly yes` and `appendfsync always` does, over a crash and a power cut; then the store says that it is durable.
//! With other settings it is used, says that it is not, and a warning tells what a crash can cost. A server that may
//! evict keys is refused.
//!
//! A failover to a replica is another matter: what had not reached the replica is lost. With `replicas=N` nothing is told
//! that is not on `N` replicas; too few in time is `Uncertain`. That makes a loss unlikely, not impossible: who is
//! promoted is up to Sentinel or the Cluster, and it may be the one that lags.
//!
//! # How it works
//! Each promise is one script on the server, called by its hash: it reads the server's clock, judges, stamps and writes.
//! A record is one string: a line of what scripts read, then bytes that they do not. It lies in one of a fixed number of
//! buckets, beside the indexes that it stands in, all in one hash slot. Records that are not finished never expire;
//! others expire a day after a sweep would have taken them, as a net behind it.
//!
//! Calls share four connections per server, those about one record the same one, in the order in which they come. A
//! task keeps each up: it connects again with pauses that grow, asks an idle server whether it is there, and gives up
//! one that answers nobody. While a server is away, its calls are refused at once. With `replicas=N`, calls gather on a
//! connection of their own and wait together.
//!
//! Another runtime than the one where the store was opened, which calls twice within a second, gets two connections of
//! its own, so that its calls cross no thread. They end with it. While it calls less often than that, or before they are
//! up, its calls go over the first four; when those are gone with their runtime, over its own. The calls of different
//! runtimes are in no order.
//!
//! # When the server fails
//! A call that was sent and not answered is `Uncertain`; one that was not sent, or that the server refused, is
//! `Unavailable`. A full server takes no new claims, but the answers of what runs, and goes on to be swept. What lies
//! under a record's key and cannot be read is `Corrupt` for its own id, left as it is, and passed over by everything
//! else.
//!
//! # When a future is dropped
//! The call may or may not be carried out, like one whose reply was lost. Its late answer goes to nobody.
//!
//! # Time
//! The server's clock judges, within the script. When it goes back, leases and answers last longer, and fences of a
//! record still grow. Fences of one that was removed meanwhile grow unless the clock went back by more than it had to
//! settle, at least ten minutes: run NTP with slewing. Numbers are exact until the year 2248.
//!
//! # Features
//! None.

mod cluster;
mod courier;
mod ear;
mod fault;
mod inspect;
mod keys;
mod layout;
mod link;
mod look;
mod near;
mod node;
mod open;
mod reply;
mod route;
mod script;
mod settings;
mod store;
mod tls;
mod value;
mod wire;

pub use crate::open::OpenError;
#[doc(hidden)]
pub use crate::settings::TimeSource;
pub use crate::settings::{Address, Durability, Password, RedisSettings, SettingsError};
pub use crate::store::RedisStore;
