//! `replicas=N`: what is told is on so many replicas.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::{ErrorKind, Store as _};
use onceward_testkit::server::RedisServer;
use onceward_testkit::{eventually, within};
use tokio::task::JoinSet;

use crate::sample::{claim, claim_of, completion, id, inserted, open, said, stored, swapped};

#[tokio::test(flavor = "multi_thread")]
async fn without_replicas_nothing_is_told_and_with_them_everything() {
    let primary = RedisServer::start();
    let store = open(&primary, "?replicas=1&wait=100ms").await;
    let error = store.insert(id(1), &claim()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uncertain);
    assert!(said(&error).contains("0 of 1 replicas"), "{}", said(&error));
    // It landed, and may not be shown either: it could be lost in a failover.
    assert_eq!(store.load(id(1)).await.unwrap_err().kind(), ErrorKind::Uncertain);
    assert_eq!(store.insert(id(1), &claim()).await.unwrap_err().kind(), ErrorKind::Uncertain);

    let replica = RedisServer::start_replica(&primary);
    let store = open(&primary, "?replicas=1&wait=4s").await;
    let record = stored(&store, id(1)).await.unwrap();
    let done = swapped(&store, &record, &completion(&record)).await;
    // What was told is there when the replica takes over.
    drop(primary);
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    let store = open(&replica, "").await;
    assert_eq!(stored(&store, id(1)).await, Some(done));
}

/// With the negative control: what guards against the loss is the waiting, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_loses_what_was_told_without_it_and_nothing_that_waited_for_it() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_replica(&primary);
    let hasty = open(&primary, "").await;
    // A busy machine may take its time; who shall wait in vain need not wait long.
    let patient = open(&primary, "?replicas=1&wait=4s").await;
    let careful = open(&primary, "?replicas=1&wait=100ms").await;
    let before = inserted(&patient, id(1), &claim()).await;
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    inserted(&hasty, id(2), &claim()).await;
    let told = careful.insert(id(3), &claim()).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Uncertain);
    // What somebody else wrote without waiting is not handed out either.
    assert_eq!(careful.load(id(2)).await.unwrap_err().kind(), ErrorKind::Uncertain);
    drop(primary);
    let after = open(&replica, "").await;
    assert_eq!(stored(&after, id(1)).await, Some(before));
    assert_eq!(stored(&after, id(2)).await, None, "told without waiting, and lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_for_replicas_together() {
    let primary = RedisServer::start();
    let _replica = RedisServer::start_replica(&primary);
    let store = Arc::new(open(&primary, "?replicas=1&wait=4s").await);
    primary.cli(&["SCRIPT", "FLUSH"]);
    let mut callers = JoinSet::new();
    for number in 0..500_u16 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let record = inserted(&*store, id(number), &claim_of(number.into())).await;
            swapped(&*store, &record, &completion(&record)).await
        });
    }
    for record in within(callers.join_all()).await {
        assert_eq!(stored(&*store, record.id).await, Some(record));
    }
    let waits = primary.cli(&["INFO", "commandstats"]);
    let waits = waits.lines().find_map(|it| it.strip_prefix("cmdstat_wait:calls=")).unwrap().to_owned();
    let waits: u32 = waits.split(',').next().unwrap().parse().unwrap();
    // 500 loads one after another wait alone; 1000 writes share.
    assert!((500..1000).contains(&waits), "{waits} waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_while_calls_wait_leaves_none_without_an_answer() {
    let mut primary = RedisServer::start();
    let store = Arc::new(open(&primary, "?replicas=1&wait=2s").await);
    let mut callers = JoinSet::new();
    for number in 0..50 {
        let store = Arc::clone(&store);
        callers.spawn(async move { store.insert(id(number), &claim()).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    primary.kill();
    for told in within(callers.join_all()).await {
        assert_ne!(told.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    primary.start_again();
    let _replica = RedisServer::start_replica(&primary);
    eventually(async || store.check().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_still_tells_what_its_replicas_have() {
    let primary = RedisServer::start();
    let _replica = RedisServer::start_replica(&primary);
    let store = open(&primary, "?replicas=1&wait=4s").await;
    let record = inserted(&store, id(1), &claim()).await;
    primary.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(store.insert(id(2), &claim()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let done = swapped(&store, &record, &completion(&record)).await;
    assert_eq!(stored(&store, id(1)).await, Some(done));
}
