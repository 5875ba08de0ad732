//! Consumers of every source, against what they promise.
#![expect(clippy::unwrap_used, reason = "a step that fails ends the test")]

#[cfg(any(feature = "nats", feature = "rabbitmq"))]
mod arrived;
mod carried;
mod fixture;
#[cfg(feature = "postgres")]
mod in_transaction;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "postgres")]
mod outbox;
mod promises;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis-streams")]
mod redis_streams;
mod regained;
mod scene;
#[cfg(feature = "sqs")]
mod sqs;
mod time;
mod windows;
