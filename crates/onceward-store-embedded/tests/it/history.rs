//! What concurrent callers are told has an order, over faults of the disk and over kill -9.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;
use onceward_core::{Store, SystemClock};
use onceward_store_embedded::{EmbeddedStore, Point, Probe};
use onceward_testkit::history::{Client, Event, Log, Plan, What, assert_order};
use onceward_testkit::{HandClock, Lane, conformance};
use tokio::task::JoinSet;

use crate::sample::{open, settings};

/// So many clients meet.
const CLIENTS: u64 = 8;

type Noted = Arc<Mutex<Vec<Event>>>;

/// Lets clients loose, each with so many calls. Their names begin behind `first`.
async fn meet(
    store: &Arc<dyn Store>,
    log: &Arc<dyn Log>,
    seed: u64,
    first: u64,
    clock: Option<HandClock>,
    calls: usize,
) {
    let mut clients = JoinSet::new();
    for who in first..first + CLIENTS {
        let plan = Plan { clock: clock.clone(), ..Plan::new(seed, who) };
        let mut client = Client::new(Arc::clone(store), Arc::clone(log), plan);
        clients.spawn(async move { client.calls(calls).await });
    }
    clients.join_all().await;
}

/// A disk that refuses a group now and then, or of which nobody knows whether it has synced.
#[derive(Debug)]
struct Moody(Mutex<Rng>);

impl Probe for Moody {
    fn reached(&self, point: Point) -> io::Result<()> {
        let one_in = match point {
            Point::BeforeWrite { .. } => 12,
            // The store is away for a while after this one.
            Point::AfterWrite => 40,
            _ => return Ok(()),
        };
        let fails = self.0.lock().unwrap_or_else(PoisonError::into_inner).u32(0..one_in) == 0;
        if fails { Err(io::Error::other("a fault on cue")) } else { Ok(()) }
    }
}

#[test]
fn calls_have_an_order_over_faults_of_the_disk() {
    let mut reopened = 0;
    Lane::from_env(3).each(|seed| {
        conformance::run(if seed % 2 == 0 { 1 } else { 4 }, async {
            let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
            let probe = Arc::new(Moody(Mutex::new(Rng::with_seed(seed))));
            let opened =
                EmbeddedStore::open_with_probe(settings(folder.path()), Arc::new(clock.clone()), probe);
            let store = Arc::new(opened.unwrap());
            let (noted, it) = (Noted::default(), Arc::clone(&store) as Arc<dyn Store>);
            meet(&it, &(Arc::clone(&noted) as Arc<dyn Log>), seed, 0, Some(clock), 150).await;
            let calls = assert_order(seed, &noted.lock().unwrap());
            println!("{calls} calls, opened {} times again", store.reopened());
            reopened += store.reopened();
        });
    });
    assert!(reopened > 0, "the store was never away");
}

/// Set in the environment of the other process: this test binary again, running [`ROLE`] alone.
const WRITER: &str = "ONCEWARD_TEST_CLIENTS";
const ROLE: &str = "history::calls_have_an_order_over_kill_nine";

/// Notes events where the parent reads them, one a line.
struct Told;

impl Log for Told {
    fn note(&self, event: Event) {
        let line = serde_json::to_string(&event).unwrap();
        let mut out = io::stdout().lock();
        // Whoever killed this process may have stopped to listen.
        let _ = writeln!(out, "told {line}").and_then(|()| out.flush());
    }
}

/// The other process: clients that call until they are killed.
async fn clients(folder: &str, seed: u64, first: u64) {
    let store = EmbeddedStore::open_async(settings(folder.as_ref()), Arc::new(SystemClock)).await.unwrap();
    meet(
        &(Arc::new(store) as Arc<dyn Store>),
        &(Arc::new(Told) as Arc<dyn Log>),
        seed,
        first,
        None,
        usize::MAX,
    )
    .await;
}

/// What the clients of another process noted until it was killed.
fn killed(folder: &str, seed: u64, first: u64, after: usize) -> Vec<Event> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([ROLE, "--exact", "--nocapture"])
        .env(WRITER, format!("{seed} {first} {folder}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // A line may begin behind what the test harness writes without a line end, and the last one may be cut.
    let mut told = lines.filter_map(|it| serde_json::from_str(it.split_once("told ")?.1).ok());
    let mut events: Vec<Event> = told.by_ref().take(after).collect();
    child.kill().unwrap();
    events.extend(told);
    child.wait().unwrap();
    events.extend((first..first + CLIENTS).map(|who| Event { who, what: What::Died }));
    events
}

#[test]
fn calls_have_an_order_over_kill_nine() {
    if let Some(role) = std::env::var_os(WRITER) {
        let role = role.into_string().unwrap();
        let [seed, first, folder] = role.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{role}") };
        let (seed, first) = (seed.parse().unwrap(), first.parse().unwrap());
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(clients(folder, seed, first));
        return;
    }
    Lane::from_env(1).each(|seed| {
        let folder = tempfile::tempdir().unwrap();
        let (mut events, mut random) = (Vec::new(), Rng::with_seed(seed));
        for round in 0..5 {
            let path = folder.path().to_str().unwrap();
            events.extend(killed(path, seed, round * CLIENTS, random.usize(100..900)));
        }
        // What is left is seen by those who come after.
        let noted = Noted::default();
        conformance::run(4, async {
            let store: Arc<dyn Store> = Arc::new(open(folder.path()));
            meet(&store, &(Arc::clone(&noted) as Arc<dyn Log>), seed, 5 * CLIENTS, None, 20).await;
        });
        events.extend(std::mem::take(&mut *noted.lock().unwrap()));
        println!("{} calls over 5 kills", assert_order(seed, &events));
    });
}
