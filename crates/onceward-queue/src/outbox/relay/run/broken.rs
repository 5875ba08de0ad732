//! Breaks that are made on purpose. Without the feature `mutants` nothing happens here.

use onceward_core::mutant::{self, Mutant};
use onceward_store_postgres::outbox::Row;

use super::notes::Notes;

/// How far a relay has come that goes by numbers.
#[derive(Debug, Default)]
pub(super) struct Broken {
    /// The highest number that it saw, and the one up to which it believes to have seen all.
    highest: i64,
    passed: i64,
    /// Whether the last round found nothing more.
    pub(super) is_through: bool,
}

/// What is begun of what was claimed.
pub(super) fn claimed(broken: &mut Broken, notes: &mut Notes, mut rows: Vec<Row>) -> Vec<Row> {
    if mutant::is(Mutant::NotedBeforeSent) {
        notes.sent.extend(rows.iter().map(|it| it.held));
    }
    if mutant::is(Mutant::PassesLateNumbers) {
        if std::mem::take(&mut broken.is_through) {
            broken.passed = broken.highest;
        }
        let late = |it: &Row| it.held.seq < broken.passed && it.held.fence == 1;
        notes.sent.extend(rows.iter().filter(|it| late(it)).map(|it| it.held));
        rows.retain(|it| !late(it));
        broken.highest = rows.iter().map(|it| it.held.seq).max().unwrap_or(0).max(broken.highest);
    }
    rows
}
