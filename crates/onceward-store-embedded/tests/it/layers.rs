//! A repair of records that lie in several table files: what is left of an older one does not stand for a newer one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use onceward_core::store::{Insert, Put};
use onceward_core::{Record, RecordId, State, Status, Store, Timestamp};
use onceward_store_embedded::{EmbeddedStore, Repair, repair};
use onceward_testkit::HandClock;
use tempfile::TempDir;

use crate::blocks::{flip, tables};
use crate::sample::{Raw, claim, completion, id, inserted, open_at, settings, swapped};

/// What is in the memtables goes into table files of its own, and the journal has it no more.
fn settle_layer(folder: &Path) {
    let raw = Raw::open(folder);
    for table in [&raw.records, &raw.agenda] {
        table.rotate_memtable_and_wait().unwrap();
    }
    drop(raw);
    for entry in fs::read_dir(folder.join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "jnl") {
            fs::write(path, []).unwrap();
        }
    }
}

async fn each(
    store: &EmbeddedStore,
    numbers: impl Iterator<Item = u16>,
    end: impl Fn(&Record) -> Option<Put>,
) {
    let all: Vec<_> = numbers.collect();
    for step in all.chunks(500) {
        join_all(step.iter().map(|it| async {
            let claimed = match store.insert(id(*it), &claim()).await.unwrap() {
                Insert::Kept(it) => it,
                Insert::Found(found, _) => swapped(store, &found, &claim()).await,
                late @ Insert::Late(_) => panic!("{late:?}"),
            };
            if let Some(put) = end(&claimed) {
                swapped(store, &claimed, &put).await;
            }
        }))
        .await;
    }
}

fn released(record: &Record) -> Put {
    Put { state: State::Released, fingerprint: None, ..Put::keep(record, Timestamp::MAX) }
}

fn abandoned(record: &Record) -> Put {
    let state = State::Abandoned { reason: "lost".into() };
    Put { state, ..Put::keep(record, Timestamp::MAX) }
}

/// Two layers, written one after the other; gives the table file of records of the second.
async fn layered(
    clock: &HandClock,
    first: impl AsyncFnOnce(&EmbeddedStore),
    second: impl AsyncFnOnce(&EmbeddedStore),
) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = open_at(folder.path(), clock.clone());
    first(&store).await;
    drop(store);
    settle_layer(folder.path());
    let before: BTreeSet<_> = tables(folder.path(), 1).into_iter().collect();
    let store = open_at(folder.path(), clock.clone());
    second(&store).await;
    drop(store);
    settle_layer(folder.path());
    let after: BTreeSet<_> = tables(folder.path(), 1).into_iter().collect();
    let [newer] = &(&after - &before).into_iter().collect::<Vec<_>>()[..] else { panic!("{after:?}") };
    assert!(before.is_subset(&after) && !before.is_empty(), "nothing was merged");
    (folder, newer.clone())
}

fn mend(folder: &Path, clock: &HandClock) -> Repair {
    let done = repair(&settings(folder), Arc::new(clock.clone()), false).unwrap();
    assert!(done.done, "{done}");
    done
}

async fn status(store: &EmbeddedStore, id: RecordId) -> Option<Status> {
    let it = store.load(id).await.unwrap();
    it.record.map(|record| record.status_at(it.now))
}

#[tokio::test]
async fn a_key_that_was_free_before_the_lost_claim_is_not_free_again() {
    let clock = HandClock::new();
    let (folder, newer) = layered(
        &clock,
        async |store| each(store, 0..600, |it| Some(released(it))).await,
        // They ran again: some run, some are done, of some nobody knows.
        async |store| {
            each(store, 0..100, |_| None).await;
            each(store, 100..200, |it| Some(completion(it))).await;
            each(store, 200..300, |it| Some(abandoned(it))).await;
        },
    )
    .await;
    let whole = fs::read(&newer).unwrap();
    fs::write(&newer, &whole[..whole.len() / 2]).unwrap();
    let repaired = mend(folder.path(), &clock);
    let store = open_at(folder.path(), clock.clone());
    for number in 0..300 {
        let status = status(&store, id(number)).await;
        assert_eq!(status, Some(Status::Unresolved), "{number} {repaired}");
    }
    for number in 300..600 {
        assert_eq!(status(&store, id(number)).await, Some(Status::Released), "{number}");
    }
    assert_eq!(repaired.unresolved, (0..300).map(id).collect::<Vec<_>>());
    inserted(&store, id(700), &claim()).await;
}

#[tokio::test]
async fn records_of_a_whole_file_beside_a_damaged_block_of_another_are_kept() {
    let clock = HandClock::new();
    let (folder, newer) = layered(
        &clock,
        async |store| each(store, (0..3000).filter(|it| it % 2 == 0), |it| Some(completion(it))).await,
        async |store| each(store, (0..3000).filter(|it| it % 2 == 1), |it| Some(completion(it))).await,
    )
    .await;
    flip(&newer, |len| len / 3);
    let repaired = mend(folder.path(), &clock);
    let store = open_at(folder.path(), clock.clone());
    let mut lost = Vec::new();
    for number in 0..3000 {
        match status(&store, id(number)).await {
            Some(Status::Done) => {}
            Some(Status::Unresolved) if number % 2 == 1 => lost.push(id(number)),
            other => panic!("{number}: {other:?} after {repaired}"),
        }
    }
    assert_eq!(repaired.unresolved, lost);
    assert!((1..100).contains(&lost.len()), "{repaired}");
}
