//! What tests of Onceward are made of. Nothing here ships.
//!
//! A backend's whole conformance test is its fixture and one line:
//! ```
//! # use onceward_testkit::conformance::Memory;
//! onceward_testkit::store_conformance!(Memory::default());
//! # fn main() {}
//! ```
//!
//! - [`conformance`]: every law of a store as one named case, and the fixture that a backend writes.
//! - [`reference`](mod@reference): random calls to any store, each compared with a model of the laws.
//! - [`history`]: concurrent calls to any store, noted, and checked for an order that explains them.
//! - [`HandClock`], [`SeededEntropy`]: time and randomness that a test holds in its hand.
//! - [`FaultyStore`]: any store, made to fail on cue.
//! - [`Wrapper`]: a store around any other that changes some calls and passes on the rest.
//! - [`claim`], [`completion`], [`inserted`], [`swapped`], [`stored`]: what a `begin` asks a store to keep, what ends it,
//!   and calls that must succeed, for tests that care about something else.
//! - [`small_disk`]: a file system that can be filled up or made read-only.
//! - [`server`]: real servers that belong to one test.
//! - [`Wire`]: a connection to a server that can be cut, slowed down and clogged.
//! - [`hinting`]: a store that hints when it is told to, for the stores around it.
//! - [`Waiting`]: waiters of another process that look only where the store hints.
//! - [`within`], [`eventually`], [`for_polls`]: deadlines, conditions, and futures dropped half-way.

mod clock;
pub mod conformance;
#[cfg(unix)]
mod disk;
mod entropy;
pub mod faulty;
mod hinting;
pub mod history;
mod lane;
mod patience;
pub mod reference;
mod sample;
pub mod server;
mod unhurried;
mod wire;
mod wrapper;

pub use crate::clock::HandClock;
#[cfg(unix)]
pub use crate::disk::{fill, remount, small_disk};
pub use crate::entropy::SeededEntropy;
pub use crate::faulty::{Fault, FaultyStore, Gate, Op};
pub use crate::hinting::{hinting, hints_are_passed_on};
pub use crate::lane::Lane;
pub use crate::patience::{eventually, for_polls, within};
pub use crate::sample::{attempt, claim, claim_with_key, completion, inserted, stored, swapped};
pub use crate::unhurried::Waiting;
pub use crate::wire::{Way, Wire};
pub use crate::wrapper::{Wrapped, Wrapper};
