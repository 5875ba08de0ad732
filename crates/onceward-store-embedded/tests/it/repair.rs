//! A repair says what it will do, keeps everything that can be read, forgets nothing that is known, deletes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Due, Filter, Insert, Put, SETTLE};
use onceward_core::{Engine, Policy, Record, RecordId, State, Status, Store, Timestamp};
use onceward_store_embedded::{
    Durability, EmbeddedSettings, EmbeddedStore, OpenError, Repair, Severity, repair, survey,
};
use onceward_testkit::HandClock;
use tempfile::TempDir;

use crate::blocks::{flip, sunk, tables};
use crate::owner::cut_off_at_birth;
use crate::sample::{Raw, claim, id, inserted, of_newer_version, open, open_at, settings, swapped, try_open};

type Records = BTreeMap<RecordId, Arc<Record>>;

async fn all(store: &EmbeddedStore) -> Records {
    let (mut all, mut cursor) = (Records::new(), None);
    loop {
        let page = store.list(&Filter::default(), cursor, 1000).await.unwrap();
        assert_eq!(page.unreadable, []);
        all.extend(page.records.into_iter().map(|it| (it.id, it)));
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

fn fix(folder: &Path, clock: &HandClock, dry_run: bool) -> Repair {
    repair(&settings(folder), Arc::new(clock.clone()), dry_run).unwrap()
}

/// Every file with its bytes.
fn picture(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let each = entries.flat_map(|it| {
        if it.is_dir() { picture(&it) } else { BTreeMap::from([(it.clone(), fs::read(&it).unwrap())]) }
    });
    each.collect()
}

/// What must hold whatever was damaged.
struct Mended {
    repair: Repair,
    before: Records,
    after: Records,
}

/// Damages a store of 3000 records, looks, repairs it, looks again.
async fn mended(damage: impl FnOnce(&Path)) -> Mended {
    mended_in(tempfile::tempdir().unwrap(), damage).await
}

async fn mended_in(folder: TempDir, damage: impl FnOnce(&Path)) -> Mended {
    let clock = HandClock::new();
    sunk(folder.path(), &clock).await;
    let store = open_at(folder.path(), clock.clone());
    // One of each kind that has no row in the agenda, and the hash key.
    let lone = inserted(&store, id(60_000), &claim()).await;
    let abandoned =
        Put { state: State::Abandoned { reason: "lost".into() }, ..Put::keep(&lone, Timestamp::MAX) };
    swapped(&store, &lone, &abandoned).await;
    let store = Arc::new(store);
    let engine = Engine::new(Arc::clone(&store) as _);
    engine.hasher().await.unwrap();
    drop(engine);
    let before = all(&store).await;
    drop(store);
    damage(folder.path());

    let picture_before = picture(folder.path());
    let plan = fix(folder.path(), &clock, true);
    assert!(!plan.done && !plan.steps.is_empty(), "{plan}");
    let unlocked = |mut it: BTreeMap<PathBuf, Vec<u8>>| {
        it.remove(&folder.path().join("LOCK"));
        it
    };
    assert!(
        unlocked(picture(folder.path())) == unlocked(picture_before.clone()),
        "a dry run changes nothing"
    );
    let done = fix(folder.path(), &clock, false);
    assert!(done.done, "{done}");
    assert_eq!(plan.steps.len(), done.steps.len(), "it does what it said: {plan} {done}");
    // Complete and unchanged, aside.
    let aside = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path());
    let aside = aside.into_iter().find(|it| it.to_str().unwrap().contains("damaged-")).unwrap();
    for (path, bytes) in picture_before {
        let Ok(inside) = path.strip_prefix(folder.path().join("db")) else { continue };
        assert!(fs::read(aside.join("db").join(inside)).unwrap() == bytes, "{}", path.display());
    }
    assert!(!folder.path().join("repair.tmp").exists());

    let again = fix(folder.path(), &clock, false);
    assert!(again.steps.is_empty() && !again.done, "{again}");
    let store = Arc::new(open_at(folder.path(), clock.clone()));
    let after = all(&store).await;
    for (id, record) in &after {
        let untouched = before.get(id) == Some(record);
        let marked = done.unresolved.contains(id) && matches!(record.state, State::Abandoned { .. });
        assert!(untouched || marked, "{record:?}");
    }
    for it in &done.unresolved {
        let told = store.insert(*it, &claim()).await.unwrap();
        assert!(
            matches!(told, Insert::Found(found, _) if found.status_at(found.updated) == Status::Unresolved)
        );
    }
    assert_eq!(store.survey().await.unwrap().census.unwrap().damaged_places, 0);
    // The agenda is whole.
    clock.advance(Policy::default().retention + Policy::default().tombstone + SETTLE);
    let running = after.values().filter(|it| it.state == State::Running).count();
    assert_eq!(store.due(Due::Lease.start(), 10_000).await.unwrap().records.len(), running);
    let done_ones = after.values().filter(|it| matches!(it.state, State::Done(_))).count();
    let mut removed = 0;
    for _ in 0..10 {
        removed += store.sweep(1000).await.unwrap().removed;
    }
    assert_eq!(usize::try_from(removed).unwrap(), done_ones);
    Mended { repair: done, before, after }
}

impl Mended {
    fn forgotten(&self) -> BTreeSet<RecordId> {
        self.before.keys().filter(|it| !self.after.contains_key(it)).copied().collect()
    }

    fn says(&self, what: &str) {
        let said = self.repair.to_string();
        assert!(said.contains(what), "{what:?} is missing in: {said}");
    }
}

#[tokio::test]
async fn a_damaged_block_of_records_costs_those_in_it_and_they_become_unresolved() {
    let it = mended(|folder| flip(&tables(folder, 1)[0], |len| len / 3)).await;
    assert!((1..100).contains(&it.repair.unresolved.len()), "{}", it.repair);
    assert!(it.forgotten().is_empty());
    it.says("pass over 1 damaged places");
    it.says("as unresolved");
}

#[tokio::test]
async fn a_damaged_agenda_is_made_anew_from_the_records() {
    let it = mended(|folder| flip(&tables(folder, 2)[0], |len| len / 2)).await;
    assert_eq!(it.before, it.after);
    assert_eq!(it.repair.unresolved, []);
}

#[tokio::test]
async fn a_lost_list_of_table_files_is_made_anew() {
    let it = mended(|folder| fs::write(folder.join("db/keyspaces/1/current"), "nonsense").unwrap()).await;
    assert_eq!(it.before, it.after);
    it.says("make the list of table files anew");
}

#[tokio::test]
async fn a_lost_table_of_tables_costs_nothing() {
    let it = mended(|folder| fs::remove_dir_all(folder.join("db/keyspaces/0")).unwrap()).await;
    assert_eq!(it.before, it.after);
}

/// Damage of every kind, in a store whose tables have these numbers.
async fn other_numbers(records: u8, agenda: u8, made: &str) {
    let all_is_kept = async |damage: &dyn Fn(&Path)| {
        let folder = cut_off_at_birth(made);
        drop(open(folder.path()));
        let noted = fs::read_to_string(folder.path().join("TABLES")).unwrap();
        assert_eq!(noted, format!("records {records}\nagenda {agenda}\n"));
        let it = mended_in(folder, damage).await;
        assert_eq!(it.before, it.after);
    };
    let lose_list = |folder: &Path, table: u8| {
        fs::write(folder.join(format!("db/keyspaces/{table}/current")), "nonsense").unwrap();
    };
    all_is_kept(&|folder| flip(&tables(folder, agenda)[0], |len| len / 2)).await;
    all_is_kept(&|folder| lose_list(folder, records)).await;
    // Also where nobody noted the numbers.
    let forget = |folder: &Path| fs::write(folder.join("TABLES"), "records, agenda\n").unwrap();
    all_is_kept(&|folder| {
        forget(folder);
        lose_list(folder, agenda);
    })
    .await;
    all_is_kept(&|folder| {
        fs::remove_file(folder.join("TABLES")).unwrap();
        lose_list(folder, records);
    })
    .await;
    // Nothing of the journal, which has the records a second time: here are they alone.
    let it =
        mended_in(cut_off_at_birth(made), |folder| flip(&tables(folder, records)[0], |len| len / 3)).await;
    assert!(!it.repair.unresolved.is_empty() && it.forgotten().is_empty(), "{}", it.repair);
}

#[tokio::test]
async fn tables_with_other_numbers_are_repaired_like_the_usual_ones() {
    other_numbers(2, 3, "").await;
    other_numbers(1, 3, "records").await;
}

fn cut_in_half(file: &Path) {
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

#[tokio::test]
async fn a_table_file_that_is_cut_off_costs_nothing_while_the_journal_has_its_records() {
    let it = mended(|folder| cut_in_half(&tables(folder, 1)[0])).await;
    it.says("which cannot be opened at all");
    assert_eq!(it.before, it.after);
}

#[tokio::test]
async fn a_table_file_that_is_cut_off_makes_its_records_unresolved_where_their_ids_are_known() {
    let it = mended(|folder| {
        cut_in_half(&tables(folder, 1)[0]);
        fs::write(folder.join("db/0.jnl"), []).unwrap();
    })
    .await;
    it.says("RUNS AGAIN");
    assert_eq!(it.repair.unresolved, (0..3000).map(id).collect::<Vec<_>>(), "the agenda knows them");
    assert_eq!(it.forgotten(), BTreeSet::from([id(60_000)]), "an abandoned one stands in no agenda");
}

#[tokio::test]
async fn a_damaged_journal_is_cut_and_the_plan_says_what_that_costs() {
    let it = mended(|folder| {
        let journals = fs::read_dir(folder.join("db")).unwrap().map(|it| it.unwrap().path());
        let newest = journals.filter(|it| it.extension().is_some_and(|it| it == "jnl")).max().unwrap();
        flip(&newest, |_| 60);
    })
    .await;
    it.says("cut off");
    it.says("RUNS AGAIN");
}

#[tokio::test]
async fn a_record_that_cannot_be_decoded_becomes_unresolved() {
    let it = mended(|folder| {
        let raw = Raw::open(folder);
        raw.records.insert(id(7).as_bytes(), b"no record").unwrap();
    })
    .await;
    assert_eq!(it.repair.unresolved, [id(7)]);
}

#[tokio::test]
async fn a_hash_key_that_cannot_be_read_is_made_anew_and_the_plan_says_so() {
    let it = mended(|folder| {
        let raw = Raw::open(folder);
        raw.records.insert(RecordId::reserved("hash key").as_bytes(), b"no record").unwrap();
    })
    .await;
    it.says("new hash key");
    it.says("RUNS AGAIN");
    assert_eq!(it.before, it.after);
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_never_repaired() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    sunk(folder.path(), &clock).await;
    {
        let raw = Raw::open(folder.path());
        let newer = of_newer_version(id(7), &raw.records.get(id(7).as_bytes()).unwrap().unwrap());
        raw.records.insert(id(7).as_bytes(), newer).unwrap();
        // Damage beside it is no reason either.
        raw.records.insert(id(8).as_bytes(), b"no record").unwrap();
    }
    let before = picture(folder.path());
    for dry_run in [true, false] {
        let error = repair(&settings(folder.path()), Arc::new(clock.clone()), dry_run).unwrap_err();
        assert!(matches!(error, OpenError::Layout { .. }), "{error}");
        assert!(error.to_string().contains("1 records that a newer version"), "{error}");
        assert_eq!(picture(folder.path()), before);
    }
}

#[tokio::test]
async fn a_store_in_use_is_neither_surveyed_nor_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let _holder = open_at(folder.path(), clock.clone());
    let settings = EmbeddedSettings { lock_wait: Duration::ZERO, ..settings(folder.path()) };
    let clock = Arc::new(clock);
    for error in [
        survey(&settings, clock.clone()).unwrap_err(),
        repair(&settings, clock.clone(), true).unwrap_err(),
        repair(&settings, clock, false).unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    }
    let nowhere = EmbeddedSettings::new(folder.path().join("nowhere"));
    let error = survey(&nowhere, Arc::new(HandClock::new())).unwrap_err();
    assert!(matches!(error, OpenError::Layout { .. }), "{error}");
    assert!(!folder.path().join("nowhere").exists());
}

#[tokio::test]
async fn a_survey_counts_and_names_what_is_wrong() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), HandClock::new());
    sunk(folder.path(), &clock).await;
    clock.advance(Policy::default().lease + Duration::from_secs(1));
    let look = |wall: &HandClock| survey(&settings(folder.path()), Arc::new(wall.clone())).unwrap();
    let whole = look(&clock);
    let census = whole.census.as_ref().unwrap();
    assert_eq!((census.count(Status::Done), census.count(Status::Unresolved)), (2700, 300));
    assert_eq!(census.oldest_unresolved.unwrap().1, Policy::default().lease + Duration::from_secs(1));
    let codes = |it: &onceward_store_embedded::Survey| -> Vec<_> {
        it.findings().into_iter().filter(|it| it.severity > Severity::Note).map(|it| it.code).collect()
    };
    assert!(codes(&whole).contains(&"unresolved"), "{whole}");
    assert!(!codes(&whole).contains(&"damaged-file"), "{whole}");
    assert!(whole.bytes > 100_000 && whole.bytes < 100 << 20 && whole.file_system.is_some(), "{whole:?}");
    // A store that was written under a clock far ahead.
    clock.advance(Duration::from_secs(86_400));
    drop(look(&clock));
    let store = open_at(folder.path(), clock.clone());
    inserted(&store, id(60_001), &claim()).await;
    let open = store.survey().await.unwrap();
    assert!(open.open && open.durability == Some(Durability::Durable), "{open:?}");
    drop(store);
    let behind = HandClock::new();
    let ahead = look(&behind);
    assert!(ahead.time_ahead >= Duration::from_secs(86_000), "{ahead:?}");
    assert!(codes(&ahead).contains(&"time-ahead"));

    flip(&tables(folder.path(), 1)[0], |len| len / 3);
    let damaged = look(&clock);
    assert!(codes(&damaged).starts_with(&["damaged-file", "unreadable-records"]), "{:?}", damaged.findings());
    let census = damaged.census.unwrap();
    assert!(census.unreadable > 0 && census.damaged_places == 1, "{census:?}");
    fs::write(folder.path().join("db/keyspaces/2/current"), "nonsense").unwrap();
    let broken = look(&clock);
    assert!(broken.census.is_none() && codes(&broken).contains(&"not-opened"), "{:?}", broken.findings());
    assert!(try_open(folder.path()).is_err());
}
