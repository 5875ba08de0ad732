//! One record that cannot be read stops nobody else, and is never touched. A journal is cut only where a write
//! was never finished.

use std::fs;
use std::path::{Path, PathBuf};

use onceward_core::store::{Due, Filter, SETTLE};
use onceward_core::{ErrorKind, Policy, Store};
use onceward_testkit::HandClock;

use onceward_store_embedded::OpenError;

use crate::sample::{Raw, claim, completion, id, inserted, open, open_at, stored, swapped, try_open};

#[tokio::test]
async fn one_unreadable_record_stops_nobody_else_and_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let store = open_at(folder.path(), clock.clone());
    for number in 1..=3 {
        inserted(&store, id(number), &claim()).await;
    }
    for number in 4..=6 {
        let claimed = inserted(&store, id(number), &claim()).await;
        swapped(&store, &claimed, &completion(&claimed)).await;
    }
    drop(store);
    let raw = Raw::open(folder.path());
    for bad in [id(2), id(5)] {
        let mut bytes = raw.records.get(bad.as_bytes()).unwrap().unwrap().to_vec();
        bytes[40] ^= 1;
        raw.records.insert(bad.as_bytes(), bytes).unwrap();
    }
    let before = raw.records.get(id(2).as_bytes()).unwrap();
    drop(raw);

    let store = open_at(folder.path(), clock.clone());
    let good = stored(&store, id(1)).await.unwrap();
    for error in [
        store.load(id(2)).await.unwrap_err(),
        store.insert(id(2), &claim()).await.unwrap_err(),
        store.replace(id(2), good.revision, &claim()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    swapped(&store, &good, &claim()).await;
    let page = store.list(&Filter::default(), None, 10).await.unwrap();
    let listed: Vec<_> = page.records.iter().map(|it| it.id).collect();
    assert_eq!(listed, [id(1), id(3), id(4), id(6)]);
    assert_eq!(page.unreadable, [id(2), id(5)]);
    clock.advance(Policy::default().retention + Policy::default().tombstone + SETTLE);
    let due: Vec<_> = store.due(Due::Lease, 2).await.unwrap().iter().map(|it| it.id).collect();
    assert_eq!(due, [id(1), id(3)], "the unreadable one takes nobody's place");
    let swept = store.sweep(2).await.unwrap();
    assert_eq!(swept.removed, 2);
    assert_eq!(store.unreadable(), 2);
    drop(store);
    let raw = Raw::open(folder.path());
    assert_eq!(raw.records.get(id(2).as_bytes()).unwrap(), before);
    assert!(raw.records.contains_key(id(5).as_bytes()).unwrap());
}

const BATCH_END: &[u8] = b"FJL\x03";

fn journal(folder: &Path) -> PathBuf {
    folder.join("db/0.jnl")
}

/// A store with three writes in its journal, and where in the journal each of them ends.
async fn three_writes(folder: &Path) -> Vec<usize> {
    let store = open(folder);
    for number in 1..=3 {
        inserted(&store, id(number), &claim()).await;
    }
    drop(store);
    // A new journal has 64 MiB of zeros behind its writes; a few of them will do.
    fs::File::options().write(true).open(journal(folder)).unwrap().set_len(1 << 16).unwrap();
    let bytes = fs::read(journal(folder)).unwrap();
    let windows = bytes.windows(BATCH_END.len()).enumerate();
    let ends: Vec<_> = windows.filter(|it| it.1 == BATCH_END).map(|it| it.0 + BATCH_END.len()).collect();
    assert_eq!(ends.len(), 3);
    ends
}

fn change(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(journal(folder)).unwrap();
    change(&mut bytes);
    fs::write(journal(folder), bytes).unwrap();
}

fn left_abruptly(folder: &Path, durability: &str) {
    fs::write(folder.join("IN-USE"), format!("{durability}\n")).unwrap();
}

/// What a power cut can leave of the last batch.
#[tokio::test]
async fn a_write_that_a_power_cut_left_in_part_is_cut_off_and_the_rest_stays() {
    type Change = fn(&mut Vec<u8>, &[usize]);
    let cases: [(&str, Change); 5] = [
        ("a block in its middle is missing", |it, ends| it[ends[2] - 150..ends[2] - 60].fill(0)),
        ("its beginning is missing", |it, ends| it[ends[1]..ends[1] + 40].fill(0)),
        ("its end is missing", |it, ends| it[ends[2] - 70..ends[2]].fill(0)),
        ("the file ends in it", |it, ends| it.truncate(ends[2] - 30)),
        ("noise follows it", |it, ends| it[ends[2]..ends[2] + 3].copy_from_slice(&[9, 1, 2])),
    ];
    for (what, cut) in cases {
        let folder = tempfile::tempdir().unwrap();
        let ends = three_writes(folder.path()).await;
        change(folder.path(), |it| cut(it, &ends));
        left_abruptly(folder.path(), "durable");
        let store = open(folder.path());
        for number in [1, 2] {
            assert!(stored(&store, id(number)).await.is_some(), "{what}: {number}");
        }
        assert_eq!(stored(&store, id(3)).await.is_some(), what.starts_with("noise"), "{what}");
        let again = store.insert(id(3), &claim()).await;
        assert!(again.is_ok(), "{what}");
        drop(store);
        assert!(stored(&open(folder.path()), id(3)).await.is_some(), "{what}");
    }
}

#[tokio::test]
async fn damage_that_is_no_unfinished_write_is_refused_and_nothing_is_cut() {
    for (bad, durability) in [(1, Some("durable")), (2, None)] {
        let folder = tempfile::tempdir().unwrap();
        let ends = three_writes(folder.path()).await;
        change(folder.path(), |it| it[ends[bad] - 60] ^= 1);
        if let Some(it) = durability {
            left_abruptly(folder.path(), it);
        }
        let before = fs::read(journal(folder.path())).unwrap();
        let error = try_open(folder.path()).unwrap_err();
        assert!(matches!(error, OpenError::Files { .. }), "{error}");
        assert!(error.to_string().contains(&format!("damaged at byte {}", ends[bad - 1])), "{error}");
        assert!(fs::read(journal(folder.path())).unwrap() == before);
    }
}

#[tokio::test]
async fn a_relaxed_store_goes_back_to_the_last_write_that_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let ends = three_writes(folder.path()).await;
    change(folder.path(), |it| it[ends[1] - 60] ^= 1);
    left_abruptly(folder.path(), "relaxed");
    let store = open(folder.path());
    assert!(stored(&store, id(1)).await.is_some());
    assert_eq!(stored(&store, id(2)).await, None);
    assert_eq!(stored(&store, id(3)).await, None);
}
