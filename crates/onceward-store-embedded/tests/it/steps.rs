//! A kill at every step of a commit, of the drain and of an opening leaves what was told, each record once.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onceward_core::store::{Due, Filter, Put};
use onceward_core::{Answer, Policy, State, Store, SystemClock};
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore, Point, Probe};
use onceward_testkit::HandClock;
use tokio::task::JoinSet;

use crate::sample::{claim, completion, id, inserted, open_at, settings, stored, swapped};

/// Set in the environment of the other process: this test binary again, running [`ROLE`] alone.
const VICTIM: &str = "ONCEWARD_TEST_VICTIM";
const ROLE: &str = "steps::a_kill_at_any_step_takes_nothing_that_was_told";

const POINTS: [&str; 9] = [
    "BeforeWrite",
    "BeforeSync",
    "AfterWrite",
    "BeforeDrain",
    "AfterDrain",
    "BeforeRecycle",
    "BeforeReplay",
    "BeforeBegin",
    "BeforeRemove",
];

/// Ends the process at the given passage of a point.
#[derive(Debug)]
struct Scythe {
    point: String,
    left: AtomicUsize,
}

impl Probe for Scythe {
    fn reached(&self, point: Point) -> io::Result<()> {
        let name = format!("{point:?}");
        if name.split(' ').next() == Some(&self.point) && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Like a kill: nothing is flushed, nothing is dropped.
            std::process::abort();
        }
        Ok(())
    }
}

fn short(path: &Path) -> EmbeddedSettings {
    EmbeddedSettings { segment_bytes: 1, ..settings(path) }
}

/// The other process: claims and completes, lists now and then, and says what it was told, until it ends.
fn victim() {
    let mut lines = io::stdin().lines();
    let mut next = move || lines.next().and_then(Result::ok);
    let (Some(path), Some(point), Some(left), Some(first)) = (next(), next(), next(), next()) else { return };
    let scythe = Scythe { point, left: AtomicUsize::new(left.parse().unwrap()) };
    let first = first.parse::<u16>().unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
        let store =
            EmbeddedStore::open_with_probe(short(Path::new(&path)), Arc::new(SystemClock), Arc::new(scythe));
        let store = Arc::new(store.unwrap());
        let mut tasks = JoinSet::new();
        for task in 0..4 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                for number in (first..first + 400).skip(task).step_by(4) {
                    let claimed = inserted(&*store, id(number), &claim()).await;
                    say(&format!("claimed {number} {}", claimed.revision));
                    if number % 5 == 0 {
                        continue;
                    }
                    let state = State::Done(Answer::new("test", vec![7; 1500]));
                    let done = Put { state, ..completion(&claimed) };
                    let done = swapped(&*store, &claimed, &done).await;
                    say(&format!("done {number} {}", done.revision));
                    if number % 16 == 0 {
                        store.list(&Filter::default(), None, 1).await.unwrap();
                    }
                }
            });
        }
        tasks.join_all().await;
    });
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "told {line}").unwrap();
    out.flush().unwrap();
}

/// What it said until it ended, and whether it was ended at the step.
fn run(path: &Path, point: &str, left: usize, first: u16) -> (Vec<String>, bool) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([ROLE, "--exact", "--nocapture"])
        .env(VICTIM, "yes")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}\n{point}\n{left}\n{first}", path.display()).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.filter_map(|it| it.split_once("told ").map(|(_, it)| it.to_owned())).collect();
    (told, child.wait().unwrap().code().is_none())
}

async fn check(store: &EmbeddedStore, told: &[String], what: &str) {
    for line in told {
        let words: Vec<_> = line.split(' ').collect();
        let [state, number, revision] = words[..] else { continue };
        let record = stored(store, id(number.parse().unwrap())).await;
        let record = record.unwrap_or_else(|| panic!("{what}: {line} is gone"));
        let revision: u64 = revision.parse().unwrap();
        match state {
            "done" => {
                assert!(matches!(record.state, State::Done(_)), "{what}: {line}: {record:?}");
                assert_eq!(record.revision.0, revision, "{what}: {line}");
            }
            _ => assert!(record.revision.0 >= revision, "{what}: {line}"),
        }
    }
}

#[test]
fn a_kill_at_any_step_takes_nothing_that_was_told() {
    if std::env::var_os(VICTIM).is_some() {
        return victim();
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(every_step());
}

async fn every_step() {
    for point in POINTS {
        let folder = tempfile::tempdir().unwrap();
        let (mut told, mut killed, mut first) = (Vec::new(), 0, 0);
        // Steps of an opening come once each time; before there is a log to replay they prove nothing.
        let is_opening = ["BeforeReplay", "BeforeBegin", "BeforeRemove"].contains(&point);
        let is_commit = ["BeforeWrite", "BeforeSync", "AfterWrite"].contains(&point);
        // Late enough that segments were left and used again.
        let later = if is_commit { [2, 40, 90, 130] } else { [1, 2, 5, 17] };
        for left in if is_opening { [0, 1, 1, 0] } else { later } {
            let other = if is_opening && left == 0 { ("AfterWrite", 60) } else { (point, left) };
            let (said, was_killed) = run(folder.path(), other.0, other.1, first);
            killed += usize::from(was_killed);
            told.extend(said);
            first += 400;
        }
        assert_eq!(killed, 4, "{point}: it was killed each time");
        assert!(told.len() > 50, "{point}: {} were told", told.len());
        let clock = HandClock::new();
        let store = open_at(folder.path(), SystemClock);
        check(&store, &told, point).await;
        // Each record has its row in the agenda, and no other.
        let running = store.list(&Filter::default(), None, 2000).await.unwrap();
        let running: Vec<_> = running.records.iter().filter(|it| it.state == State::Running).collect();
        drop(store);
        // Its time goes on from the latest one stored.
        let store = open_at(folder.path(), clock.clone());
        clock.advance(2 * Policy::default().lease);
        assert_eq!(
            store.due(Due::Lease.start(), 5000).await.unwrap().records.len(),
            running.len(),
            "{point}"
        );
        check(&store, &told, point).await;
    }
}
