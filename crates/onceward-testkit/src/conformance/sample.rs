//! The records that the cases are made of.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Grant, Put, Replace, Swept};
use onceward_core::{Key, Owner, Policy, Principal, Record, RecordId, Scope, State, Store, Timestamp};

use super::Fixture;
pub(super) use crate::completion;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// One record id per name.
pub(super) fn id(name: &str) -> RecordId {
    let scope = Scope {
        principal: Principal::ANONYMOUS,
        kind: "TEST".into(),
        host: String::new(),
        path: name.into(),
    };
    RecordId::of(&scope, &Key::parse("k").expect("k is visible ASCII"))
}

pub(super) fn owner(number: u8) -> Owner {
    Owner::from_bytes([number; 16])
}

/// A claim by owner `number`: lease 1 h, run 2 h, retention 1 h, tombstone 1 h.
pub(super) fn claim(number: u8) -> Put {
    let policy =
        Policy { lease: HOUR, run_max: 2 * HOUR, retention: HOUR, tombstone: HOUR, ..Policy::default() };
    Put { policy, ..crate::claim(number) }
}

/// The put that keeps `record` running: a renewal.
pub(super) fn renewal(record: &Record) -> Put {
    Put::keep(record, Timestamp::MAX)
}

/// A new grant on `record` for owner `number`.
pub(super) fn take_over(record: &Record, number: u8) -> Put {
    Put {
        grant: Some(Grant { owner: owner(number), new_life: false }),
        state: State::Running,
        ..renewal(record)
    }
}

/// The first grant of a new life of `record`, for owner `number`.
pub(super) fn new_life(record: &Record, number: u8) -> Put {
    Put { grant: Some(Grant { owner: owner(number), new_life: true }), ..take_over(record, number) }
}

/// The put that stores an answer for `retention`, followed by a tombstone for `tombstone`.
pub(super) fn brief_completion(record: &Record, retention: Duration, tombstone: Duration) -> Put {
    let put = completion(record, b"brief");
    Put { policy: Policy { retention, tombstone, ..put.policy }, ..put }
}

/// The put that frees a record.
pub(super) fn release(record: &Record) -> Put {
    Put { state: State::Released, fingerprint: None, ..renewal(record) }
}

pub(super) async fn inserted(store: &Arc<dyn Store>, id: RecordId, put: &Put) -> Arc<Record> {
    crate::inserted(&**store, id, put).await
}

pub(super) async fn swapped(store: &Arc<dyn Store>, seen: &Record, put: &Put) -> Arc<Record> {
    crate::swapped(&**store, seen, put).await
}

pub(super) async fn replaced(store: &Arc<dyn Store>, seen: &Record, put: &Put) -> Replace {
    store.replace(seen.id, seen.revision, put).await.expect("the store answers a replace")
}

pub(super) async fn stored(store: &Arc<dyn Store>, id: RecordId) -> Option<Arc<Record>> {
    crate::stored(&**store, id).await
}

/// The store's time.
pub(super) async fn now(store: &Arc<dyn Store>) -> Timestamp {
    store.load(id("nothing is here")).await.expect("the store answers a load").now
}

/// Lets at least `pause` pass on the store's clock: by hand where it is in the hand, else by waiting for it.
pub(super) async fn pass(fixture: &impl Fixture, store: &Arc<dyn Store>, pause: Duration) {
    let until = now(store).await.after(pause);
    if let Some(clock) = fixture.clock() {
        clock.advance(pause);
    }
    crate::eventually(async || now(store).await >= until).await;
}

/// Sweeps until there is nothing more to do at once; the sum of what was done.
pub(super) async fn swept(store: &Arc<dyn Store>) -> Swept {
    let mut sum = Swept::default();
    for _ in 0..10_000 {
        let step = store.sweep(100).await.expect("the store answers a sweep");
        sum.tombstones += step.tombstones;
        sum.removed += step.removed;
        if !step.more {
            return sum;
        }
    }
    panic!("sweeping never ends: {sum:?}");
}

/// Asserts that `record` is what [`Put::stamp`] makes of `put` on `previous`, at the time it names.
pub(super) fn assert_stamped(put: &Put, previous: Option<&Record>, record: &Record) {
    assert_eq!(put.stamp(record.id, previous, record.updated), *record, "stamped as `Put::stamp` does");
}
