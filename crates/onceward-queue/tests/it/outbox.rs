//! The outbox and its relays, on a PostgreSQL of the test's own.

mod chaos;
mod consumer;
#[cfg(feature = "email")]
mod mail;
mod order;
mod place;
mod relay;
mod table;
#[cfg(feature = "webhook")]
mod webhook;
