//! Hints over a Cluster: they stay with the slot of the record, and come from whichever server has it.

use std::sync::Arc;

use futures_util::StreamExt as _;
use onceward_core::Store as _;
use onceward_store_redis::{RedisSettings, RedisStore};
use onceward_testkit::server::{RedisCluster, RedisServer};
use onceward_testkit::{Waiting, eventually, within};

use crate::sample::{claim, completion, id, inserted, swapped};

async fn open(cluster: &RedisCluster) -> Arc<RedisStore> {
    let settings = RedisSettings::from_url(&format!("{}?call_timeout=2s", cluster.url())).unwrap();
    Arc::new(RedisStore::open(settings).await.unwrap())
}

/// The number of the node that has the slot of the bucket of `id(7)` at first.
fn home(cluster: &RedisCluster) -> (usize, String) {
    let slot = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", "b7"]);
    (slot.parse::<usize>().unwrap() * 3 / 16_384, slot)
}

fn subscribed(server: &RedisServer) -> usize {
    server.cli(&["PUBSUB", "SHARDCHANNELS"]).lines().filter(|it| it.contains("{b7}")).count()
}

/// A run ends in one process, and another one that listens hears it.
async fn a_run_that_ends_is_heard(cluster: &RedisCluster) {
    let (store, other) = (open(cluster).await, open(cluster).await);
    let record = inserted(&*store, id(7), &claim()).await;
    let mut hints = other.hints(id(7)).unwrap();
    within(hints.next()).await.unwrap();
    swapped(&*store, &record, &completion(&record)).await;
    within(hints.next()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_hears_from_the_node_of_its_slot_and_when_it_moves_from_the_new_one() {
    let cluster = RedisCluster::start(false);
    let other = open(&cluster).await;
    let mut hints = other.hints(id(7)).unwrap();
    within(hints.next()).await.unwrap();
    let (at, slot) = home(&cluster);
    let to = &cluster.nodes[(at + 1) % 3];
    assert_eq!((subscribed(&cluster.nodes[at]), subscribed(to)), (1, 0));
    // Nothing is in the slot: it moves at once.
    let to_id = to.cli(&["CLUSTER", "MYID"]);
    for node in [to, &cluster.nodes[at], &cluster.nodes[(at + 2) % 3]] {
        assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]), "OK");
    }
    assert_eq!(within(hints.next()).await, None, "the node that has it no more says so");
    // What a waiter does then: it looks, which shows where the slot is, and asks again.
    eventually(async || other.load(id(7)).await.is_ok()).await;
    let mut hints = other.hints(id(7)).unwrap();
    within(hints.next()).await.unwrap();
    assert_eq!((subscribed(&cluster.nodes[at]), subscribed(to)), (0, 1));
    drop(hints);
    a_run_that_ends_is_heard(&cluster).await;
    // Wherever their slots are.
    for number in 0..8 {
        let key = format!("k-{number}");
        let told = Waiting::begin(&key, open(&cluster).await, open(&cluster).await, 2).await;
        told.looked(4).await;
        told.told().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_primary_is_killed_its_waiters_hear_from_the_one_that_takes_its_place() {
    let mut cluster = RedisCluster::start(true);
    let other = open(&cluster).await;
    let mut hints = other.hints(id(7)).unwrap();
    within(hints.next()).await.unwrap();
    let (at, _) = home(&cluster);
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.fail_over(at);
        cluster
    });
    let cluster = cluster.await.unwrap();
    eventually(async || other.load(id(7)).await.is_ok()).await;
    assert_eq!(within(hints.next()).await, None, "its server is gone");
    let mut hints = other.hints(id(7)).unwrap();
    within(hints.next()).await.unwrap();
    assert_eq!(subscribed(&cluster.nodes[3 + at]), 1);
    drop(hints);
    a_run_that_ends_is_heard(&cluster).await;
}
