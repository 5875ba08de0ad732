//! Damage in a table file stops the records in it and nobody else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use onceward_core::store::{Cursor, Due, Filter, Insert, Put, SETTLE};
use onceward_core::{Answer, ErrorKind, Policy, RecordId, State, Store};
use onceward_store_embedded::{EmbeddedStore, OpenError};
use onceward_testkit::{HandClock, eventually};

use crate::sample::{Raw, claim, completion, id, inserted, open_at, swapped, try_open};

const RECORDS: u16 = 3000;

/// The table files of a table, `records` (1) or `agenda` (2).
pub(crate) fn tables(folder: &Path, table: u8) -> Vec<PathBuf> {
    let tables = fs::read_dir(folder.join(format!("db/keyspaces/{table}/tables"))).unwrap();
    tables.map(|it| it.unwrap().path()).collect()
}

/// A store whose records all lie in table files: done ones, and every tenth running.
pub(crate) async fn sunk(folder: &Path, clock: &HandClock) {
    let store = open_at(folder, clock.clone());
    for step in (0..RECORDS).collect::<Vec<_>>().chunks(500) {
        let each = step.iter().map(|it| async {
            let claimed = inserted(&store, id(*it), &claim()).await;
            if *it % 10 != 0 {
                swapped(&store, &claimed, &completion(&claimed)).await;
            }
        });
        futures_util::future::join_all(each).await;
    }
    drop(store);
    Raw::sink(folder);
}

pub(crate) fn flip(file: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = fs::read(file).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

async fn listed(store: &EmbeddedStore) -> BTreeSet<RecordId> {
    let (mut all, mut cursor) = (BTreeSet::new(), None::<Cursor>);
    loop {
        let page = store.list(&Filter::default(), cursor, 700).await.unwrap();
        all.extend(page.records.iter().map(|it| it.id));
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn a_damaged_block_of_records_stops_those_in_it_and_nobody_else() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    sunk(folder.path(), &clock).await;
    let files = tables(folder.path(), 1);
    assert_eq!(files.len(), 1);
    flip(&files[0], |len| len / 3);
    let store = open_at(folder.path(), clock.clone());
    let mut unreadable = BTreeSet::new();
    for number in 0..RECORDS {
        match store.load(id(number)).await {
            Ok(it) => assert!(it.record.is_some(), "{number}"),
            Err(it) => {
                assert_eq!(it.kind(), ErrorKind::Corrupt, "{it}");
                unreadable.insert(id(number));
            }
        }
    }
    assert!((1..100).contains(&unreadable.len()), "{}", unreadable.len());
    let all: BTreeSet<_> = (0..RECORDS).map(id).collect();
    let missed = &(&all - &unreadable) - &listed(&store).await;
    assert!(missed.is_empty(), "the listing goes past the damage: {missed:?}, not only {unreadable:?}");
    assert_eq!((store.unreadable(), store.damaged()), (unreadable.len(), 1));
    for it in &unreadable {
        assert_eq!(
            store.insert(*it, &claim()).await.unwrap_err().kind(),
            ErrorKind::Corrupt,
            "not run again"
        );
    }
    clock.advance(Policy::default().retention + Policy::default().tombstone + SETTLE);
    let due = store.due(Due::Lease.start(), 10_000).await.unwrap().records;
    let running: BTreeSet<_> = (0..RECORDS).filter(|it| it % 10 == 0).map(id).collect();
    assert_eq!(due.iter().map(|it| it.id).collect::<BTreeSet<_>>(), &running - &unreadable);
    let mut removed = 0;
    loop {
        let swept = store.sweep(1000).await.unwrap();
        removed += swept.removed;
        if !swept.more {
            break;
        }
    }
    assert_eq!(usize::try_from(removed).unwrap(), (&(&all - &running) - &unreadable).len());
}

#[tokio::test]
async fn a_damaged_block_of_the_agenda_stops_only_what_it_lists() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    sunk(folder.path(), &clock).await;
    let files = tables(folder.path(), 2);
    assert_eq!(files.len(), 1);
    flip(&files[0], |len| len / 2);
    let store = open_at(folder.path(), clock.clone());
    clock.advance(Policy::default().retention + Policy::default().tombstone + SETTLE);
    let (mut removed, mut due) = (0, 0);
    for _ in 0..10 {
        let swept = store.sweep(1000).await.unwrap();
        removed += swept.removed;
        due = due.max(store.due(Due::Lease.start(), 10_000).await.unwrap().records.len());
        if !swept.more {
            break;
        }
    }
    assert!((2000..2700).contains(&removed), "{due} {removed} of 2700 were removed, the rest is not listed");
    assert_eq!(due, 300);
    assert_eq!(store.damaged(), 1);
    assert_eq!(listed(&store).await.len(), usize::from(RECORDS) - usize::try_from(removed).unwrap());
}

/// The engine cannot merge a file with a damaged block and takes no more writes then, however often it is opened.
#[tokio::test]
async fn a_damaged_file_that_has_to_be_merged_ends_writing_but_not_replaying() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    sunk(folder.path(), &clock).await;
    flip(&tables(folder.path(), 1)[0], |len| len / 3);
    let store = open_at(folder.path(), clock.clone());
    let long = Put { state: State::Done(Answer::new("test", vec![5; 200_000])), ..claim() };
    let (mut number, mut told) = (0_u32, Vec::new());
    // Spread over all ids, so that the merge touches the damaged block.
    eventually(async || {
        number += 1;
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        let id = RecordId::from_bytes(bytes);
        match store.insert(id, &long).await {
            Ok(it) => told.push((id, it)),
            Err(it) => assert_eq!(it.kind(), ErrorKind::Unavailable, "nothing may have landed: {it}"),
        }
        store.insert(id, &claim()).await.is_err_and(|it| {
            std::error::Error::source(&it).is_some_and(|it| it.to_string().contains("doctor --repair"))
        })
    })
    .await;
    assert!(told.len() > 10);
    for (id, kept) in told {
        let Insert::Kept(kept) = kept else { panic!("{kept:?}") };
        let again = store.insert(id, &claim()).await.unwrap();
        assert!(matches!(again, Insert::Found(found, _) if found == kept), "{id:?} is replayed");
    }
    assert!(store.load(id(1)).await.unwrap().record.is_some());
    assert_eq!(store.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Whatever bit of the files that say what there is: an error that names a file, not an abort, and nothing is deleted.
#[tokio::test]
async fn damage_in_a_table_of_contents_is_refused_by_name_and_nothing_is_deleted() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    sunk(folder.path(), &clock).await;
    let mut files = 0;
    for table in 0..=2_u8 {
        let root = folder.path().join(format!("db/keyspaces/{table}"));
        let current = fs::read(root.join("current")).unwrap();
        let list = format!("v{}", u64::from_le_bytes(current[..8].try_into().unwrap()));
        let lists = [root.join("current"), root.join(list)];
        for file in lists.into_iter().chain(tables(folder.path(), table)) {
            files += 1;
            let whole = fs::read(&file).unwrap();
            let tail = whole.len().saturating_sub(300);
            for at in (tail..whole.len()).step_by(7) {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x81;
                fs::write(&file, bytes).unwrap();
                refused(folder.path(), &file, &format!("{at} of {}", whole.len()));
            }
            for cut in [0, 7, whole.len() / 2, whole.len() - 1] {
                fs::write(&file, &whole[..cut]).unwrap();
                refused(folder.path(), &file, &format!("cut to {cut}"));
            }
            fs::remove_file(&file).unwrap();
            refused(folder.path(), &file, "missing");
            fs::write(&file, whole).unwrap();
        }
    }
    assert!(files >= 9, "{files}");
    let stray = folder.path().join("db/keyspaces/1/tables/notes.txt");
    fs::write(&stray, "mine").unwrap();
    refused(folder.path(), &stray, "a stray file");
    fs::remove_file(stray).unwrap();
    let table = folder.path().join("db/keyspaces/1");
    fs::rename(&table, folder.path().join("elsewhere")).unwrap();
    refused(folder.path(), &table, "a missing table");
    fs::rename(folder.path().join("elsewhere"), &table).unwrap();
    assert_eq!(listed(&open_at(folder.path(), clock)).await.len(), usize::from(RECORDS));
}

fn refused(folder: &Path, file: &Path, what: &str) {
    // But for older lists, which the engine removes once it has read the newest.
    let is_old = |it: &PathBuf| it.file_name().unwrap().to_str().unwrap().starts_with('v');
    let before: BTreeSet<_> = walk(&folder.join("db")).into_iter().filter(|it| !is_old(it)).collect();
    let error = try_open(folder).err().unwrap_or_else(|| panic!("{}: {what}", file.display()));
    assert!(matches!(error, OpenError::Files { .. }), "{error}");
    let said = error.to_string();
    // A wrong `current` shows in the list that it names.
    let named = if file.ends_with("current") { file.parent().unwrap() } else { file };
    assert!(said.contains(named.to_str().unwrap()), "{}: {what}: {said}", file.display());
    assert!(before.is_subset(&walk(&folder.join("db"))), "{}: {what}", file.display());
}

fn walk(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries.flat_map(|it| if it.is_dir() { walk(&it) } else { BTreeSet::from([it]) }).collect()
}
