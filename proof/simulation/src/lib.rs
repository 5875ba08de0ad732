//! Client, gateway and store over a simulated network: loss, delay, partition, restarts.
//!
//! A seed decides everything: who asks what, when what fails, how long each message takes. First faults are on
//! and safety is checked at every step; then everything heals, and every key must come to an end. The same seed
//! gives the same run, event for event. `docs/proof/simulation.md` says what is simulated and what is not.
//!
//! ```
//! use onceward_simulation::{Options, run};
//!
//! let report = run(1, Options::default());
//! assert!(report.violations.is_empty());
//! ```

mod breaks;
mod client;
mod clock;
mod gateway;
mod many;
mod network;
mod plan;
mod run;
mod simulation;
mod store;
mod upstream;
mod world;

pub use crate::breaks::Break;
pub use crate::many::{Share, Sum, run_many};
pub use crate::run::{Options, Report, run};
pub use crate::world::{Event, Violation};
