//! Keeps records in one directory on one machine, and survives kill -9 and power cuts.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use std::sync::Arc;
//! use onceward_core::store::Store;
//! use onceward_core::{Engine, SystemClock};
//! use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("data");
//! let settings = EmbeddedSettings::new(path); // or EmbeddedSettings::from_url("embedded:./data")?
//! let store = EmbeddedStore::open(settings, Arc::new(SystemClock))?;
//! assert!(store.traits().durable);
//! let engine = Engine::new(Arc::new(store));
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # What is promised, and what is not
//! Every promise of [`Store`](onceward_core::Store). With [`Durability::Durable`] a write is told only after
//! `fdatasync` returned, and no reading call shows a record that is not yet on the disk. With
//! [`Durability::Relaxed`] a write survives the end of the process, but a power cut may take about the last
//! second of them: an operation can then run twice.
//!
//! One process owns the directory. A second one waits for `lock_wait`, then is refused: two gateways with a
//! directory each protect nothing from one another.
//!
//! # How it works
//! One committer thread takes all writes that wait, judges them in order against the current records, writes
//! them to a log as one frame and syncs once for all of them; the next group gathers in the queue meanwhile. Another
//! thread moves what is in the log into the tables of the engine (fjall). A call for one record looks among what is not
//! there yet, then in the tables; calls for many let it all be moved first.
//!
//! # When the disk fails
//! The calls of the group in question get `Uncertain`, and from then on every call gets `Unavailable`, reading
//! ones included: after a failed sync the machine itself no longer knows what is on the disk. The store opens its
//! files again by itself, with growing pauses up to 2 s, under the same lock, and writes all that it finds in its
//! log and journal into new files before it takes calls. Nothing that was told before is lost; what got `Uncertain` is then
//! there for good or not at all. When the committer panics, that is a defect: every call gets `Unavailable`
//! until the store is opened anew; calls that it had not taken up yet get `Unavailable`, too.
//!
//! # When files are damaged
//! The records in a damaged block are refused (`Corrupt`) and passed over by listings, `due` and `sweep`; all others
//! go on. A damaged file that the engine has to merge ends writing, not replaying. Damage in a list of files, in the
//! log or in a journal is refused at the opening and changes nothing. [`survey`] says what is damaged; [`repair`] says what it
//! would do about it, and does it, without deleting anything.
//!
//! # When a future is dropped
//! The call may or may not be carried out, like one whose reply was lost.
//!
//! # Time
//! It begins, with each opening, at the wall time of the [`Clock`](onceward_core::Clock) that `open` was given,
//! or at the latest time that a stored write was stamped with where that is later, and then runs with the boot
//! clock ([`StoreTime`](onceward_core::store::StoreTime)). So it never goes back, and setting the wall clock
//! while the store is open neither ends anything early nor makes time stand still.
//!
//! # Features
//! None.

mod behind;
mod by_id;
mod census;
mod commit;
mod contents;
mod directory;
mod disk;
mod drain;
mod engine;
mod fault;
mod found;
mod group;
mod hot;
mod journal;
mod line;
mod lock;
mod log;
mod look;
mod numbers;
mod opening;
mod past;
mod probe;
mod repair;
mod reply;
mod row;
mod salvage;
mod seat;
mod settings;
mod shelf;
mod store;
mod survey;

pub use crate::census::Census;
pub use crate::directory::OpenError;
pub use crate::disk::FileSystem;
pub use crate::probe::{Point, Probe};
pub use crate::repair::{Repair, Step, repair};
pub use crate::settings::{Durability, EmbeddedSettings, SettingsError};
pub use crate::store::EmbeddedStore;
pub use crate::survey::{Finding, Severity, Survey, survey};
