//! What only somebody who links the store can measure.
//!
//! Four commands stand on this library; `docs/benchmarks.md` says how to run them and how to read them.
//! - `store`: how far is the embedded store from its floor, bare fjall and a bare file?
//! - `stores`: how far is every store from its floor?
//! - `consumers`: what does it cost a consumer that its messages have their effect once, and how fast is a relay?
//! - `scale`: what do millions of stored answers cost a running gateway?

pub mod fill;
pub mod floor;
pub mod made_up;
pub mod pgbench;
pub mod servers;
pub mod spent;
