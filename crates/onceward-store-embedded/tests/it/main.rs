//! What the embedded store promises beyond the laws that every store keeps.
#![expect(clippy::unwrap_used, reason = "these are tests: a step that fails ends them")]

mod blocks;
mod crash;
mod damage;
mod expiry;
mod full;
mod group;
mod history;
mod layers;
mod log;
mod owner;
mod reopen;
mod repair;
mod resolve;
mod sample;
mod steps;
