//! Opening the files of a directory, and bringing what the log holds into the tables.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::PersistMode;

use crate::contents::{self, Wrong};
use crate::directory::{Directory, OpenError, newer, refused, sync_directory};
use crate::engine::{Files, WORKERS, files, write_out};
use crate::fault;
use crate::journal::{self, Left};
use crate::log::{self, Log, Read};
use crate::numbers::Numbers;
use crate::probe::{Point, Probe};
use crate::settings::EmbeddedSettings;

/// Opens the engine over `directory`, after a look at what the engine takes on trust, brings into it what the log
/// holds, and begins a new log.
pub(crate) fn open(
    directory: &Directory,
    settings: &EmbeddedSettings,
    probe: &dyn Probe,
) -> Result<(Files, Option<Log>), OpenError> {
    let wrong = |cause: String| OpenError::Files { path: directory.root().to_owned(), cause };
    let engine = |it: fjall::Error| wrong(fault::describe(&it));
    let reached = |it| probe.reached(it).map_err(|it| wrong(it.to_string()));
    let (left, old) = check(directory)?;
    if left == Left::InOrder {
        // Only now: damage that was refused must not look like the remains of a crash at the next try.
        directory.settle(settings.durability)?;
    }
    let files = recover(directory, settings, left, WORKERS)?;
    let numbers = Numbers::of(&files).ok_or_else(|| wrong("the engine made a lost table anew".to_owned()))?;
    reached(Point::BeforeReplay)?;
    let moved = log::replay(&old, &files).and_then(|replayed| {
        let is_settled = left == Left::InOrder && replayed == 0;
        if is_settled { Ok(true) } else { write_out(&files).map(|()| false) }
    });
    match moved {
        Ok(true) => {}
        Ok(false) => directory.settle(settings.durability)?,
        Err(error) => {
            drop((files, old));
            // A background task that fails at once: the engine cannot merge a damaged file.
            let damaged = contents::damaged(&directory.database()).unwrap_or_default();
            if damaged.is_empty() {
                return Err(engine(error));
            }
            only_to_read(&damaged);
            return Ok((open_to_read(directory, settings)?, None));
        }
    }
    reached(Point::BeforeBegin)?;
    let folder = directory.log();
    let log = log::begin(&folder, settings.segment_bytes, old.newest + 1, old.last, old.now)
        .map_err(refused("begin", &folder))?;
    // From these on there must be a log; it is there.
    directory.bear(numbers)?;
    directory.has_log()?;
    reached(Point::BeforeRemove)?;
    log.remove_older().map_err(refused("remove old segments from", &folder))?;
    Ok((files, Some(log)))
}

/// Says why nothing is written from now on.
pub(crate) fn only_to_read(damaged: &[PathBuf]) {
    for file in damaged {
        tracing::error!(
            file = %file.display(),
            "a file of the store is damaged and cannot be merged: stored answers are still replayed, but \
             nothing is written. Stop the gateway and see what `onceward doctor --repair` would do"
        );
    }
}

/// The same for reading only: the engine does nothing in the background, and the log stays as it is.
pub(crate) fn open_to_read(directory: &Directory, settings: &EmbeddedSettings) -> Result<Files, OpenError> {
    let wrong = |it: fjall::Error| OpenError::Files {
        path: directory.root().to_owned(),
        cause: fault::describe(&it),
    };
    let (left, log) = check(directory)?;
    let files = recover(directory, settings, left, 0)?;
    log::replay(&log, &files).map_err(wrong)?;
    // What is read from the log now must still be there after a power cut.
    files.database.persist(PersistMode::SyncAll).map_err(wrong)?;
    Ok(files)
}

/// Looks at everything that is taken on trust later, and gives what the log holds.
fn check(directory: &Directory) -> Result<(Left, Read), OpenError> {
    let path = directory.database();
    let wrong = |cause: String| OpenError::Files { path: directory.root().to_owned(), cause };
    let named = |it: Wrong| wrong(format!("{}: {}", it.file.display(), it.what));
    contents::check(&path, directory.born()?).map_err(named)?;
    let left = directory.left()?;
    let mut log = log::read(&directory.log(), left, directory.needs()?).map_err(named)?;
    if !log.damages.is_empty() {
        return Err(named(log.damages.swap_remove(0)));
    }
    match log::newer(&log) {
        0 => {}
        count => return Err(newer(directory.root(), count)),
    }
    journal::check(&path, left).map_err(wrong)?;
    Ok((left, log))
}

/// Opens the engine's files after [`check`].
fn recover(
    directory: &Directory,
    settings: &EmbeddedSettings,
    left: Left,
    workers: usize,
) -> Result<Files, OpenError> {
    let path = directory.database();
    let wrong = |cause: String| OpenError::Files { path: directory.root().to_owned(), cause };
    directory.give_back_room()?;
    if left != Left::InOrder {
        journal::seal(&path).map_err(|it| wrong(format!("a new journal cannot be made: {it}")))?;
    }
    // It asserts what it could have said. A panic of it ends this opening, not the thread.
    let files = match catch_unwind(AssertUnwindSafe(|| files(&path, settings, workers))) {
        Ok(Ok(files)) => files,
        Ok(Err(it)) => return Err(wrong(blamed(&path, fault::describe(&it)))),
        Err(_) => return Err(wrong(blamed(&path, "the engine panicked over them".to_owned()))),
    };
    // The engine syncs what is in a new table's directory, not its name. Without that a power cut could take the whole
    // table, with all that was told since.
    sync_directory(&path.join("keyspaces"))
        .map_err(|it| wrong(format!("the tables cannot be synced: {it}")))?;
    Ok(files)
}

/// The engine says that something is damaged, but not where.
fn blamed(database: &Path, cause: String) -> String {
    let files = contents::damaged(database).unwrap_or_default();
    files.iter().fold(cause, |text, it| format!("{text}; the file {} is damaged", it.display()))
}
