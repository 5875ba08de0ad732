//! What the Redis store promises beyond the laws that every store keeps.
#![expect(clippy::unwrap_used, reason = "these are tests: a step that fails ends them")]

mod away;
mod halves;
mod hints;
mod hints_cluster;
mod history;
mod indexes;
mod near;
mod open;
mod replicas;
mod rows;
mod sample;
mod sentinel;
mod tls;
