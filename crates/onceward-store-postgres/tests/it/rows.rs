//! Rows that cannot be read stop nobody else, and what no column can hold is refused by name.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Due, Filter, Insert, Put, Replace, Store};
use onceward_core::{ErrorKind, Listing, Policy, Revision, State};
use onceward_store_postgres::PostgresStore;
use onceward_testkit::server::Postgres;
use onceward_testkit::{eventually, within};
use tokio::task::JoinSet;

use crate::sample::{brief, claim, completion, id, inserted, place, swapped};
use crate::support::{self, open};

async fn store() -> (String, PostgresStore) {
    let (name, url) = place(Postgres::shared()).await;
    let store = open(&url).await;
    (name, store)
}

/// Makes the row of `id(1)` unreadable in this way.
async fn spoil(name: &str, how: &str) {
    let id = format!("decode('{}', 'hex')", id(1));
    let sql = format!("UPDATE {name}.onceward_records SET {how} WHERE id = {id}");
    support::run(Postgres::shared(), &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_corrupt_for_itself_alone() {
    for how in ["format = 99", "rules = 77", "format = 99, revision = 9223372036854775807"] {
        let (name, store) = store().await;
        let lease = Policy { lease: Duration::ZERO, ..Policy::default() };
        let put = Put { wake_after: Some(Duration::ZERO), policy: lease, ..claim(1) };
        let Insert::Kept(bad) = store.insert(id(1), &put).await.unwrap() else { panic!("it was vacant") };
        let Insert::Kept(good) = store.insert(id(2), &put).await.unwrap() else { panic!("it was vacant") };
        spoil(&name, how).await;
        assert_eq!(store.load(id(1)).await.unwrap_err().kind(), ErrorKind::Corrupt, "{how}");
        assert_eq!(store.insert(id(1), &claim(2)).await.unwrap_err().kind(), ErrorKind::Corrupt, "{how}");
        let stale = store.replace(id(1), Revision(bad.revision.0 - 1), &completion(&bad)).await;
        assert_eq!(stale.unwrap_err().kind(), ErrorKind::Corrupt, "{how}");
        // Beside it, in the same statements, others go on.
        let mut calls = JoinSet::new();
        let store = Arc::new(store);
        for number in 1..40 {
            let store = Arc::clone(&store);
            calls.spawn(async move { (number, store.insert(id(number), &claim(3)).await) });
        }
        for (number, told) in within(calls.join_all()).await {
            assert_eq!(told.is_err(), number == 1, "{how}: {number} {told:?}");
        }
        for due in [Due::Lease, Due::Wake] {
            eventually(async || store.due(due.start(), 1).await.unwrap().records == [Arc::clone(&good)])
                .await;
        }
        let page = store.list(&Filter::default(), None, 100).await.unwrap();
        assert_eq!((page.unreadable, page.records.len(), page.next), (vec![id(1)], 38, None), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_read_do_not_hold_up_a_sweep() {
    let (name, store) = store().await;
    for number in 0..12 {
        let running = inserted(&store, id(number)).await;
        swapped(&store, &running, &brief(&running)).await;
        if number == 9 {
            let sql = format!("UPDATE {name}.onceward_records SET format = 99");
            support::run(Postgres::shared(), &sql).await;
        }
    }
    let mut tombstones = 0;
    eventually(async || {
        tombstones += store.sweep(3).await.unwrap().tombstones;
        tombstones == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_overflows_its_row_fails_alone() {
    let (name, store) = store().await;
    let (bad, good) = (inserted(&store, id(1)).await, inserted(&store, id(2)).await);
    spoil(&name, "revision = 9223372036854775807").await;
    let store = Arc::new(store);
    let mut calls = JoinSet::new();
    for (record, seen) in [(bad, Revision(i64::MAX as u64)), (Arc::clone(&good), good.revision)] {
        let store = Arc::clone(&store);
        calls.spawn(async move { (record.id, store.replace(record.id, seen, &completion(&record)).await) });
    }
    for (of, told) in within(calls.join_all()).await {
        if of == id(1) {
            assert_eq!(told.unwrap_err().kind(), ErrorKind::Invalid);
        } else {
            assert!(matches!(told, Ok(Replace::Kept(_))), "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_text_that_no_column_can_hold_is_invalid_and_not_sent() {
    let (_, store) = store().await;
    let listing = Listing { path: "/a\0b".into(), ..Listing::clone(&claim(1).listing) };
    let put = Put { listing: Arc::new(listing), ..claim(1) };
    assert_eq!(store.insert(id(1), &put).await.unwrap_err().kind(), ErrorKind::Invalid);
    let record = inserted(&store, id(1)).await;
    let put = Put { state: State::Abandoned { reason: "a\0b".into() }, ..completion(&record) };
    assert_eq!(store.replace(id(1), record.revision, &put).await.unwrap_err().kind(), ErrorKind::Invalid);
    let filter = Filter { path: Some("/a\0b".into()), ..Filter::default() };
    assert_eq!(store.list(&filter, None, 10).await.unwrap().records, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_listing_passes_over_what_does_not_match_and_ends() {
    let (name, store) = store().await;
    inserted(&store, id(1)).await;
    // More rows than one statement looks at, all alike.
    let sql = format!(
        "CREATE TEMP TABLE one AS SELECT * FROM {name}.onceward_records;
         UPDATE one SET kind = 'OTHER';
         INSERT INTO {name}.onceward_records SELECT o.* FROM one, generate_series(1, 11000) n,
            LATERAL jsonb_populate_record(null::{name}.onceward_records, to_jsonb(one)
                || jsonb_build_object('id', sha256(n::text::bytea))) AS o"
    );
    support::run(Postgres::shared(), &sql).await;
    let of = |kind: &str| Filter { kind: Some(kind.into()), ..Filter::default() };
    let (mut posts, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.list(&of("POST"), cursor, 10).await.unwrap();
        posts.extend(page.records);
        pages += 1;
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!((posts.len(), pages), (1, 1));
    let (mut others, mut cursor) = (0, None);
    loop {
        let page = store.list(&of("OTHER"), cursor, 4000).await.unwrap();
        others += page.records.len();
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(others, 11_000);
}
