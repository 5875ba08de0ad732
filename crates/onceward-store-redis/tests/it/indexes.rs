//! Index entries whose record is gone or another one: nobody stumbles over them, and they go.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use onceward_core::store::{Due, Filter, Put};
use onceward_core::{RecordId, Store as _};
use onceward_store_redis::RedisStore;
use onceward_testkit::HandClock;
use onceward_testkit::server::RedisServer;

use crate::sample::{HOUR, claim, completion, id, inserted, key, open, open_at, swapped};

#[tokio::test]
async fn entries_without_their_record_go_when_they_are_met() {
    let server = RedisServer::start();
    let clock = HandClock::new();
    let store = open_at(&server, &clock).await;
    let entries = || {
        const SUM: &str = "local sum = 0 \
            for _, key in ipairs(redis.call('KEYS', ARGV[1])) do sum = sum + redis.call('ZCARD', key) end \
            return sum";
        let count = |index: &str| server.cli(&["EVAL", SUM, "0", &format!("onceward:*:{index}")]);
        ["ids", "lease", "wake", "expiry"].map(|it| count(it).parse::<u32>().unwrap())
    };
    for number in 0..40 {
        let put = Put { wake_after: Some(HOUR), ..claim() };
        let running = inserted(&store, id(number), &put).await;
        if number % 2 == 0 {
            swapped(&store, &running, &completion(&running)).await;
        }
    }
    assert_eq!(entries(), [40, 20, 20, 20]);
    // As if their time to live had ended, or somebody had deleted them.
    for number in 4..40 {
        server.cli(&["DEL", &key(id(number))]);
    }
    clock.advance(2 * HOUR);
    assert_eq!(store.due(Due::Lease.start(), 2).await.unwrap().records.len(), 2, "1 and 3 are left");
    assert_eq!(store.due(Due::Wake.start(), 2).await.unwrap().records.len(), 2);
    assert_eq!(store.list(&Default::default(), None, 100).await.unwrap().records.len(), 4);
    assert_eq!(entries(), [4, 2, 2, 2]);
    // One that comes again while its old entries stand is what it says itself.
    server.cli(&["DEL", &key(id(0))]);
    inserted(&store, id(0), &claim()).await;
    let swept = store.sweep(1).await.unwrap();
    assert_eq!((swept.tombstones, swept.removed), (0, 0));
    assert_eq!(store.sweep(1).await.unwrap().tombstones, 1, "record 2 is next");
    assert_eq!(store.due(Due::Wake.start(), 9).await.unwrap().records.len(), 2);
    assert_eq!(entries(), [4, 3, 2, 1]);
}

#[tokio::test]
async fn a_bucket_of_many_records_is_listed_whole_in_pages_of_any_size() {
    let server = RedisServer::start();
    let store = open(&server, "?buckets=2").await;
    let put = claim();
    let calls = (0..700).map(|it| inserted(&store, id(it * 2), &put));
    let written: BTreeSet<_> = join_all(calls).await.into_iter().map(|it| it.id).collect();
    for limit in [1, 40, 256, 300, 1000] {
        let (mut seen, mut cursor) = (BTreeSet::new(), None);
        loop {
            let page = store.list(&Default::default(), cursor, limit).await.unwrap();
            assert!(page.records.len() <= limit);
            for record in page.records {
                assert!(seen.insert(record.id), "listed twice, limit {limit}");
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert!(seen == written, "{} of {} were listed, limit {limit}", seen.len(), written.len());
    }
    // Filters that match nothing end, too, page after page.
    let nothing = Filter { path: Some("/none".into()), ..Filter::default() };
    let (mut cursor, mut pages) = (None, 0);
    loop {
        let page = store.list(&nothing, cursor, 1).await.unwrap();
        assert_eq!(page.records, []);
        (cursor, pages) = (page.next, pages + 1);
        if cursor.is_none() {
            break;
        }
    }
    assert!(pages < 10, "{pages} pages");
}

/// What pages of `limit` show to be woken.
async fn walked(store: &RedisStore, limit: usize) -> Vec<RecordId> {
    let (mut ids, mut next) = (Vec::new(), Some(Due::Wake.start()));
    while let Some(from) = next {
        let page = store.due(from, limit).await.unwrap();
        assert!(page.records.len() <= limit && ids.len() < 1000);
        ids.extend(page.records.iter().map(|it| it.id));
        next = page.next;
    }
    ids
}

#[tokio::test]
async fn what_is_due_at_one_time_in_one_bucket_is_shown_in_the_order_of_its_bytes() {
    let server = RedisServer::start();
    let clock = HandClock::new();
    let store = open_at(&server, &clock).await;
    let put = Put { wake_after: Some(HOUR / 2), ..claim() };
    // All in the first bucket, with bytes that no language has letters for.
    let mut all: Vec<_> = join_all((0..301).map(|it| inserted(&store, id(it * 64 * 3), &put)))
        .await
        .into_iter()
        .map(|it| it.id)
        .collect();
    clock.advance(HOUR);
    // One that is due at a later time has a smaller id.
    inserted(&store, id(64), &Put { wake_after: Some(Duration::ZERO), ..claim() }).await;
    all.sort_unstable();
    all.push(id(64));
    for limit in [1, 2, 7, 100, 1000] {
        assert!(walked(&store, limit).await == all, "limit {limit}");
    }
    // Under a time that is none: it is mended and stands in nobody's way.
    const SPOIL: &str = "return redis.call('ZADD', ARGV[1], '0.5', redis.call('ZRANGE', ARGV[1], 0, 0)[1])";
    for limit in [1, 7] {
        server.cli(&["EVAL", SPOIL, "0", "onceward:{b0}:wake"]);
        let shown = walked(&store, limit).await;
        assert!(shown == all || shown == all[1..], "limit {limit}");
        assert!(walked(&store, limit).await == all, "limit {limit}");
    }
}

#[tokio::test]
async fn a_record_that_is_removed_leaves_no_key_behind() {
    let server = RedisServer::start();
    let clock = HandClock::new();
    let store = open_at(&server, &clock).await;
    for number in 0..10 {
        let running = inserted(&store, id(number), &claim()).await;
        swapped(&store, &running, &completion(&running)).await;
    }
    for _ in 0..2 {
        clock.advance(3 * HOUR);
        store.sweep(100).await.unwrap();
    }
    assert_eq!(server.cli(&["KEYS", "*"]), "{onceward}:meta");
}
