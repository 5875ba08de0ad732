//! The engine over the memory store, with time in the hand and a store that fails on cue.

#![expect(clippy::unwrap_used, reason = "all of this is test code, its helpers included")]

mod claims;
mod conformance;
mod crash;
mod events;
mod guard;
mod hints;
mod lost_replies;
mod notes;
mod operators;
mod permit;
mod replay;
mod secrecy;
mod time;
mod waiting;
mod world;
