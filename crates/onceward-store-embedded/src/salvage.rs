//! Opens what is left of damaged files, in a place of its own: the originals are only read.
//!
//! The place is a new, empty database of the same two tables. Into it go the table files that can be used (as links,
//! they never change), a list of them, and the whole part of every journal. So damage of lists, of the table of
//! tables and of single table files costs what was in it and nothing else. Then comes what the log holds.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::contents::{self, Listed};
use crate::directory::{OpenError, refused};
use crate::engine::Files;
use crate::fault;
use crate::journal;
use crate::log::{self, Read};
use crate::numbers::Numbers;
use crate::settings::EmbeddedSettings;
use crate::shelf::{Base, Shelf};

/// What of the old files cannot be used at all.
#[derive(Debug, Default)]
pub(crate) struct Unusable {
    /// Table files that the engine cannot open.
    pub(crate) files: Vec<PathBuf>,
    /// Lists of table files that had to be made anew from the files that are there.
    pub(crate) lists: Vec<PathBuf>,
}

/// What is left of `database` and of `log`, opened at `place`, which must not exist.
pub(crate) fn open(
    (database, log): (&Path, &Read),
    place: &Path,
    base: &Arc<Base>,
    settings: &EmbeddedSettings,
) -> Result<(Shelf, Unusable), OpenError> {
    let mut unusable = Unusable::default();
    let numbers = base.directory.numbers()?;
    let mut chosen: [Vec<Listed>; 2] = [Vec::new(), Vec::new()];
    for (at, table) in numbers.both().into_iter().enumerate() {
        let folder = database.join("keyspaces").join(table.to_string());
        let files = match contents::listed(&folder) {
            Ok(files) => files,
            Err(wrong) => {
                unusable.lists.push(wrong.file);
                found(&folder.join("tables"))
            }
        };
        for file in files {
            let whole = file.is_whole().unwrap_or(false);
            if whole || can_be_used(&file, at, numbers, place, settings)? {
                chosen[at].push(file);
            } else {
                unusable.files.push(file.file);
            }
        }
    }
    prepare(place, numbers, &chosen, settings)?;
    remove_journals(place)
        .and_then(|()| journal::copy_whole(database, place))
        .map_err(refused("copy", place))?;
    let files = engine(place, settings)?;
    log::replay(log, &files)
        .map_err(|it| OpenError::Files { path: place.to_owned(), cause: fault::describe(&it) })?;
    Ok((Shelf::of(files, base), unusable))
}

/// Whether the engine opens this damaged file: then only what is damaged in it is lost.
fn can_be_used(
    file: &Listed,
    table: usize,
    numbers: Numbers,
    place: &Path,
    settings: &EmbeddedSettings,
) -> Result<bool, OpenError> {
    if contents::is_readable(&file.file).is_err() {
        return Ok(false);
    }
    let mut alone = [Vec::new(), Vec::new()];
    alone[table].push(file.clone());
    prepare(place, numbers, &alone, settings)?;
    let opens = engine(place, settings).is_ok();
    fs::remove_dir_all(place).map_err(refused("remove", place))?;
    Ok(opens)
}

/// A database at `place` that consists of the chosen table files.
fn prepare(
    place: &Path,
    numbers: Numbers,
    chosen: &[Vec<Listed>; 2],
    settings: &EmbeddedSettings,
) -> Result<(), OpenError> {
    // The journals name the tables by their old numbers.
    drop(numbers.lend(place, || engine(place, settings)).map_err(refused("prepare", place))??);
    for (table, files) in numbers.both().into_iter().zip(chosen) {
        let folder = place.join("keyspaces").join(table.to_string());
        for Listed { file, .. } in files {
            let Some(name) = file.file_name() else { continue };
            let link = folder.join("tables").join(name);
            fs::hard_link(file, &link).map_err(refused("link", &link))?;
        }
        contents::relist(&folder, files).map_err(refused("list the files of", &folder))?;
    }
    Ok(())
}

/// The table files that lie in `folder`, when their list is lost.
fn found(folder: &Path) -> Vec<Listed> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|it| Listed::found(it.path()).ok()).collect()
}

fn remove_journals(place: &Path) -> io::Result<()> {
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "jnl") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The engine over `place`. It does no work in the background: it would stumble over damage.
pub(crate) fn engine(place: &Path, settings: &EmbeddedSettings) -> Result<Files, OpenError> {
    let wrong = |cause: String| OpenError::Files { path: place.to_owned(), cause };
    match catch_unwind(AssertUnwindSafe(|| crate::engine::files(place, settings, 0))) {
        Ok(files) => files.map_err(|it| wrong(fault::describe(&it))),
        Err(_) => Err(wrong("the engine panicked over them".to_owned())),
    }
}
