//! What is over goes for good, however old versions lie in the files.

use onceward_core::store::{Due, Insert, SETTLE, Swept};
use onceward_core::{State, Store};
use onceward_testkit::HandClock;

use crate::sample::{Raw, claim, completion, id, inserted, open_at, stored, swapped};

#[tokio::test]
async fn expiring_a_key_whose_claim_lies_in_a_deeper_level_brings_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let reopen = || open_at(folder.path(), clock.clone());
    let sink = || Raw::sink(folder.path());

    let store = reopen();
    let claimed = inserted(&store, id(1), &claim()).await;
    drop(store);
    sink();
    let store = reopen();
    let done = swapped(&store, &claimed, &completion(&claimed)).await;
    clock.advance(claimed.policy.retention);
    let swept = store.sweep(10).await.unwrap();
    assert_eq!(swept, Swept { tombstones: 1, ..Swept::default() });
    let tombstone = stored(&store, id(1)).await.unwrap();
    assert_eq!((&tombstone.state, tombstone.fence), (&State::Tombstone, done.fence));
    assert!(tombstone.revision > done.revision);
    clock.advance(claimed.policy.tombstone + SETTLE);
    let swept = store.sweep(10).await.unwrap();
    assert_eq!(swept, Swept { removed: 1, ..Swept::default() });
    assert_eq!(stored(&store, id(1)).await, None);
    drop(store);

    for _ in 0..2 {
        // First with the markers in table files above the claim, then with all of it merged.
        let raw = Raw::open(folder.path());
        raw.records.rotate_memtable_and_wait().unwrap();
        raw.agenda.rotate_memtable_and_wait().unwrap();
        assert_eq!(raw.records.len().unwrap(), 0);
        assert_eq!(raw.agenda.len().unwrap(), 0);
        drop(raw);
        let store = reopen();
        assert_eq!(stored(&store, id(1)).await, None);
        assert_eq!(store.due(Due::Lease.start(), 10).await.unwrap().records, []);
        assert_eq!(store.sweep(10).await.unwrap(), Swept::default());
        drop(store);
        sink();
    }
    let store = reopen();
    assert!(matches!(store.insert(id(1), &claim()).await, Ok(Insert::Kept(it)) if it.fence > claimed.fence));
}
