//! Makes a damaged store usable again: everything that can be read goes into new files, the old ones are moved
//! aside and kept.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{OwnedWriteBatch, PersistMode};
use onceward_core::store::{Put, StoreTime};
use onceward_core::{Clock, Listing, Policy, Principal, Record, RecordId, State, Timestamp};

use crate::directory::{Directory, OpenError, newer, refused, sync_directory};
use crate::disk;
use crate::engine::{self, Files};
use crate::fault;
use crate::found::{Found, Torn};
use crate::journal::{self, Left};
use crate::log::{self, Read};
use crate::row;
use crate::salvage::{self, Unusable};
use crate::settings::EmbeddedSettings;
use crate::shelf::{Base, Shelf};
use crate::survey::damaged_files;

/// Where the work is done; anything in it is this repair's own.
const PLACE: &str = "repair.tmp";
/// Why an operator finds such a record unresolved.
const REASON: &str = "its stored record was damaged and could not be read";
const BATCH: usize = 500;

/// What a repair does, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// The directory.
    pub path: PathBuf,
    /// What is done, in order. Empty when nothing is damaged: then nothing is done.
    pub steps: Vec<Step>,
    /// Whether it was done. `false` after a dry run.
    pub done: bool,
    /// How many records can be read, and stay.
    pub kept: u64,
    /// Records that cannot be read and whose ids are known: they become unresolved.
    pub unresolved: Vec<RecordId>,
}

/// One step of a [`Repair`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub what: String,
    /// What that loses, in plain words; empty when nothing.
    pub loses: String,
}

/// Repairs the store in the directory of `settings`, which must not be open. With `dry_run` it only says what it
/// would do. Nothing is ever deleted: the old files are moved to `damaged-<time>` in the directory.
///
/// A record that cannot be read and whose id is known becomes *unresolved*: repeats are refused until an operator
/// decides. One whose id is lost, too, is forgotten: a repeat of it runs again. The steps say which.
///
/// Blocks, for as long as it takes to read all files, and to write them anew; the disk needs room for that.
///
/// # Errors
/// [`OpenError::Locked`]: the store is open. [`OpenError::Layout`]: a newer version of Onceward wrote records in it,
/// which are not damaged; nothing was changed. [`OpenError::Refused`]: no room, or no permission. The old files are
/// then where they were, but for an error between the last two steps, which names both places.
pub fn repair(
    settings: &EmbeddedSettings,
    clock: Arc<dyn Clock>,
    dry_run: bool,
) -> Result<Repair, OpenError> {
    let directory = Directory::claim_existing(&settings.path, settings.lock_wait)?;
    if !directory.database().exists() {
        let cause = "db is missing; if a repair was cut off, move db back from the newest damaged-… directory, \
                     which has all of it, and repair again";
        return Err(OpenError::Files { path: settings.path.clone(), cause: cause.to_owned() });
    }
    let place = directory.root().join(PLACE);
    let repaired = work(directory, &place, settings, clock, dry_run);
    // Ours, and links: the originals stay.
    let cleared = if place.exists() { fs::remove_dir_all(&place) } else { Ok(()) };
    let repair = repaired?;
    cleared.map_err(refused("remove", &place))?;
    Ok(repair)
}

fn work(
    directory: Directory,
    place: &Path,
    settings: &EmbeddedSettings,
    clock: Arc<dyn Clock>,
    dry_run: bool,
) -> Result<Repair, OpenError> {
    if place.exists() {
        fs::remove_dir_all(place).map_err(refused("remove", place))?;
    }
    let (database, left) = (directory.database(), directory.left()?);
    let damaged = damaged_files(&directory, left);
    let root = directory.root().to_owned();
    let name = format!("damaged-{}", clock.wall().as_millis());
    // The time of what is found is worked out below; until then the wall clock will do.
    let base = Base::new(directory, StoreTime::begin(Arc::clone(&clock), Timestamp::ZERO));
    let folder = base.directory.log();
    let log = log::read(&folder, left, base.directory.needs()?);
    let log = log.map_err(|it| OpenError::Files { path: it.file, cause: it.what })?;
    if log::newer(&log) > 0 {
        return Err(newer(&root, log::newer(&log)));
    }
    let (shelf, unusable) = salvage::open((&database, &log), &place.join("old"), &base, settings)?;
    let found = Found::scan(&shelf, Torn::by(&database, &base.directory, left, &unusable)?)
        .map_err(|it| OpenError::Files { path: root.clone(), cause: fault::chain(&it) })?;
    if found.newer > 0 {
        return Err(newer(&root, found.newer));
    }
    let mut repair = Repair {
        path: root.clone(),
        steps: Vec::new(),
        done: false,
        kept: found.kept,
        unresolved: found.lost.iter().copied().collect(),
    };
    if damaged.is_empty() && found.lost.is_empty() && !found.secret_is_bad && shelf.damaged() == 0 {
        return Ok(repair);
    }
    repair.steps = steps(&damaged, &unusable, &found, &shelf, left, (&base.directory, &log), &name);
    if dry_run {
        return Ok(repair);
    }
    let time = StoreTime::begin(clock, found.latest.max(log.now));
    let new = place.join("new");
    // The same numbers again: a cut between here and the end finds the file `TABLES` right.
    let numbers = base.directory.numbers()?;
    let written = numbers.lend(&new, || write(&shelf, &found, time.now(), &new, settings));
    written.map_err(refused("prepare", &new))??;
    let new_log = place.join(log::FOLDER);
    let begun = log::begin(&new_log, settings.segment_bytes, log.newest + 1, log.last, time.now());
    drop(begun.map_err(refused("begin", &new_log))?);
    drop(shelf);
    let aside = root.join(&name);
    fs::create_dir(&aside).map_err(refused("make", &aside))?;
    fs::rename(&database, aside.join("db")).map_err(refused("move aside", &database))?;
    fs::rename(&new, &database)
        .map_err(refused("move the repaired files (the old ones are aside) to", &database))?;
    // Only now: beside the new tables the old log costs another repair and nothing else.
    if folder.exists() {
        fs::rename(&folder, aside.join(log::FOLDER)).map_err(refused("move aside", &folder))?;
    }
    fs::rename(&new_log, &folder).map_err(refused("move the new log to", &folder))?;
    sync_directory(&aside).and_then(|()| sync_directory(&root)).map_err(refused("sync", &root))?;
    base.directory.bear(numbers)?;
    base.directory.leave_if_in_use().map_err(refused("note the orderly end in", &root))?;
    repair.done = true;
    Ok(repair)
}

/// Writes everything that can be read to `place`, and an unresolved record for each that cannot.
fn write(
    shelf: &Shelf,
    found: &Found,
    now: Timestamp,
    place: &Path,
    settings: &EmbeddedSettings,
) -> Result<(), OpenError> {
    let wrong = |cause: String| OpenError::Files { path: place.to_owned(), cause };
    let engine = |it: fjall::Error| wrong(fault::describe(&it));
    let files = engine::files(place, settings, engine::WORKERS).map_err(engine)?;
    let snapshot = shelf.snapshot();
    let readable = shelf.record_rows(&snapshot, [0; 32]).filter_map(|row| match row {
        Ok((key, stored)) => {
            let id = Some(RecordId::from_bytes(key)).filter(|it| !found.lost.contains(it));
            id.and_then(|it| shelf.decode(it, &stored).ok()).map(Ok)
        }
        Err(it) => Some(Err(it)),
    });
    let beside = found.beside.iter().filter_map(|it| shelf.read_at(&snapshot, *it).transpose());
    let lost = found.lost.iter().map(|it| Ok(unresolved(*it, now)));
    let mut all = readable.chain(beside).chain(lost).peekable();
    while all.peek().is_some() {
        let mut batch = OwnedWriteBatch::with_capacity(files.database.clone(), BATCH * 3);
        batch.insert(&files.agenda, row::HIGH_WATER, now.as_millis().to_be_bytes());
        for record in all.by_ref().take(BATCH) {
            let record: Record = record.map_err(|it| wrong(fault::chain(&it)))?;
            for key in row::agenda(&record) {
                batch.insert(&files.agenda, &key[..], b"");
            }
            let bytes = onceward_core::record::encode::encode(&record);
            batch.insert(&files.records, record.id.as_bytes(), bytes);
        }
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(engine)?;
    }
    engine::write_out(&files).map_err(engine)?;
    let Files { database, records, agenda, .. } = files;
    database.persist(PersistMode::SyncAll).map_err(engine)?;
    drop((records, agenda, database));
    Ok(())
}

/// What stands for a record that cannot be read: repeats are refused until an operator decides.
fn unresolved(id: RecordId, now: Timestamp) -> Record {
    let nothing = String::new;
    let put = Put {
        grant: None,
        listing: Arc::new(Listing {
            principal: Principal::ANONYMOUS,
            kind: nothing(),
            host: nothing(),
            path: nothing(),
            key: nothing(),
        }),
        rules: onceward_core::record::RULES,
        fingerprint: None,
        state: State::Abandoned { reason: REASON.to_owned() },
        policy: Policy::default(),
        checkpoint: None,
        wake_after: None,
        not_after: Timestamp::MAX,
    };
    put.stamp(id, None, now)
}

/// The steps in words.
fn steps(
    damaged: &[(PathBuf, String)],
    unusable: &Unusable,
    found: &Found,
    shelf: &Shelf,
    left: Left,
    (directory, log): (&Directory, &Read),
    name: &str,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut step = |what: String, loses: &str| steps.push(Step { what, loses: loses.to_owned() });
    for (file, what) in damaged {
        step(format!("read around the damage in {}: {what}", file.display()), "");
    }
    for list in &unusable.lists {
        step(
            format!("make the list of table files anew, in place of {}", list.display()),
            "removals that were only noted there: old records may be back, and end again at their time",
        );
    }
    for file in &unusable.files {
        step(
            format!("leave out {}, which cannot be opened at all", file.display()),
            "all records that are only in it; those of them whose ids are known become unresolved, the others are \
             forgotten: a repeat of such an operation RUNS AGAIN",
        );
    }
    for it in &log.damages {
        step(
            format!("read around what is missing in the log at {}", it.file.display()),
            "the groups of writes that are not there: operations that were claimed by them are forgotten, and a repeat \
             RUNS AGAIN; operations that were finished by them are unresolved again",
        );
    }
    for it in journal::damages(&directory.database(), left).unwrap_or_default() {
        let loses = if it.unfinished {
            ""
        } else {
            "the writes behind that place in this file: operations that were claimed by them are forgotten, and a \
             repeat RUNS AGAIN; operations that were finished by them are unresolved again"
        };
        step(format!("cut off {} at byte {}", it.journal.display(), it.valid), loses);
    }
    if shelf.damaged() > 0 {
        step(
            format!("pass over {} damaged places in table files", shelf.damaged()),
            "the records in them; those whose ids are known become unresolved, the others are forgotten: a repeat \
             of such an operation RUNS AGAIN",
        );
    }
    if !found.lost.is_empty() {
        step(
            format!(
                "mark {} records that cannot be read, or only as they once were, as unresolved",
                found.lost.len()
            ),
            "their answers; repeats are refused until you decide each with `onceward keys resolve`",
        );
    }
    if found.secret_is_bad || (found.secret_is_gone && found.kept > 0) {
        step(
            "let a new hash key be made at the next start".to_owned(),
            "what tells callers and requests from before apart: who is known by a credential is taken for somebody \
             new, and a repeat RUNS AGAIN; a repeat of a caller without one is refused with 422 until the record is \
             over",
        );
    }
    let needed = (disk::bytes_in(&directory.database()) + disk::bytes_in(&directory.log())) >> 20;
    step(
        format!("write {} readable records and a new agenda into new files (up to {needed} MiB)", found.kept),
        "",
    );
    step(format!("move the old files to {name}, complete and unchanged; delete them when you like"), "");
    steps
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return writeln!(f, "{}: nothing is damaged, nothing to do", self.path.display());
        }
        let tense = if self.done { "was done" } else { "would be done" };
        writeln!(f, "{}: this {tense}:", self.path.display())?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}. {}", number + 1, step.what)?;
            if !step.loses.is_empty() {
                writeln!(f, "     loses {}", step.loses)?;
            }
        }
        Ok(())
    }
}
