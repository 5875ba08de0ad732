//! The log by itself: segments that are left, used again, missing and damaged.

use std::fs;
use std::path::Path;

use onceward_core::{RecordId, Revision, Timestamp};

use super::frame::{self, Change};
use super::read::{Needs, Read, read};
use super::write::{Log, begin, segments};
use crate::journal::Left;
use crate::settings::Durability;

const CRASHED: Left = Left::Abruptly(Durability::Durable);
const SEGMENT_BYTES: u64 = 64 << 10;
/// Four of these fill a segment.
static RECORD: [u8; 20_000] = [7; 20_000];

fn now() -> Timestamp {
    Timestamp::from_millis(77)
}

fn write(log: &Log, number: u8) -> u64 {
    let change =
        Change { id: RecordId::from_bytes([number; 32]), revision: Revision(1), bytes: Some(&RECORD) };
    let sequence = log.write(now(), [change].into_iter()).unwrap();
    log.sync().unwrap();
    sequence
}

fn look(folder: &Path) -> Read {
    read(folder, CRASHED, Needs::Log).unwrap()
}

/// Which records are in the groups that are needed.
fn numbers(log: &Read) -> Vec<u8> {
    log.groups().into_iter().flat_map(frame::changes).map(|it| it.id.as_bytes()[0]).collect()
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for (_, path) in segments(from).unwrap() {
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

fn names(folder: &Path) -> Vec<u64> {
    segments(folder).unwrap().into_iter().map(|it| it.0).collect()
}

#[test]
fn at_every_step_of_leaving_and_using_again_all_that_is_not_drained_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let log = begin(folder.path(), SEGMENT_BYTES, 1, 0, now()).unwrap();
    let (mut drained, mut wanted) = (0, Vec::new());
    let check = |wanted: &[(u64, u8)], drained: u64| {
        let read = look(folder.path());
        assert_eq!(read.damages, []);
        // The last frame may be from before the drain.
        let found = numbers(&read);
        let must: Vec<_> = wanted.iter().filter(|it| it.0 > drained).map(|it| it.1).collect();
        assert!(found.ends_with(&must), "{found:?} {must:?}");
    };
    for number in 0..60 {
        wanted.push((write(&log, number), number));
        check(&wanted, drained);
        if number % 3 == 2 {
            let applied = wanted.last().unwrap().0;
            if log.wants(applied) {
                log.drained(applied);
                drained = applied;
            }
            let before = names(folder.path());
            // A kill in the middle of using one again: it has its new name and its old head.
            let cut = copy(folder.path());
            log.recycle().unwrap();
            let after = names(folder.path());
            if before.len() == after.len() && before != after {
                let (old, new) = (before[0], *after.last().unwrap());
                let file = |it: u64| cut.path().join(format!("{it}.log"));
                fs::rename(file(old), file(new)).unwrap();
                let read = look(cut.path());
                assert_eq!(read.damages, []);
                let must: Vec<_> = wanted.iter().filter(|it| it.0 > drained).map(|it| it.1).collect();
                assert!(numbers(&read).ends_with(&must));
            }
            check(&wanted, drained);
        }
    }
    let names = names(folder.path());
    assert!(names.len() <= 3 && names[0] > 5, "they are used again: {names:?}");
    assert!(drained > 30);
}

#[test]
fn a_segment_is_kept_until_a_synced_frame_says_that_it_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    let log = begin(folder.path(), SEGMENT_BYTES, 1, 0, now()).unwrap();
    for number in 0..4 {
        write(&log, number);
    }
    log.recycle().unwrap();
    let applied = write(&log, 4);
    assert_eq!(names(folder.path()), [1, 2], "the first is left");
    assert!(log.wants(applied));
    log.drained(applied);
    log.recycle().unwrap();
    assert_eq!(names(folder.path()), [1, 2], "nothing on the disk says so yet");
    write(&log, 5);
    log.recycle().unwrap();
    assert_eq!(names(folder.path()), [2, 3]);
    let read = look(folder.path());
    assert_eq!((read.damages.len(), numbers(&read)), (0, vec![5]));
}

/// Two segments with groups that are needed, the first left for the second.
fn two_segments() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = begin(folder.path(), SEGMENT_BYTES, 1, 0, now()).unwrap();
    for number in 0..6 {
        write(&log, number);
        if number < 5 {
            log.recycle().unwrap();
        }
    }
    assert_eq!(names(folder.path()), [1, 2]);
    assert_eq!(numbers(&look(folder.path())), [0, 1, 2, 3, 4, 5]);
    folder
}

#[test]
fn a_missing_or_cut_segment_is_damage() {
    for gone in [1, 2] {
        let folder = two_segments();
        fs::remove_file(folder.path().join(format!("{gone}.log"))).unwrap();
        let damages = look(folder.path()).damages;
        assert_eq!(damages.len(), 1, "{gone}: {damages:?}");
        if gone == 2 {
            assert!(damages[0].file.ends_with("2.log"), "{damages:?}");
        }
    }
    // The end of the first: a torn write can only be the very last.
    let folder = two_segments();
    let path = folder.path().join("1.log");
    let whole = fs::read(&path).unwrap();
    for cut in [100, 4096, 5000, 30_000, 70_000] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(look(folder.path()).damages.len(), 1, "cut at {cut}");
    }
}

#[test]
fn the_spare_segment_may_be_in_any_state() {
    let folder = tempfile::tempdir().unwrap();
    let log = begin(folder.path(), SEGMENT_BYTES, 1, 0, now()).unwrap();
    for number in 0..2 {
        write(&log, number);
    }
    for bytes in [&[][..], &[7; 10_000], &[0; 100]] {
        fs::write(folder.path().join("2.log"), bytes).unwrap();
        let read = look(folder.path());
        assert_eq!((read.damages.len(), read.newest, numbers(&read)), (0, 2, vec![0, 1]));
    }
}

#[test]
fn a_relaxed_log_ends_where_the_first_unsynced_frame_is_missing() {
    let folder = two_segments();
    let path = folder.path().join("2.log");
    let whole = fs::read(&path).unwrap();
    let read_relaxed = || read(folder.path(), Left::Abruptly(Durability::Relaxed), Needs::Log).unwrap();
    let mut hole = whole;
    // The first frame of the second segment is gone, the next is there.
    hole[4096..10_000].fill(0);
    fs::write(&path, hole).unwrap();
    assert_eq!(look(folder.path()).damages.len(), 1, "where every frame was synced that is damage");
    let read = read_relaxed();
    assert_eq!((read.damages.len(), numbers(&read)), (0, vec![0, 1, 2, 3]));
}

#[test]
fn an_opening_begins_behind_the_old_log_and_needs_nothing_of_it() {
    let folder = two_segments();
    let old = look(folder.path());
    let log = begin(folder.path(), SEGMENT_BYTES, old.newest + 1, old.last, now()).unwrap();
    for (_, path) in segments(folder.path()).unwrap().into_iter().filter(|it| it.0 <= old.newest) {
        let read = look(folder.path());
        assert_eq!((read.damages.len(), numbers(&read)), (0, vec![]), "whatever is removed first");
        fs::remove_file(path).unwrap();
    }
    log.remove_older().unwrap();
    assert_eq!(write(&log, 9), old.last + 2);
    assert_eq!(numbers(&look(folder.path())), [9]);
}

#[test]
fn a_group_longer_than_a_segment_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = begin(folder.path(), SEGMENT_BYTES, 1, 0, now()).unwrap();
    let long = vec![9; 3 << 20];
    for number in 0..3 {
        let change =
            Change { id: RecordId::from_bytes([number; 32]), revision: Revision(1), bytes: Some(&long) };
        log.write(now(), [change].into_iter()).unwrap();
        log.sync().unwrap();
        log.recycle().unwrap();
    }
    let read = look(folder.path());
    assert_eq!((read.damages.len(), numbers(&read)), (0, vec![0, 1, 2]));
    let applied = write(&log, 3);
    log.drained(applied);
    write(&log, 4);
    log.recycle().unwrap();
    let lengths: Vec<_> =
        segments(folder.path()).unwrap().iter().map(|it| fs::metadata(&it.1).unwrap().len()).collect();
    assert!(lengths.contains(&SEGMENT_BYTES), "one that grew goes back to its size: {lengths:?}");
}
