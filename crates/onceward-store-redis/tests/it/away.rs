//! A server that dies, hangs, comes back, or forgets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Insert, Put};
use onceward_core::{ErrorKind, Store as _, Timestamp};
use onceward_store_redis::RedisStore;
use onceward_testkit::server::RedisServer;
use onceward_testkit::{HandClock, eventually, for_polls, within};
use tokio::task::JoinSet;

use crate::sample::{
    HOUR, claim, claim_of, completion, id, inserted, key, open, open_at, said, stored, swapped,
};

/// A server whose answers wait for no disk, for tests that are about time.
fn unsynced() -> RedisServer {
    RedisServer::start_with(&[("appendfsync", "no")])
}

async fn answers(store: &RedisStore) {
    eventually(async || store.check().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_calls_fail_at_once_and_say_why() {
    let mut server = RedisServer::start();
    let store = open(&server, "").await;
    let record = inserted(&store, id(1), &claim()).await;
    server.kill();
    // The first may have been sent before the end of the connection was seen.
    eventually(async || store.check().await.is_err_and(|it| it.kind() == ErrorKind::Unavailable)).await;
    for _ in 0..100 {
        let error = store.insert(id(2), &claim()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(said(&error).contains(&format!("127.0.0.1:{}", server.port())), "{}", said(&error));
    }
    server.start_again();
    answers(&store).await;
    assert_eq!(stored(&store, id(1)).await, Some(Arc::clone(&record)));
    assert_eq!(stored(&store, id(2)).await, None, "what was refused was not written");
    swapped(&store, &record, &completion(&record)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_the_server_closed_costs_no_call() {
    let server = RedisServer::start();
    let store = open(&server, "").await;
    for round in 0..5 {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        // While nobody calls, the end is seen and another connection made.
        eventually(async || store.server_version().is_none() || store.check().await.is_ok()).await;
        answers(&store).await;
        inserted(&store, id(round), &claim()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_burst_loses_nothing_that_was_told() {
    let mut server = RedisServer::start();
    let store = Arc::new(open(&server, "").await);
    let mut callers = JoinSet::new();
    for caller in 0..32_u16 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let mut told = Vec::new();
            for number in 0..200 {
                let id = id(caller * 200 + number);
                let put = claim_of(u64::from(caller) * 1000 + u64::from(number));
                match store.insert(id, &put).await {
                    Ok(Insert::Kept(record)) => told.push((id, Ok(record))),
                    Ok(other) => panic!("the place is vacant, but: {other:?}"),
                    Err(error) => {
                        told.push((id, Err(error.kind())));
                        if error.kind() == ErrorKind::Unavailable {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
            }
            told
        });
    }
    // So that it happens in the middle.
    eventually(async || stored(&*store, id(20)).await.is_some()).await;
    server.kill();
    server.start_again();
    let told = within(callers.join_all()).await;
    answers(&store).await;
    let mut counts: HashMap<String, u32> = HashMap::new();
    for (id, told) in told.into_iter().flatten() {
        let found = stored(&*store, id).await;
        match told {
            Ok(record) => {
                *counts.entry("kept".into()).or_default() += 1;
                assert_eq!(found, Some(record), "told, so there");
            }
            Err(kind) => {
                *counts.entry(format!("{kind:?}")).or_default() += 1;
                assert!(kind == ErrorKind::Uncertain || found.is_none(), "{kind:?}, but it was written");
            }
        }
    }
    println!("{counts:?}");
    assert!(counts["kept"] > 100, "{counts:?}");
    assert!(counts.len() > 1, "the server was missed: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_makes_calls_uncertain_and_no_reply_goes_to_another_call() {
    let server = unsynced();
    let store = Arc::new(open(&server, "?call_timeout=800ms&wait=100ms").await);
    inserted(&*store, id(0), &claim_of(0)).await;
    for round in 0..2_u16 {
        server.pause();
        let mut callers = JoinSet::new();
        for number in 0..50_u16 {
            let (store, number) = (Arc::clone(&store), 1 + round * 50 + number);
            callers.spawn(async move { (number, store.insert(id(number), &claim_of(number.into())).await) });
        }
        for (number, told) in within(callers.join_all()).await {
            let kind = told.as_ref().map_err(onceward_core::Error::kind);
            assert!(kind.is_err(), "{number} was answered by a server that hangs: {told:?}");
            assert_ne!(kind, Err(ErrorKind::Corrupt), "{told:?}");
        }
        server.resume();
        answers(&store).await;
        // Whatever was carried out late: each id has its own record, and each call its own answer.
        let mut callers = JoinSet::new();
        for number in 0..=(round + 1) * 50 {
            let store = Arc::clone(&store);
            callers.spawn(async move { (number, store.load(id(number)).await.unwrap().record) });
        }
        for (number, found) in within(callers.join_all()).await {
            if let Some(found) = found {
                assert_eq!((found.id, found.listing.key.as_str()), (id(number), number.to_string().as_str()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_is_found_out_while_nobody_calls() {
    let server = unsynced();
    let store = open(&server, "?call_timeout=800ms&wait=100ms").await;
    server.pause();
    eventually(async || store.server_version().is_none()).await;
    assert_eq!(store.insert(id(1), &claim()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.resume();
    answers(&store).await;
    inserted(&store, id(1), &claim()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_leave_disturb_nobody() {
    let server = RedisServer::start();
    let store = Arc::new(open(&server, "").await);
    // Callers leave at every poll, before and after their call was sent.
    for number in 0..400_u16 {
        let _ = for_polls(usize::from(number % 4), store.insert(id(number), &claim_of(number.into()))).await;
        let found = inserted(&*store, id(1000 + number), &claim_of(u64::from(number) + 1000)).await;
        assert_eq!(found.listing.key, (number + 1000).to_string());
    }
    for number in 0..400_u16 {
        if let Some(found) = stored(&*store, id(number)).await {
            assert_eq!(found.listing.key, number.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_the_server_forgot_are_brought_along() {
    let mut server = RedisServer::start();
    let store = open(&server, "").await;
    for number in 0..3 {
        server.cli(&["SCRIPT", "FLUSH"]);
        let record = inserted(&store, id(number), &claim()).await;
        swapped(&store, &record, &completion(&record)).await;
    }
    server.kill();
    server.start_again();
    answers(&store).await;
    inserted(&store, id(9), &claim()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_grow_over_a_lost_tail_of_the_file() {
    let mut server = RedisServer::start_with(&[("aof-load-truncated", "yes")]);
    let store = open(&server, "").await;
    let first = inserted(&store, id(1), &claim()).await;
    let second = swapped(&store, &first, &completion(&first)).await;
    let other = inserted(&store, id(2), &claim()).await;
    for bytes in [20, 400, 700] {
        server.kill();
        server.cut_tail(bytes);
        server.start_again();
        answers(&store).await;
        // Whatever of it is left is whole.
        let left = stored(&store, id(1)).await;
        assert!(left.as_ref().is_none_or(|it| *it == first || *it == second), "{left:?}");
    }
    assert_eq!(stored(&store, id(2)).await, None, "the cut took the last write");
    let again = inserted(&store, id(2), &claim()).await;
    assert!(again.fence > other.fence && again.revision > other.revision);
    let next = match stored(&store, id(1)).await {
        None => inserted(&store, id(1), &claim()).await,
        Some(left) => swapped(&store, &left, &claim()).await,
    };
    assert!(next.fence > second.fence && next.revision > second.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_takes_no_new_claim_and_still_finishes_what_runs() {
    let server = RedisServer::start();
    let store = open(&server, "").await;
    let record = inserted(&store, id(1), &claim()).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let renewal = Put::keep(&record, Timestamp::MAX);
    for error in [
        store.insert(id(2), &claim()).await.unwrap_err(),
        store.replace(id(1), record.revision, &renewal).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", said(&error));
        assert!(said(&error).contains("OOM"), "{}", said(&error));
    }
    assert_eq!(stored(&store, id(1)).await.as_ref(), Some(&record));
    assert_eq!(stored(&store, id(2)).await, None);
    assert_eq!(store.list(&Default::default(), None, 9).await.unwrap().records, [Arc::clone(&record)]);
    let done = swapped(&store, &record, &completion(&record)).await;
    assert_eq!(stored(&store, id(1)).await, Some(done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_swept() {
    let server = RedisServer::start();
    let clock = HandClock::new();
    let store = open_at(&server, &clock).await;
    for number in 0..10 {
        let running = inserted(&store, id(number), &claim()).await;
        swapped(&store, &running, &completion(&running)).await;
    }
    // One went by itself, so that an index must be mended.
    server.cli(&["DEL", &key(id(9))]);
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    clock.advance(HOUR);
    assert_eq!(store.sweep(100).await.unwrap().tombstones, 9);
    clock.advance(2 * HOUR);
    assert_eq!(store.sweep(100).await.unwrap().removed, 9);
    assert_eq!(server.cli(&["KEYS", "*"]), "{onceward}:meta");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_becomes_a_replica_is_left_alone_until_it_is_a_primary_again() {
    let server = RedisServer::start();
    let store = open(&server, "").await;
    inserted(&store, id(1), &claim()).await;
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    eventually(async || store.insert(id(2), &claim()).await.is_err()).await;
    // The connection was given up, and another one is not made to a replica.
    eventually(async || {
        let error = store.insert(id(2), &claim()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", said(&error));
        said(&error).contains("name its primary")
    })
    .await;
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    eventually(async || store.insert(id(2), &claim()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_places_wait_for_their_turn() {
    let server = RedisServer::start();
    let store = Arc::new(open(&server, "?max_queue=2").await);
    let mut callers = JoinSet::new();
    for number in 0..200 {
        let store = Arc::clone(&store);
        callers.spawn(async move { store.insert(id(number), &claim()).await.map(drop) });
    }
    assert!(within(callers.join_all()).await.into_iter().all(|it| it.is_ok()));
    server.pause();
    let calls = (0..5).map(|it| store.load(id(it)));
    let hanging = tokio::time::timeout(Duration::from_millis(50), futures_util::future::join_all(calls));
    assert!(hanging.await.is_err(), "a server that hangs answers nobody");
    server.resume();
    answers(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_up_leaves_its_records_to_the_others() {
    let server = RedisServer::start();
    let store = open(&server, "").await;
    let connections = || {
        let all = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]);
        let ours = all.lines().filter(|it| !it.contains("cmd=client"));
        ours.filter_map(|it| it.strip_prefix("id=")?.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    let first = connections();
    assert_eq!(first.len(), 4);
    // Those that are there stay, and no other one can be made.
    server.cli(&["CONFIG", "SET", "requirepass", "x"]);
    server.cli(&["-a", "x", "CLIENT", "KILL", "ID", &first[2]]);
    for round in 0..4 {
        eventually(async || store.insert(id(round), &claim()).await.is_ok()).await;
    }
    for number in 10..40 {
        inserted(&store, id(number), &claim()).await;
    }
}
