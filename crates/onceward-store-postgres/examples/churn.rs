//! Records that come, are answered, expire and go, as fast as they can: how fast that is, and whether the table stays
//! small. `churn [CYCLES] [CALLERS] [SPEED] [CONNECTIONS]` starts a private server.
//!
//! With a speed of 600 the server's clock runs 600 times as fast, so that a record which is kept for 20 minutes and
//! settles for ten is gone after three seconds. A speed of 1 leaves the clock alone: then nothing goes within a run.
#![expect(clippy::unwrap_used, reason = "it measures: a step that fails ends it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onceward_core::store::{Grant, Insert, Put, Replace, Store};
use onceward_core::{
    Answer, Fingerprint, Listing, Owner, Policy, Principal, RecordId, State, Timestamp, Unresolved,
};
use onceward_store_postgres::{PostgresSettings, PostgresStore};
use onceward_testkit::server::Postgres;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

const MINUTE: Duration = Duration::from_secs(60);
const SIZES_EVERY: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|it| it.parse::<u64>().unwrap());
    let cycles = arguments.next().unwrap_or(100_000);
    let callers = arguments.next().unwrap_or(64);
    let speed = arguments.next().unwrap_or(600);
    let connections = arguments.next().unwrap_or(4);
    let server = Postgres::start(&[("shared_buffers", "256MB"), ("max_wal_size", "1GB")]);
    let (client, connection) = tokio_postgres::connect(&server.url("onceward"), NoTls).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async { drop(connection.await) });
    make_schema(&client, speed).await;
    let url = format!("{}?schema=churn&connections={connections}", server.url("churn"));
    let store = PostgresStore::open(PostgresSettings::from_url(&url).unwrap()).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);

    let sweeper = Arc::clone(&store);
    tasks.spawn(async move {
        loop {
            if !sweeper.sweep(1000).await.unwrap().more {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let begun = Arc::new(AtomicU64::new(0));
    let mut working = JoinSet::new();
    let start = Instant::now();
    for _ in 0..callers {
        let (store, begun) = (Arc::clone(&store), Arc::clone(&begun));
        working.spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                if number >= cycles {
                    return times;
                }
                times.push(cycle(&*store, number).await);
            }
        });
    }
    let (mut times, mut last) = (Vec::new(), 0);
    let mut ticks = tokio::time::interval(SIZES_EVERY);
    println!("seconds   cycles  per s     rows   dead  table KiB  toast KiB  indexes KiB  vacuums");
    while !working.is_empty() {
        tokio::select! {
            Some(ended) = working.join_next() => times.extend(ended.unwrap()),
            _ = ticks.tick() => {
                let done = begun.load(Ordering::Relaxed).min(cycles);
                sizes(&client, start.elapsed(), done, (done - last) / SIZES_EVERY.as_secs()).await;
                last = done;
            }
        }
    }
    let elapsed = start.elapsed();
    sizes(&client, elapsed, cycles, 0).await;
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    println!("{} cycles by {callers} callers over {connections} connections: {rate:.0} per s", times.len());
    for (what, part) in [("claim", 0), ("complete", 1)] {
        let mut part: Vec<_> = times.iter().map(|it: &[Duration; 2]| it[part]).collect();
        part.sort_unstable();
        let at = |share: usize| part[(part.len() - 1) * share / 100];
        println!("{what:8} p50 {:?}  p99 {:?}", at(50), at(99));
    }
}

/// A schema of its own whose clock runs as fast as asked.
async fn make_schema(client: &Client, speed: u64) {
    let start = "CREATE ROLE churn LOGIN; CREATE SCHEMA churn AUTHORIZATION churn;";
    client.batch_execute(start).await.unwrap();
    if speed > 1 {
        let clock = format!(
            "ALTER ROLE churn SET search_path = churn, pg_catalog;
             CREATE FUNCTION churn.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS
             'BEGIN RETURN ''2026-01-01''::timestamptz + {speed} * (pg_catalog.clock_timestamp() - ''2026-11-01''); END'"
        );
        client.batch_execute(&clock).await.unwrap();
    }
}

/// Claims and answers one record.
async fn cycle(store: &dyn Store, number: u64) -> [Duration; 2] {
    let mut id = [0; 32];
    // Spread like the hashes that ids are.
    for (turn, part) in (17..).step_by(17).zip(id.chunks_mut(8)) {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(turn);
        part.copy_from_slice(&mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes());
    }
    let put = Put {
        grant: Some(Grant { owner: Owner::from_bytes([7; 16]), new_life: false }),
        listing: Arc::new(Listing {
            principal: Principal::from_bytes([1; 16]),
            kind: "POST".into(),
            host: "shop.example".into(),
            path: "/v1/payments".into(),
            key: format!("{number:036}"),
        }),
        rules: onceward_core::record::RULES,
        fingerprint: Some(Fingerprint::from_bytes([2; 32])),
        state: State::Running,
        policy: Policy {
            lease: MINUTE,
            run_max: 10 * MINUTE,
            retention: 10 * MINUTE,
            tombstone: 10 * MINUTE,
            unresolved: Unresolved::Hold,
        },
        checkpoint: None,
        wake_after: None,
        not_after: Timestamp::MAX,
    };
    let start = Instant::now();
    let Insert::Kept(record) = store.insert(RecordId::from_bytes(id), &put).await.unwrap() else {
        panic!("the place was vacant")
    };
    let claimed = start.elapsed();
    let answer = State::Done(Answer::new("http", vec![b'x'; 300]));
    let put = Put { grant: None, state: answer, ..put };
    let told = store.replace(record.id, record.revision, &put).await.unwrap();
    assert!(matches!(told, Replace::Kept(_)), "nobody else has it");
    [claimed, start.elapsed() - claimed]
}

async fn sizes(client: &Client, elapsed: Duration, cycles: u64, rate: u64) {
    let text = "SELECT n_live_tup, n_dead_tup, autovacuum_count, pg_relation_size(relid),
                       pg_table_size(relid) - pg_relation_size(relid), pg_indexes_size(relid)
                FROM pg_stat_user_tables WHERE relname = 'onceward_records'";
    let row = client.query_one(text, &[]).await.unwrap();
    let number = |column: usize| row.get::<_, i64>(column);
    println!(
        "{:7} {cycles:8} {rate:6} {:8} {:6} {:10} {:10} {:12} {:8}",
        elapsed.as_secs(),
        number(0),
        number(1),
        number(3) / 1024,
        number(4) / 1024,
        number(5) / 1024,
        number(2),
    );
}
