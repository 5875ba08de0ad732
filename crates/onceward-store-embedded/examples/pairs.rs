//! How fast the store is by itself: callers that claim and complete, each operation with an id of its own.
//!
//! `pairs DIRECTORY [callers] [seconds] [bytes of answer] [durable|relaxed] [stored answers first]` prints pairs
//! (one insert and one replace) per second, what a pair costs in processor time, and how long it takes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool of ours: a step that fails ends it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use onceward_core::store::{Insert, Put, Replace};
use onceward_core::{Answer, Clock, RecordId, State, Store, SystemClock, Timestamp};
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore};
use onceward_testkit::claim_with_key;
use tokio::task::JoinSet;

/// Spreads like the ids of real records, which are hashes.
fn id(number: u64) -> RecordId {
    let (mut bytes, mut seed) = ([0; 32], number);
    for part in bytes.chunks_mut(8) {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = seed;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        part.copy_from_slice(&(it ^ (it >> 31)).to_be_bytes());
    }
    RecordId::from_bytes(bytes)
}

async fn pair(store: &EmbeddedStore, number: u64, answer: &[u8]) {
    let (id, claim) = (id(number), claim_with_key(1, format!("key-{number:020}")));
    let Insert::Kept(claimed) = store.insert(id, &claim).await.unwrap() else { panic!("not kept") };
    let state = State::Done(Answer::new("http", answer.to_vec()));
    let done = Put { state, ..Put::keep(&claimed, Timestamp::MAX) };
    let told = store.replace(id, claimed.revision, &done).await.unwrap();
    assert!(matches!(told, Replace::Kept(_)));
}

/// Processor time of this process so far.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

struct Run {
    seconds: u64,
    pairs: u64,
    took: Vec<Duration>,
}

async fn run(
    store: &Arc<EmbeddedStore>,
    next: &Arc<AtomicU64>,
    callers: u64,
    answer: Arc<[u8]>,
    until: impl Fn(Duration) -> bool,
) -> Run {
    let (ends, begun) = (Arc::new(AtomicBool::new(false)), SystemClock.boot());
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (store, next, ends, answer) =
            (Arc::clone(store), Arc::clone(next), Arc::clone(&ends), Arc::clone(&answer));
        tasks.spawn(async move {
            let mut took = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                let begun = SystemClock.boot();
                pair(&store, next.fetch_add(1, Ordering::Relaxed), &answer).await;
                took.push(SystemClock.boot().saturating_sub(begun));
            }
            took
        });
    }
    let mut last = next.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = next.load(Ordering::Relaxed);
        println!(
            "  {:>4} s {:>7} pairs, {} MiB",
            SystemClock.boot().saturating_sub(begun).as_secs(),
            now - last,
            resident_mib()
        );
        last = now;
        if until(SystemClock.boot().saturating_sub(begun)) {
            break;
        }
    }
    ends.store(true, Ordering::Relaxed);
    let mut took: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    let seconds = SystemClock.boot().saturating_sub(begun).as_secs();
    Run { seconds, pairs: took.len() as u64, took }
}

fn main() {
    let words: Vec<_> = std::env::args().collect();
    let word = |at: usize, or: &str| words.get(at).cloned().unwrap_or_else(|| or.to_owned());
    let (path, callers) = (word(1, "/tmp/pairs"), word(2, "64").parse().unwrap());
    let (seconds, answer) = (word(3, "10").parse().unwrap(), word(4, "300").parse().unwrap());
    let stored: u64 = word(6, "0").parse().unwrap();
    let url = format!("embedded:{path}?durability={}", word(5, "durable"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let begun = SystemClock.boot();
        let store =
            EmbeddedStore::open_async(EmbeddedSettings::from_url(&url).unwrap(), Arc::new(SystemClock));
        let store = Arc::new(store.await.unwrap());
        println!("opened in {:?}", SystemClock.boot().saturating_sub(begun));
        let answer: Arc<[u8]> = vec![b'a'; answer].into();
        // Other ids than those of an earlier run.
        let first = SystemClock.wall().as_millis() << 20;
        let next = Arc::new(AtomicU64::new(first));
        if stored > 0 {
            let full = next.clone();
            run(&store, &next, 256, Arc::clone(&answer), move |_| {
                full.load(Ordering::Relaxed) - first >= stored
            })
            .await;
        }
        let used = processor();
        let it = run(&store, &next, callers, answer, |it| it >= Duration::from_secs(seconds)).await;
        let used = processor().saturating_sub(used);
        let at = |per_mille: usize| it.took[(it.took.len() * per_mille / 1000).min(it.took.len() - 1)];
        println!(
            "{} callers: {} pairs/s, {:.1} µs of processor a pair, p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}, {} MiB",
            callers,
            it.pairs / it.seconds.max(1),
            used.as_secs_f64() * 1e6 / it.pairs as f64,
            at(500),
            at(990),
            at(999),
            at(1000),
            resident_mib(),
        );
    });
}
