//! Damage and remains in the log: what was told is there, or the opening is refused by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use onceward_core::store::{Due, Filter, Put, SETTLE};
use onceward_core::{Answer, ErrorKind, Policy, RecordId, State, Status, Store, SystemClock};
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore, OpenError, repair, survey};
use onceward_testkit::{HandClock, eventually};
use tempfile::TempDir;

use crate::sample::{
    claim, completion, id, inserted, of_newer_version, open, open_at, settings, stored, swapped, try_open,
};

const HEAD: usize = 4096;
const FRAME: usize = 48;

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder.join("log")).unwrap().map(|it| it.unwrap().path()).collect();
    all.sort_by_key(|it| it.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap());
    all
}

/// Copies a directory as a kill would leave it at this moment, when nobody writes.
fn picture(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, place) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() { picture(&path, &place) } else { fs::copy(&path, &place).map(|_| ()).unwrap() }
    }
}

/// A directory as a kill leaves it right after three calls were told, one group each, of which the tables have nothing;
/// and where in the segment each group ends.
async fn three_groups() -> (TempDir, PathBuf, Vec<usize>) {
    let (live, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(live.path());
    let mut ends = vec![frames_end(&segments(live.path())[0])];
    for number in 1..=3 {
        inserted(&store, id(number), &claim()).await;
        ends.push(frames_end(&segments(live.path())[0]));
    }
    picture(live.path(), left.path());
    let segment = segments(left.path()).pop().unwrap();
    // A few zeros behind the frames will do.
    let file = fs::File::options().write(true).open(&segment).unwrap();
    file.set_len(ends[3] as u64 + 200).unwrap();
    (left, segment, ends)
}

fn frames_end(segment: &Path) -> usize {
    let bytes = fs::read(segment).unwrap();
    let mut at = HEAD;
    while bytes[at..at + 8] != [0; 8] {
        at += FRAME + u32::from_le_bytes(bytes[at + 16..at + 20].try_into().unwrap()) as usize;
    }
    at
}

/// Opens a copy in which the segment has these bytes.
fn open_with(folder: &Path, segment: &Path, bytes: &[u8]) -> (TempDir, Result<EmbeddedStore, OpenError>) {
    let copy = tempfile::tempdir().unwrap();
    picture(folder, copy.path());
    fs::write(copy.path().join("log").join(segment.file_name().unwrap()), bytes).unwrap();
    let opened = try_open(copy.path());
    (copy, opened)
}

#[tokio::test]
async fn wherever_the_last_group_is_torn_it_is_cut_off_and_the_rest_stays() {
    let (folder, segment, ends) = three_groups().await;
    let whole = fs::read(&segment).unwrap();
    let (begin, end) = (ends[2], ends[3]);
    let mut torn: Vec<Vec<u8>> = Vec::new();
    // Every field of its head, then every few bytes; every byte is tried beside the reader.
    for cut in
        (begin..begin + FRAME + 4).step_by(4).chain((begin + FRAME + 4..end).step_by(97)).chain([end - 1])
    {
        let mut zeros = whole.clone();
        zeros[cut..].fill(0);
        torn.push(if cut % 8 == 0 { whole[..cut].to_vec() } else { zeros });
    }
    for hole in (begin..end - 20).step_by(111) {
        let mut bytes = whole.clone();
        bytes[hole..hole + 20].fill(0);
        torn.push(bytes);
    }
    for bytes in torn {
        let (_copy, store) = open_with(folder.path(), &segment, &bytes);
        let store = store.unwrap();
        for number in [1, 2] {
            assert!(stored(&store, id(number)).await.is_some(), "{number} was told");
        }
        assert_eq!(stored(&store, id(3)).await, None);
        inserted(&store, id(3), &claim()).await;
    }
    let (_copy, store) = open_with(folder.path(), &segment, &whole);
    assert!(stored(&store.unwrap(), id(3)).await.is_some(), "untouched it is there");
}

#[tokio::test]
async fn a_damaged_group_with_others_behind_it_is_refused_by_name_and_nothing_changes() {
    let (folder, segment, ends) = three_groups().await;
    let whole = fs::read(&segment).unwrap();
    // The nonce, the check, the length, the kind, the sequence, what is drained, the time, an id, a revision, a length,
    // the record; of the first group and of the one in the middle; and the mark that the log begins with.
    let parts = [0, 8, 16, 20, 24, 32, 40, 48, 80, 88, 92, 200];
    let places = [ends[0], ends[1]].into_iter().flat_map(|it| parts.map(|part| it + part));
    for at in places {
        for flip in [0x01, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            let (copy, opened) = open_with(folder.path(), &segment, &bytes);
            let error = opened.expect_err("damage is not passed over");
            let said = error.to_string();
            assert!(matches!(error, OpenError::Files { .. }) && said.contains(".log"), "{at}: {said}");
            let begin = if at >= ends[1] { ends[1] } else { ends[0] };
            assert!(said.contains(&format!("byte {begin}")), "{at}: {said}");
            assert!(try_open(copy.path()).is_err(), "not at the second try either");
            let now = fs::read(copy.path().join("log").join(segment.file_name().unwrap())).unwrap();
            assert!(now == bytes, "it is left as it is");
        }
    }
}

#[tokio::test]
async fn a_damaged_head_or_a_missing_segment_is_refused() {
    let (folder, segment, _) = three_groups().await;
    let whole = fs::read(&segment).unwrap();
    for at in [0, 8, 16, 24, 32, 39] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let (_copy, opened) = open_with(folder.path(), &segment, &bytes);
        let said = opened.expect_err("a log whose head is damaged is not begun anew").to_string();
        assert!(said.contains(".log"), "{at}: {said}");
    }
    for gone in ["log", segment.strip_prefix(folder.path()).unwrap().to_str().unwrap()] {
        let copy = tempfile::tempdir().unwrap();
        picture(folder.path(), copy.path());
        let path = copy.path().join(gone);
        fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
        for _ in 0..2 {
            let error = try_open(copy.path()).unwrap_err();
            assert!(matches!(error, OpenError::Files { .. }), "{gone}: {error}");
        }
    }
}

/// Without that file the directory looks as if it had never been used.
#[tokio::test]
async fn a_log_is_read_even_if_nobody_knows_that_there_are_tables() {
    let (folder, _, _) = three_groups().await;
    fs::remove_file(folder.path().join("TABLES")).unwrap();
    let store = open(folder.path());
    for number in [1, 2, 3] {
        assert!(stored(&store, id(number)).await.is_some(), "{number}");
    }
}

#[tokio::test]
async fn a_relaxed_log_goes_back_to_the_last_group_before_the_damage() {
    let (folder, segment, ends) = three_groups().await;
    fs::write(folder.path().join("IN-USE"), "relaxed\n").unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[ends[1] + 100] ^= 1;
    let (_copy, store) = open_with(folder.path(), &segment, &bytes);
    let store = store.unwrap();
    assert!(stored(&store, id(1)).await.is_some());
    assert_eq!(stored(&store, id(2)).await, None);
    assert_eq!(stored(&store, id(3)).await, None);
}

#[tokio::test]
async fn a_damaged_log_is_named_by_a_survey_and_a_repair_keeps_all_other_groups() {
    let (folder, segment, ends) = three_groups().await;
    let mut bytes = fs::read(&segment).unwrap();
    bytes[ends[1] + 100] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let look = || survey(&settings(folder.path()), Arc::new(SystemClock)).unwrap();
    let mend = |dry| repair(&settings(folder.path()), Arc::new(SystemClock), dry).unwrap();
    let found = look();
    assert!(found.damaged_files.iter().any(|it| it.0 == segment), "{found:?}");
    assert!(found.not_opened.is_some());
    let plan = mend(true);
    assert!(plan.to_string().contains("RUNS AGAIN"), "{plan}");
    assert!(fs::read(&segment).unwrap() == bytes, "a dry run changes nothing");
    let done = mend(false);
    assert_eq!((done.done, done.kept), (true, 2), "{done}");
    let aside = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path());
    let aside = aside.into_iter().find(|it| it.to_str().unwrap().contains("damaged-")).unwrap();
    let kept = fs::read(aside.join("log").join(segment.file_name().unwrap())).unwrap();
    assert!(kept == bytes, "the old log is aside");
    assert!(mend(false).steps.is_empty(), "once is enough");
    assert!(look().damaged_files.is_empty());
    let store = open(folder.path());
    assert!(stored(&store, id(1)).await.is_some());
    assert_eq!(stored(&store, id(2)).await, None);
    assert!(stored(&store, id(3)).await.is_some(), "what lies behind the damage is kept");
}

/// A repair that was cut off between its last steps is begun again.
#[tokio::test]
async fn a_repair_that_was_cut_off_before_the_new_log_is_done_again() {
    let (folder, segment, ends) = three_groups().await;
    let mut bytes = fs::read(&segment).unwrap();
    bytes[ends[1] + 100] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let mend = || repair(&settings(folder.path()), Arc::new(SystemClock), false).unwrap();
    assert!(mend().done);
    fs::remove_dir_all(folder.path().join("log")).unwrap();
    assert!(try_open(folder.path()).is_err());
    let again = mend();
    assert_eq!((again.done, again.kept), (true, 2), "{again}");
    assert!(stored(&open(folder.path()), id(3)).await.is_some());
}

/// As a build left it that knew no log.
fn without_log(folder: &Path) {
    fs::remove_dir_all(folder.join("log")).unwrap();
    fs::write(folder.join("FORMAT"), "onceward embedded store, layout 1\n").unwrap();
}

#[tokio::test]
async fn a_directory_without_a_log_is_taken_over_and_says_so() {
    for abruptly in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let kept = inserted(&open(folder.path()), id(1), &claim()).await;
        without_log(folder.path());
        if abruptly {
            fs::write(folder.path().join("IN-USE"), "durable\n").unwrap();
        }
        let format = || fs::read_to_string(folder.path().join("FORMAT")).unwrap();
        let store = open(folder.path());
        assert_eq!(stored(&store, id(1)).await, Some(kept));
        assert!(format().contains("layout 2"), "an older build must not pass over the log");
        inserted(&store, id(2), &claim()).await;
        drop(store);
        let store = open(folder.path());
        assert!(stored(&store, id(1)).await.is_some() && stored(&store, id(2)).await.is_some());
    }
}

/// Segments so short that each is left and used again many times.
fn short(path: &Path) -> EmbeddedSettings {
    EmbeddedSettings { segment_bytes: 1, ..settings(path) }
}

#[tokio::test]
async fn segments_are_used_again_and_what_they_held_stays() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let store = EmbeddedStore::open(short(folder.path()), Arc::new(clock.clone())).unwrap();
    let long = Put { state: State::Done(Answer::new("test", vec![7; 5000])), ..claim() };
    let mut number = 0;
    let mut write = async || {
        let ids: Vec<_> = (number..number + 50).map(id).collect();
        number += 50;
        join_all(ids.iter().map(|it| inserted(&store, *it, &long))).await;
        store.list(&Filter::default(), None, 1).await.unwrap();
    };
    let newest = || {
        let all = segments(folder.path());
        all.last().unwrap().file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap()
    };
    eventually(async || {
        write().await;
        newest() > 8
    })
    .await;
    assert!(segments(folder.path()).len() <= 4, "{:?}", segments(folder.path()));
    // Killed now, with old frames behind the new ones in every segment.
    let left = tempfile::tempdir().unwrap();
    store.list(&Filter::default(), None, 1).await.unwrap();
    store.close();
    picture(folder.path(), left.path());
    fs::write(left.path().join("IN-USE"), "durable\n").unwrap();
    for folder in [folder.path(), left.path()] {
        let store = EmbeddedStore::open(short(folder), Arc::new(clock.clone()));
        let store = match store {
            Ok(it) => it,
            Err(OpenError::Locked { .. }) => continue,
            Err(it) => panic!("{it}"),
        };
        for it in 0..number {
            assert!(stored(&store, id(it)).await.is_some(), "{it} of {number}");
        }
    }
}

#[tokio::test]
async fn a_record_that_went_while_it_was_hot_is_gone_after_a_crash() {
    let (live, left, clock) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), HandClock::new());
    let store = open_at(live.path(), clock.clone());
    for number in [1, 2] {
        let claimed = inserted(&store, id(number), &claim()).await;
        swapped(&store, &claimed, &completion(&claimed)).await;
    }
    let running = inserted(&store, id(3), &claim()).await;
    // From here on the tables have all of it, and the log has what becomes of it.
    drop(store);
    let store = open_at(live.path(), clock.clone());
    clock.advance(Policy::default().retention + Policy::default().tombstone + SETTLE);
    assert_eq!(store.sweep(1).await.unwrap().removed, 1);
    let renewed = swapped(&store, &running, &Put::keep(&running, onceward_core::Timestamp::MAX)).await;
    picture(live.path(), left.path());
    for clean in [false, true] {
        let store = open_at(left.path(), clock.clone());
        let there = async |it| stored(&store, it).await.is_some();
        assert_eq!(usize::from(there(id(1)).await) + usize::from(there(id(2)).await), 1, "clean: {clean}");
        assert_eq!(stored(&store, id(3)).await, Some(renewed.clone()));
        clock.advance(Policy::default().lease);
        let due: Vec<_> =
            store.due(Due::Lease.start(), 9).await.unwrap().records.into_iter().map(|it| it.id).collect();
        assert_eq!(due, [id(3)], "one row, that of its new lease");
    }
    let store = open_at(left.path(), clock);
    assert_eq!(store.sweep(9).await.unwrap().removed, 1);
    assert_eq!(store.sweep(9).await.unwrap().removed, 0);
}

/// Listings, what is due and censuses see what was told, however short ago.
#[tokio::test]
async fn looks_at_many_records_see_what_is_hot() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    let store = open_at(folder.path(), clock.clone());
    for number in 0..20 {
        let claimed = inserted(&store, id(number), &claim()).await;
        let page = store.list(&Filter::default(), None, 100).await.unwrap();
        assert_eq!(page.records.len(), usize::from(number) + 1);
        if number % 2 == 0 {
            swapped(&store, &claimed, &completion(&claimed)).await;
            assert_eq!(
                store
                    .list(&Filter::default(), None, 100)
                    .await
                    .unwrap()
                    .records
                    .iter()
                    .filter(|it| matches!(it.state, State::Done(_)))
                    .count(),
                usize::from(number) / 2 + 1
            );
        }
    }
    let census = store.survey().await.unwrap().census.unwrap();
    assert_eq!((census.count(Status::Done), census.count(Status::Running)), (10, 10));
    clock.advance(Policy::default().lease);
    assert_eq!(store.due(Due::Lease.start(), 100).await.unwrap().records.len(), 10);
}

/// The segment with other bytes for the record that its second group wrote, in a frame that is whole.
fn with_second_record(segment: &Path, ends: &[usize], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = fs::read(segment).unwrap();
    let nonce = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
    change(&mut bytes[ends[1] + FRAME + 44..ends[2]]);
    let check = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[ends[1] + 16..ends[2]], nonce);
    bytes[ends[1] + 8..ends[1] + 16].copy_from_slice(&check.to_le_bytes());
    bytes
}

#[tokio::test]
async fn a_log_with_records_of_a_newer_version_is_left_alone() {
    let (folder, segment, ends) = three_groups().await;
    let newer = with_second_record(&segment, &ends, |it| it.copy_from_slice(&of_newer_version(id(2), it)));
    let (copy, store) = open_with(folder.path(), &segment, &newer);
    let error = store.err().unwrap();
    assert!(error.to_string().contains("1 records that a newer version of Onceward wrote"), "{error}");
    let error = repair(&settings(copy.path()), Arc::new(HandClock::new()), false).unwrap_err();
    assert!(matches!(error, OpenError::Layout { .. }), "{error}");
    let left = fs::read(copy.path().join("log").join(segment.file_name().unwrap())).unwrap();
    assert!(left == newer, "nothing was changed");
}

#[tokio::test]
async fn an_unreadable_record_in_the_log_is_refused_like_any_other() {
    let (folder, segment, ends) = three_groups().await;
    // Written so by a defect, not by a disk.
    let bad = with_second_record(&segment, &ends, |it| it[60] ^= 1);
    let (_copy, store) = open_with(folder.path(), &segment, &bad);
    let store = store.unwrap();
    assert_eq!(store.insert(id(2), &claim()).await.unwrap_err().kind(), ErrorKind::Corrupt, "not run again");
    assert!(stored(&store, id(1)).await.is_some() && stored(&store, id(3)).await.is_some());
    let _: RecordId = id(2);
}
