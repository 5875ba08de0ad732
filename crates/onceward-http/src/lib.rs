//! A tower layer that makes HTTP operations safe to repeat.
mod body;
mod outcome;
mod problem;

pub use crate::body::{Body, BoxError};
pub use crate::outcome::Outcome;
pub use crate::problem::Problem;
