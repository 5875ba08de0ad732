//! What only somebody who links the store can measure.
//!
//! Two commands stand on this library; `docs/benchmarks.md` says how to run them and how to read them.
//! - `store`: how far is the embedded store from its floor, bare fjall and a bare file?
//! - `scale`: what do millions of stored answers cost a running gateway?

pub mod fill;
pub mod floor;
pub mod made_up;
