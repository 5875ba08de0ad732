//! Consumers of every source, against what they promise.
#![expect(clippy::unwrap_used, reason = "a step that fails ends the test")]

mod fixture;
#[cfg(feature = "postgres")]
mod in_transaction;
mod memory;
mod promises;
#[cfg(feature = "redis-streams")]
mod redis_streams;
mod scene;
mod time;
