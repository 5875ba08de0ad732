//! What the PostgreSQL store promises beyond the laws that every store keeps.
#![expect(clippy::unwrap_used, reason = "these are tests: a step that fails ends them")]

mod away;
mod blocked;
mod cut;
mod encrypted;
mod hints;
#[cfg(feature = "sqlx")]
mod operations;
mod replicas;
mod rows;
mod sample;
#[expect(dead_code, reason = "the fixtures are for the other test binary")]
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod together;
