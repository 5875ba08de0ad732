//! The Redis store over a Cluster: it keeps the laws there, too, follows slots that move, and outlives a primary.
#![expect(clippy::unwrap_used, reason = "these are tests: a step that fails ends them")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::store::{Due, Filter, Insert, Put};
use onceward_core::{Clock as _, ErrorKind, Policy, RecordId, State, Store};
use onceward_store_redis::{Durability, RedisSettings, RedisStore, TimeSource};
use onceward_testkit::conformance::{self, Fixture};
use onceward_testkit::server::RedisCluster;
use onceward_testkit::{HandClock, eventually, within};
use tokio::task::JoinSet;

#[path = "it/sample.rs"]
#[expect(dead_code, reason = "the other tests use the rest of it")]
mod sample;

use sample::{claim_of, completion, id, stored};

/// A part of a Cluster that all cases share.
struct Part {
    url: String,
    prefix: String,
    clock: HandClock,
    time: TimeSource,
}

impl Part {
    fn new(cluster: &RedisCluster) -> Self {
        static PARTS: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("part{}", PARTS.fetch_add(1, Ordering::Relaxed));
        let clock = HandClock::new();
        let (hand, start, booted) = (clock.clone(), clock.wall(), clock.boot());
        let time = TimeSource(Arc::new(move || start.after(hand.boot() - booted)));
        Self { url: cluster.url(), prefix, clock, time }
    }
}

#[async_trait]
impl Fixture for Part {
    async fn open(&self) -> Arc<dyn Store> {
        let settings = RedisSettings::from_url(&self.url).unwrap();
        let settings = RedisSettings {
            prefix: self.prefix.clone(),
            time: Some(self.time.clone()),
            durability: Some(Durability::Durable),
            ..settings
        };
        Arc::new(RedisStore::open(settings).await.unwrap())
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.open().await
    }

    async fn beside(&self, _: &Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        Some(self.open().await)
    }

    fn clock(&self) -> Option<HandClock> {
        Some(self.clock.clone())
    }
}

#[test]
fn a_store_over_a_cluster_keeps_every_law() {
    let cluster = &RedisCluster::start(false);
    onceward_testkit::store_conformance_in_turn!(Part::new(cluster));
    for seed in 0..5 {
        onceward_testkit::reference::run(seed, || Part::new(cluster));
        conformance::run(4, async { onceward_testkit::history::run(seed, &Part::new(cluster)).await });
    }
}

async fn open(cluster: &RedisCluster, more: &str) -> RedisStore {
    RedisStore::open(RedisSettings::from_url(&format!("{}{more}", cluster.url())).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_is_followed() {
    let cluster = RedisCluster::start(false);
    let store = Arc::new(open(&cluster, "").await);
    for number in 0..128 {
        store.insert(id(number), &claim_of(number.into())).await.unwrap();
    }
    // The slot of bucket 7 goes from where it is to another node, key by key.
    let slot = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", "b7"]);
    let at = slot.parse::<usize>().unwrap() * 3 / 16_384;
    let (from, to) = (&cluster.nodes[at], &cluster.nodes[(at + 1) % 3]);
    let (from_id, to_id) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
    assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]), "OK");
    assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]), "OK");
    let port = to.port().to_string();
    let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
    assert!(keys.lines().count() >= 4, "{keys}");
    for (number, key) in keys.lines().enumerate() {
        assert_eq!(from.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]), "OK");
        // Half of the keys are here and half there: nothing can be done, or it is done well.
        match store.load(id(7)).await {
            Ok(loaded) => assert_eq!(loaded.record.unwrap().listing.key, "7", "after {number} keys"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
    }
    // All keys are there, and the map does not say so yet: reading is sent on. A write also names indexes that are
    // empty, of which the nodes cannot say where they are.
    let record = stored(&*store, id(7)).await.unwrap();
    let told = store.replace(id(7), record.revision, &completion(&record)).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable);
    for node in [to, from, &cluster.nodes[(at + 2) % 3]] {
        assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]), "OK");
    }
    let done = sample::swapped(&*store, &record, &completion(&record)).await;
    assert_eq!(stored(&*store, id(7)).await, Some(done));
    for number in 0..128 {
        assert_eq!(stored(&*store, id(number)).await.unwrap().listing.key, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_under_load_costs_nothing_that_a_replica_had_confirmed() {
    let mut cluster = RedisCluster::start(true);
    let store = Arc::new(open(&cluster, "?replicas=1&wait=500ms&call_timeout=2s").await);
    let mut callers = JoinSet::new();
    let told = Arc::new(AtomicU32::new(0));
    for caller in 0..16_u16 {
        let (store, told) = (Arc::clone(&store), Arc::clone(&told));
        callers.spawn(async move {
            let mut calls: Vec<(RecordId, u64, Result<_, ErrorKind>)> = Vec::new();
            let mut number = 0;
            // Until it goes on behind the failover.
            while told.load(Ordering::Relaxed) < u32::MAX / 2 && number < 4000 {
                let name = u64::from(caller) * 4000 + number;
                let id = id(u16::try_from(name).unwrap());
                match store.insert(id, &claim_of(name)).await {
                    Ok(Insert::Kept(record)) => calls.push((id, name, Ok(record))),
                    Ok(other) => panic!("the place is vacant, but: {other:?}"),
                    Err(error) => {
                        calls.push((id, name, Err(error.kind())));
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                told.fetch_add(1, Ordering::Relaxed);
                number += 1;
            }
            calls
        });
    }
    eventually(async || told.load(Ordering::Relaxed) > 500).await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.fail_over(0);
        // It comes back as a replica: without one, nothing could be told in its part of the Cluster.
        cluster.nodes[0].start_again();
        cluster
    });
    let cluster = cluster.await.unwrap();
    // Every bucket answers again.
    for number in 0..64 {
        eventually(async || store.load(id(60_000 + number)).await.is_ok()).await;
    }
    told.store(u32::MAX / 2, Ordering::Relaxed);
    let calls = within(callers.join_all()).await;
    let (mut kept, mut uncertain, mut refused) = (0, 0, 0);
    // Without waiting: that is quicker, and nothing fails over any more.
    let store = open(&cluster, "").await;
    for (id, name, told) in calls.into_iter().flatten() {
        let found = stored(&store, id).await;
        match told {
            Ok(record) => {
                kept += 1;
                assert_eq!(found, Some(record), "told, and lost over the failover");
            }
            Err(ErrorKind::Uncertain) => {
                uncertain += 1;
                assert!(found.is_none_or(|it| it.listing.key == name.to_string()));
            }
            Err(kind) => {
                refused += 1;
                assert_eq!((kind, found), (ErrorKind::Unavailable, None), "refused, so not written");
            }
        }
    }
    println!("{kept} kept, {uncertain} uncertain, {refused} refused");
    assert!(kept > 500 && uncertain + refused > 0, "the failover was missed");
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_holds_up_nobody_on_the_others() {
    let mut cluster = RedisCluster::start(false);
    let store = open(&cluster, "").await;
    let put = claim_of(1);
    let policy = Policy { retention: Duration::ZERO, ..put.policy };
    for number in 0..64 {
        let running = sample::inserted(&store, id(number), &Put { policy, ..put.clone() }).await;
        sample::swapped(&store, &running, &Put { policy, ..completion(&running) }).await;
        let woken = Put { wake_after: Some(Duration::ZERO), ..put.clone() };
        sample::inserted(&store, id(number + 64), &woken).await;
    }
    cluster.nodes[1].kill();
    let (mut away, mut there, mut woken) = (0, 0, 0);
    for number in 0..128 {
        match store.load(id(number)).await {
            Ok(loaded) if number < 64 => there += u64::from(loaded.record.is_some()),
            Ok(loaded) => woken += u64::from(loaded.record.is_some()),
            Err(_) => away += 1,
        }
    }
    assert!(away > 20 && away + there + woken == 128, "{away} away, {there} and {woken} there");
    let due = store.due(Due::Wake.start(), 100).await.unwrap().records;
    assert_eq!(due.len() as u64, woken);
    assert_eq!(store.sweep(100).await.unwrap().tombstones, there);
    cluster.nodes[1].start_again();
    // Its own are swept as soon as it is back.
    eventually(async || {
        let _ = store.sweep(100).await;
        let all = store.list(&Filter::default(), None, 200).await;
        all.is_ok_and(|it| it.records.iter().filter(|it| it.state == State::Tombstone).count() == 64)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opens_while_a_node_is_away() {
    let mut cluster = RedisCluster::start(false);
    let slot: usize = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", "{onceward}:meta"]).parse().unwrap();
    // Not the one that says how the store is laid out.
    let away = if slot < 16_384 / 3 { 1 } else { 0 };
    cluster.nodes[away].kill();
    let store = open(&cluster, "?call_timeout=2s").await;
    assert!(!store.traits().durable, "nobody knows what the one that is away is set to");
    let (mut kept, mut refused) = (0, 0);
    for number in 0..64 {
        match store.insert(id(number), &claim_of(number.into())).await {
            Ok(_) => kept += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", sample::said(&error));
                refused += 1;
            }
        }
    }
    assert!(kept > 10 && refused > 10, "{kept} kept, {refused} refused");
    cluster.nodes[away].start_again();
    for number in 64..128 {
        eventually(async || store.insert(id(number), &claim_of(number.into())).await.is_ok()).await;
    }
}

#[tokio::test]
async fn the_scheme_must_say_what_the_server_is() {
    let cluster = RedisCluster::start(false);
    let settings = RedisSettings::from_url(&cluster.nodes[0].url()).unwrap();
    let said = RedisStore::open(settings).await.unwrap_err().to_string();
    assert!(said.contains("`redis-cluster://`"), "{said}");
    cluster.nodes[1].cli(&["CLUSTER", "DELSLOTSRANGE", "6000", "6001"]);
    let url = format!("redis-cluster://127.0.0.1:{}", cluster.nodes[1].port());
    let said = RedisStore::open(RedisSettings::from_url(&url).unwrap()).await.unwrap_err().to_string();
    assert!(said.contains("16382 of its 16384 slots"), "{said}");
}
