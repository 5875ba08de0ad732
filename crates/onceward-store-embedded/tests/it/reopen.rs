//! What is there after a restart.

use std::time::Duration;

use onceward_core::store::{Cursor, Due, Filter, Put, Swept};
use onceward_core::{Clock, Store};
use onceward_store_embedded::{Durability, EmbeddedSettings, EmbeddedStore};
use onceward_testkit::HandClock;
use std::sync::Arc;

use crate::sample::{claim, completion, id, inserted, open, open_at, settings, stored, swapped};

#[tokio::test]
async fn leases_and_wake_times_are_due_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let store = open_at(folder.path(), clock.clone());
    let late = Put { wake_after: Some(Duration::from_secs(60)), ..claim() };
    let first = inserted(&store, id(1), &late).await;
    clock.advance(Duration::from_secs(1));
    let second = inserted(&store, id(2), &claim()).await;
    drop(store);
    let store = open_at(folder.path(), clock.clone());
    assert_eq!(store.due(Due::Lease.start(), 9).await.unwrap().records, []);
    clock.advance(first.policy.lease);
    assert_eq!(store.due(Due::Lease.start(), 9).await.unwrap().records, [first.clone(), second.clone()]);
    assert_eq!(store.due(Due::Lease.start(), 1).await.unwrap().records, std::slice::from_ref(&first));
    assert_eq!(store.due(Due::Wake.start(), 9).await.unwrap().records, []);
    clock.advance(Duration::from_secs(60));
    assert_eq!(store.due(Due::Wake.start(), 9).await.unwrap().records, [first]);
    let renewed = swapped(&store, &second, &Put::keep(&second, onceward_core::Timestamp::MAX)).await;
    assert!(renewed.lease_until > second.lease_until);
    assert!(!store.due(Due::Lease.start(), 9).await.unwrap().records.iter().any(|it| it.id == second.id));
}

#[tokio::test]
async fn time_never_goes_back_behind_a_write_that_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let store = open_at(folder.path(), clock.clone());
    clock.advance(Duration::from_secs(3600));
    let kept = inserted(&store, id(1), &claim()).await;
    assert_eq!(kept.updated, clock.wall());
    drop(store);
    clock.jump_wall(-7_200_000);
    let store = open_at(folder.path(), clock.clone());
    assert!(store.load(id(1)).await.unwrap().now >= kept.updated);
    let next = inserted(&store, id(2), &claim()).await;
    assert!(next.updated >= kept.updated);
}

#[tokio::test]
async fn a_wall_clock_that_was_far_ahead_for_a_moment_ends_nothing_early_and_stops_nothing() {
    const MONTH_MS: i64 = 30 * 24 * 3_600_000;
    let folder = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let store = open_at(folder.path(), clock.clone());
    let claimed = inserted(&store, id(1), &claim()).await;
    let done = swapped(&store, &claimed, &completion(&claimed)).await;
    clock.jump_wall(MONTH_MS);
    assert_eq!(store.sweep(9).await.unwrap(), Swept::default());
    let kept = inserted(&store, id(2), &claim()).await;
    assert_eq!(kept.updated, done.updated, "no time has passed");
    clock.jump_wall(-MONTH_MS);
    clock.advance(Duration::from_secs(5));
    assert_eq!(store.load(id(1)).await.unwrap().now, done.updated.after(Duration::from_secs(5)));
    drop(store);

    // A store that was opened at such a moment goes on from there, and does not wait for the date to come.
    clock.jump_wall(MONTH_MS);
    let store = open_at(folder.path(), clock.clone());
    let ahead = inserted(&store, id(3), &claim()).await;
    drop(store);
    clock.jump_wall(-MONTH_MS);
    let store = open_at(folder.path(), clock.clone());
    clock.advance(ahead.policy.lease);
    assert!(store.due(Due::Lease.start(), 9).await.unwrap().records.contains(&ahead));
}

#[tokio::test]
async fn a_relaxed_store_says_so_and_keeps_its_records_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let relaxed = || {
        let settings = EmbeddedSettings { durability: Durability::Relaxed, ..settings(folder.path()) };
        EmbeddedStore::open(settings, Arc::new(HandClock::new())).unwrap()
    };
    let store = relaxed();
    assert!(!store.traits().durable);
    let kept = inserted(&store, id(1), &claim()).await;
    drop(store);
    assert_eq!(stored(&relaxed(), id(1)).await, Some(kept));
    assert!(open(folder.path()).traits().durable, "durability is of the opening, not of the directory");
}

#[tokio::test]
async fn a_long_listing_is_cut_into_pages_that_miss_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let put = claim();
    let all: Vec<_> = (0..25_000).map(id).collect();
    for step in all.chunks(1000) {
        futures_util::future::join_all(step.iter().map(|it| store.insert(*it, &put))).await;
    }
    let nobody = Filter { kind: Some("DELETE".into()), ..Filter::default() };
    let page = store.list(&nobody, None, 10).await.unwrap();
    assert!(page.records.is_empty());
    assert_eq!(page.next, Some(Cursor(all[9_999])), "it stops looking, and says where to go on");
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.list(&Filter::default(), cursor, 700).await.unwrap();
        seen.extend(page.records.iter().map(|it| it.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert!(seen == all, "{} of {}", seen.len(), all.len());
}
