//! A break that is made on purpose. Without the feature `mutants` nobody calls it.

use std::time::Duration;

use onceward_core::store::Put;
use onceward_core::transition::{carries_on, delivered};
use onceward_core::{Record, Timestamp};

use super::cargo::{After, Cargo};

/// A claim of the first effect that says that it is sent already.
pub(super) fn noted(record: &Record, cargo: Cargo, lease: Duration) -> Put {
    match cargo.without_first() {
        After::Delivered => delivered(record, Timestamp::MAX),
        After::Next(rest) | After::Rest(rest, _) => carries_on(record, rest.write(), lease, Timestamp::MAX),
    }
}
