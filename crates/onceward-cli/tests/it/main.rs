//! The `onceward` command as its users meet it: the real binary, real processes, real signals.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod away;
#[cfg(all(feature = "kafka", feature = "sqs"))]
mod brokers;
#[cfg(all(feature = "relay", feature = "redis-streams"))]
mod carried;
mod client;
#[cfg(feature = "redis-streams")]
mod consume;
mod crash;
mod doctor;
mod doctor_asks;
#[cfg(all(feature = "redis-streams", feature = "nats"))]
mod doctor_brokers;
mod drain;
mod foreign;
mod full;
mod help;
mod keys;
mod lease;
mod logs;
mod manners;
mod metrics;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod moving;
mod ops;
mod owner;
mod process;
#[cfg(all(feature = "outbox", feature = "redis-streams"))]
mod relay;
#[cfg(not(feature = "relay"))]
mod relay_not_built;
mod reload;
mod settings;
mod several;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod shared;
mod snapshot;
mod start;
mod story;
mod upstream;
mod version;
mod wait;
mod webhooks;
