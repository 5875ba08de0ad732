//! One record that cannot be read stops nobody else, and is never touched. A journal is cut only where a write
//! was never finished.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onceward_core::store::{Due, Filter, Put, SETTLE, Swept};
use onceward_core::{Answer, ErrorKind, Policy, State, Store};
use onceward_testkit::HandClock;

use onceward_store_embedded::OpenError;
use xxhash_rust::xxh3::xxh3_64;

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
    let due: Vec<_> =
        store.due(Due::Lease.start(), 2).await.unwrap().records.iter().map(|it| it.id).collect();
    assert_eq!(due, [id(1), id(3)], "the unreadable one takes nobody's place");
    let swept = store.sweep(2).await.unwrap();
    assert_eq!(swept.removed, 2);
    assert_eq!(store.unreadable(), 2);
    drop(store);
    let raw = Raw::open(folder.path());
    assert_eq!(raw.records.get(id(2).as_bytes()).unwrap(), before);
    assert!(raw.records.contains_key(id(5).as_bytes()).unwrap());
}

#[tokio::test]
async fn no_number_of_unreadable_records_ends_sweeping_or_what_is_due() {
    const BAD: u16 = 10_500;
    let folder = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let store = open_at(folder.path(), clock.clone());
    let wake_after = Some(Duration::from_millis(1));
    let freed = Put { state: State::Released, fingerprint: None, wake_after, ..claim() };
    for step in (0..BAD).collect::<Vec<_>>().chunks(500) {
        futures_util::future::join_all(step.iter().map(|it| store.insert(id(*it), &freed))).await;
    }
    clock.advance(Duration::from_secs(1));
    for number in BAD..BAD + 5 {
        inserted(&store, id(number), &freed).await;
    }
    drop(store);
    let raw = Raw::open(folder.path());
    for number in 0..BAD {
        raw.records.insert(id(number).as_bytes(), b"no record").unwrap();
    }
    drop(raw);

    let store = open_at(folder.path(), clock.clone());
    clock.advance(SETTLE);
    let page = store.due(Due::Wake.start(), 9).await.unwrap();
    assert_eq!(page.records, [], "it stops looking, and says where to go on");
    let page = store.due(page.next.unwrap(), 9).await.unwrap();
    let due: Vec<_> = page.records.iter().map(|it| it.id).collect();
    assert_eq!((due, page.next), ((BAD..BAD + 5).map(id).collect(), None));
    // What a caller does that goes on while there is more.
    let first = store.sweep(3).await.unwrap();
    assert_eq!(first, Swept { more: true, ..Swept::default() }, "it stops looking, and says so");
    let mut removed = 0;
    for _ in 0..4 {
        let swept = store.sweep(3).await.unwrap();
        removed += swept.removed;
        if !swept.more {
            break;
        }
    }
    assert_eq!(removed, 5);
}

const BATCH_END: &[u8] = b"FJL\x03";

fn journal(folder: &Path) -> PathBuf {
    folder.join("db/0.jnl")
}

/// A store with three writes in the engine's journal, and where in the journal each of them ends. The log does not need
/// them any more.
async fn three_writes(folder: &Path) -> Vec<usize> {
    for number in 1..=3 {
        inserted(&open(folder), id(number), &claim()).await;
    }
    // A new journal has 64 MiB of zeros behind its writes; a few of them will do.
    fs::File::options().write(true).open(journal(folder)).unwrap().set_len(1 << 16).unwrap();
    let ends = ends(folder);
    assert_eq!(ends.len(), 3);
    ends
}

fn ends(folder: &Path) -> Vec<usize> {
    let bytes = fs::read(journal(folder)).unwrap();
    let windows = bytes.windows(BATCH_END.len()).enumerate();
    windows.filter(|it| it.1 == BATCH_END).map(|it| it.0 + BATCH_END.len()).collect()
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
        for _ in 0..2 {
            let error = try_open(folder.path()).unwrap_err();
            assert!(matches!(error, OpenError::Files { .. }), "{error}");
            assert!(error.to_string().contains(&format!("damaged at byte {}", ends[bad - 1])), "{error}");
            assert!(fs::read(journal(folder.path())).unwrap() == before, "not at the second try either");
        }
    }
}

/// Answers are other people's bytes, and a power cut can come while one is written.
#[tokio::test]
async fn an_answer_that_holds_a_whole_batch_is_cut_off_like_any_other() {
    // A batch without entries and one with an entry, both with the right checksum.
    let empty = [&[1][..], &[0; 12], &[3], &xxh3_64(b"").to_le_bytes(), BATCH_END].concat();
    let entry = [4, 1, 0, 0, 0, 0, 0, 0, 0];
    let clear =
        [&[1, 1, 0, 0, 0][..], &[0; 8], &entry, &[3], &xxh3_64(&entry).to_le_bytes(), BATCH_END].concat();
    let echo = [&[b'.'; 300][..], &empty, &clear, &[b'.'; 300]].concat();
    for case in 0..7 {
        let folder = tempfile::tempdir().unwrap();
        let first = inserted(&open(folder.path()), id(1), &claim()).await;
        let done = Put { state: State::Done(Answer::new("test", echo.clone())), ..completion(&first) };
        swapped(&open(folder.path()), &first, &done).await;
        fs::File::options().write(true).open(journal(folder.path())).unwrap().set_len(1 << 16).unwrap();
        let ends = ends(folder.path());
        let (begin, end) = (ends[0], *ends.last().unwrap());
        let whole = fs::read(journal(folder.path())).unwrap();
        let planted = whole.windows(echo.len()).position(|it| it == echo).unwrap() + 300;
        let behind = planted + empty.len() + clear.len();
        assert!(begin < planted && behind < end);
        let (what, missing) = [
            ("all behind the first planted batch", planted + empty.len()..end),
            ("all behind the second planted batch", behind..end),
            ("all from the middle of the answer on", behind + 100..end),
            ("the end mark", end - 10..end),
            ("the beginning", begin..begin + 60),
            ("all before the planted batches", begin..planted - 1),
            ("something behind the planted batches", behind + 10..behind + 200),
        ][case]
            .clone();
        change(folder.path(), |it| it[missing].fill(0));
        left_abruptly(folder.path(), "durable");
        let store = try_open(folder.path()).unwrap_or_else(|it| panic!("{what} is missing: {it}"));
        assert_eq!(stored(&store, id(1)).await, Some(first), "{what} is missing");
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
