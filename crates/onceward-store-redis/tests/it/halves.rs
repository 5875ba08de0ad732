//! Redis rolls nothing back. When a script fails in the middle, what it did until then must harm nobody.

use onceward_core::store::{Due, Put};
use onceward_core::{ErrorKind, Store as _, Timestamp};
use onceward_testkit::HandClock;
use onceward_testkit::server::RedisServer;

use crate::sample::{HOUR, claim, completion, id, inserted, open_at, stored, swapped};

/// The key of an index of the bucket of `id(1)`.
fn index(name: &str) -> String {
    format!("onceward:{{b1}}:{name}")
}

#[tokio::test]
async fn a_write_that_fails_half_way_leaves_the_record_as_it_was_and_its_lease_is_still_found() {
    let server = RedisServer::start();
    let clock = HandClock::new();
    let store = open_at(&server, &clock).await;
    let record = inserted(&store, id(1), &claim()).await;
    for (name, put) in [("expiry", completion(&record)), ("lease", Put::keep(&record, Timestamp::MAX))] {
        let (key, aside) = (index(name), index("aside"));
        server.cli(&["RENAME", &key, &aside]);
        server.cli(&["SET", &key, "no index"]);
        let error = store.replace(id(1), record.revision, &put).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
        // A claim of another record in the bucket fails as well, or does not need that index.
        let _ = store.insert(id(65), &claim()).await;
        server.cli(&["DEL", &key]);
        server.cli(&["RENAME", &aside, &key]);
        assert_eq!(stored(&store, id(1)).await.as_ref(), Some(&record), "{name}");
    }
    clock.advance(2 * HOUR);
    let due = store.due(Due::Lease.start(), 9).await.unwrap().records;
    assert!(due.iter().any(|it| it.id == id(1)), "{due:?}");
    // Nobody is kept from the record that half a claim may have left a trace of.
    if stored(&store, id(65)).await.is_none() {
        inserted(&store, id(65), &claim()).await;
    }
    let done = swapped(&store, &record, &completion(&record)).await;
    assert_eq!(stored(&store, id(1)).await, Some(done));
}
