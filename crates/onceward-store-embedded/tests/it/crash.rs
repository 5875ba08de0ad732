//! What was told survives kill -9.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use onceward_core::{State, Store, SystemClock};
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore, OpenError};
use tokio::task::JoinSet;

use crate::sample::{claim, completion, id, inserted, open, settings, stored, swapped};

/// Set in the environment of the other process: this test binary again, running [`ROLE`] alone.
const WRITER: &str = "ONCEWARD_TEST_WRITER";
const ROLE: &str = "crash::another_process_is_named_and_its_death_frees_the_directory";

/// The other process: claims and completes until it is killed, and says what it was told. It gets the
/// directory with the durability, and the first number, on its standard input.
fn writer() {
    let mut lines = std::io::stdin().lines();
    let mut next = move || lines.next().and_then(Result::ok);
    let (Some(url), Some(first)) = (next(), next()) else { return };
    let settings = EmbeddedSettings::from_url(&url).unwrap();
    let first = first.parse::<u16>().unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(async {
        let store = Arc::new(EmbeddedStore::open(settings, Arc::new(SystemClock)).unwrap());
        say("open");
        let number = Arc::new(AtomicU16::new(first));
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let (store, number) = (Arc::clone(&store), Arc::clone(&number));
            tasks.spawn(async move {
                loop {
                    let it = number.fetch_add(1, Ordering::SeqCst);
                    let claimed = inserted(&*store, id(it), &claim()).await;
                    say(&format!("claimed {it} {}", claimed.revision));
                    let done = swapped(&*store, &claimed, &completion(&claimed)).await;
                    say(&format!("done {it} {}", done.revision));
                }
            });
        }
        tasks.join_all().await;
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "told {line}").unwrap();
    out.flush().unwrap();
}

fn start(url: &str, first: u16) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([ROLE, "--exact", "--nocapture"])
        .env(WRITER, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{url}\n{first}").unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // A line may begin behind what the test harness writes without a line end.
    let told = lines.filter_map(|it| it.split_once("told ").map(|(_, it)| it.to_owned()));
    (child, told)
}

async fn survives_kills(folder: &Path, query: &str) {
    let mut claims = Vec::new();
    for round in 0..4 {
        let (mut child, mut told) = start(&format!("embedded:{}{query}", folder.display()), round * 10_000);
        let mut before_the_kill: Vec<_> = told.by_ref().take(300 + usize::from(round) * 77).collect();
        child.kill().unwrap();
        before_the_kill.extend(told);
        child.wait().unwrap();
        claims.extend(before_the_kill);
        let store = open(folder);
        let mut done = 0;
        for line in &claims {
            let words: Vec<_> = line.split(' ').collect();
            let [state, number, revision] = words[..] else { continue };
            let record = stored(&store, id(number.parse().unwrap())).await.expect(line);
            match state {
                "done" => {
                    assert!(matches!(record.state, State::Done(_)), "{line}: {record:?}");
                    assert_eq!(record.revision.to_string(), revision, "{line}");
                    done += 1;
                }
                "claimed" => assert!(record.revision.0 >= revision.parse().unwrap(), "{line}"),
                other => panic!("{other}"),
            }
        }
        assert!(done > 50 * usize::from(round + 1), "{done} were done");
        store.check().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_told_survives_kill_nine() {
    let folder = tempfile::tempdir().unwrap();
    survives_kills(folder.path(), "").await;
}

#[tokio::test]
async fn a_relaxed_write_survives_kill_nine_too() {
    let folder = tempfile::tempdir().unwrap();
    survives_kills(folder.path(), "?durability=relaxed").await;
}

#[test]
fn another_process_is_named_and_its_death_frees_the_directory() {
    if std::env::var_os(WRITER).is_some() {
        return writer();
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut told) = start(&format!("embedded:{}", folder.path().display()), 0);
    assert_eq!(told.next().as_deref(), Some("open"));
    let second = EmbeddedSettings { lock_wait: Duration::ZERO, ..settings(folder.path()) };
    let error = EmbeddedStore::open(second, Arc::new(SystemClock)).unwrap_err();
    assert!(
        matches!(&error, OpenError::Locked { holder, .. } if *holder == format!("process {}", child.id()))
    );
    child.kill().unwrap();
    drop(open(folder.path()));
    child.wait().unwrap();
}
