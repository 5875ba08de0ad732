//! Stores that stand in front of others: opened late, or moving.

#![expect(clippy::unwrap_used, reason = "all of this is test code, its helpers included")]

mod late;
mod moving;
mod moving_ends;
mod moving_under_load;
