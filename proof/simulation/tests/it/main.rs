//! The short lane of the simulation, and the proof that it can fail.

mod breaks;
mod replay;
mod seeds;
