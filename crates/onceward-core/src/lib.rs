//! Runs an operation once per key and gives every repeat the first answer.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::sync::Arc;
//! use onceward_core::store::memory::MemoryStore;
//! use onceward_core::{Answer, Attempt, Begin, Engine, InFlight, Key, Policy, Principal, Scope, SystemClock};
//!
//! let engine = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
//! let attempt = Attempt {
//!     scope: Scope {
//!         principal: Principal::ANONYMOUS,
//!         kind: "charge".into(),
//!         host: String::new(),
//!         path: "/payments".into(),
//!     },
//!     key: Key::parse("8e03978e-40d5-43dd-bc93-6894a57f9324")?,
//!     fingerprint: engine.hasher().await?.fingerprint([b"12.00 EUR".as_slice()]),
//!     policy: Policy::default(),
//!     in_flight: InFlight::Reject,
//! };
//! for _ in 0..3 {
//!     let answer = match engine.begin(&attempt).await? {
//!         Begin::Run(mut permit) => {
//!             let receipt = permit.keep(async { "receipt 1" }).await?; // runs once
//!             permit.complete(Answer::new("text", receipt)).await?
//!         }
//!         Begin::Replay(answer) => answer,
//!         Begin::Busy { .. } | Begin::Mismatch | Begin::Unresolved | Begin::Gone => unreachable!(),
//!     };
//!     assert_eq!(&answer.bytes()?[..], b"receipt 1");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # What is promised, and what is not
//! Of any number of attempts with one key, at any number of processes over one store, at most one at a time
//! holds a permit, and no second one is granted while it is unknown what the first did, unless the policy
//! says [`Unresolved::Rerun`]. An answer is handed out only once the store has it; it is never overwritten.
//! The effect itself lies outside: a crash between the effect and the stored answer leaves the record
//! *unresolved*, and under [`Unresolved::Hold`] somebody who knows the far side resolves it.
//!
//! # When a future is dropped
//! Dropping `begin` claims nothing that lasts. Dropping a [`Permit`], or the future that runs its work,
//! equals a kill of the process at that place.
//!
//! # Time
//! Leases and retention are judged by the store's own clock alone. The clock of this process only paces
//! renewals and waits; when it is wrong, renewals come early or late, and a late one can cost the lease but
//! never grants a second permit under `hold`.
//!
//! # Features
//! `mutants` lets a build be broken on purpose, to test the tests. It cannot be had without debug assertions, and
//! breaks nothing by itself.

mod cache;
pub mod clock;
pub mod decide;
mod engine;
mod error;
mod event;
mod fingerprint;
mod flight;
mod guard;
mod id;
mod key;
pub mod moving;
#[doc(hidden)]
pub mod mutant;
mod note;
mod operate;
mod permit;
mod policy;
pub mod record;
pub mod store;
mod sync;
pub mod transition;

pub use crate::clock::{Clock, Entropy, SystemClock, SystemEntropy};
pub use crate::decide::Verdict;
pub use crate::engine::{Attempt, Begin, Engine, EngineSettings, Identified};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::event::{Event, NoObserver, Observer};
pub use crate::fingerprint::{Fingerprint, Hasher};
pub use crate::guard::{Failure, Run, RunError};
pub use crate::id::{IdError, id_in_json};
pub use crate::key::{KEY_BYTES_MAX, Key, KeyError, Principal, RecordId, Scope};
pub use crate::note::{Note, Noted};
pub use crate::operate::Operated;
pub use crate::permit::{Lost, Permit};
pub use crate::policy::{InFlight, Policy, Unresolved};
pub use crate::record::{Answer, Fence, Listing, Owner, Record, Revision, State, Status, Timestamp};
pub use crate::store::Store;
