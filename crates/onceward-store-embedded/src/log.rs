//! The log: what every told write is in before it is told, and until the engine has it for good.
//!
//! ```text
//! log/NUMBER.log   a segment: its head (4096 bytes), then frames, then zeros or what an earlier use left
//!
//! head     ONCEWLOG, version (u32), 0 (u32), number (u64), nonce (u64), XXH3 of all that (u64)
//! frame    nonce (u64), check (u64), length of the body (u32), kind (u32),
//!          sequence (u64), drained (u64), the store's time (u64), body
//! ```
//! Integers are little-endian. `check` is the XXH3 of all that follows it, seeded with the nonce. A frame is one group:
//! its body holds, for each record that changes, the id (32 bytes), the revision (u64), the length (u32) and the bytes
//! of [`encode`](onceward_core::record::encode::encode); a length of `u32::MAX` stands for a record that went.
//!
//! - The *nonce* is drawn for each use of a file. So nothing that an earlier use left, and nothing that somebody
//!   planted in an answer, is taken for a frame.
//! - *Sequence* numbers have no gaps, over all segments. Each frame but the last was synced before the next was
//!   written; so a frame behind a gap proves damage, while a bad last one is a write that nobody was told of.
//! - *Drained* is the sequence up to which the engine has everything, synced. What lies before is not needed. A
//!   segment is used again, or removed, only once a synced frame of a later one says so.
//! - A segment that is left ends with a frame that names the next. Its file was made and synced before.
//!
//! Every opening brings what is needed into the engine's tables and begins a new segment: nothing is ever written
//! behind bytes whose sync failed.

mod frame;
mod read;
mod replay;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use crate::log::frame::Change;
pub(crate) use crate::log::read::{Needs, Read, read};
pub(crate) use crate::log::replay::{newer, replay};
pub(crate) use crate::log::write::{Log, begin, bytes};

/// The directory of the segments, beside the engine's.
pub(crate) const FOLDER: &str = "log";
