//! An exhaustive model of the engine's protocol that runs the very rules of core.
//!
//! One record, two or three attempts, a store whose calls are delayed, lost and doubled, a far side, an operator
//! and a sweep. A state holds what each of them knows; an action is one step of one of them. Every decision, every
//! put and every stamp is made by `onceward_core::{decide, transition, store}`: nothing of it is written here again.
//!
//! - [`setup`], [`mod@setups`]: what is explored, and which rule is broken on purpose
//! - [`state`], [`action`]: what there is, and what can happen
//! - `attempt`, `holder`, `storage`, `operator`, `far_side`: one file per party
//! - [`promise`]: what must never be, and what must be seen
//! - [`mod@calm`]: once faults stop, everything settles
//! - [`mod@explore`]: runs a setup and says what came of it
//! - [`mod@shortest`]: the shortest way to a broken promise, in words

pub mod action;
mod attempt;
pub mod calm;
pub mod compact;
pub mod explore;
mod far_side;
mod holder;
mod operator;
pub mod promise;
pub mod setup;
pub mod setups;
pub mod shortest;
pub mod state;
mod storage;
pub mod time;

pub use crate::calm::calm;
pub use crate::explore::explore;
pub use crate::promise::{Promise, Sight};
pub use crate::setup::Setup;
pub use crate::setups::{limits, mutants, never_settles, setups};
pub use crate::shortest::shortest;
