//! What there is to know about a store: for `onceward doctor`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onceward_core::moving::Place;
use onceward_core::{Clock, Status};

use crate::census::{self, Census};
use crate::contents;
use crate::directory::{Directory, OpenError};
use crate::disk::{self, FileSystem};
use crate::fault;
use crate::journal::{self, Left};
use crate::log;
use crate::probe::NoProbe;
use crate::settings::{Durability, EmbeddedSettings};
use crate::shelf::Shelf;

/// Below this much free space somebody should hear of it: one journal and what is merged beside it.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// The store's time may be ahead of the wall clock by this much before somebody should hear of it.
const AHEAD: Duration = Duration::from_secs(60);

/// A store, looked at. `Display` is a line for each fact; [`Survey::findings`] is what is wrong with them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Survey {
    /// The directory.
    pub path: PathBuf,
    /// The version of its layout.
    pub layout: u32,
    /// Whether a store is open on it.
    pub open: bool,
    /// What its writes survive; of a closed directory known only after a crash.
    pub durability: Option<Durability>,
    /// Whether it was left without an orderly end; `false` while it is open.
    pub left_abruptly: bool,
    /// Files that are not as they were written, or are missing, each with what is wrong. Of an open store they
    /// are not looked at.
    pub damaged_files: Vec<(PathBuf, String)>,
    /// The records; `None` when the files cannot be opened.
    pub census: Option<Census>,
    /// Why the files cannot be opened.
    pub not_opened: Option<String>,
    /// How many bytes the directory takes on the disk.
    pub bytes: u64,
    /// What it lies on, where the system says.
    pub file_system: Option<FileSystem>,
    /// How far the store's time is ahead of the wall clock.
    pub time_ahead: Duration,
    /// How often the open store had to open its files again after a fault.
    pub reopened: u64,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// It works, but not as it should, or not for long.
    Warning,
    /// Something does not work, or was lost.
    Error,
}

/// Something about a store that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// One word for programs: `damaged-file`, `unreadable-records`, …
    pub code: &'static str,
    /// What it is.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Looks at the directory of a store that is not open. Files are checked first, all of them; then they are opened,
/// as a start of the gateway does, to count the records. Damage is not touched. Blocks, for as long as it takes to
/// read all files.
///
/// # Errors
/// [`OpenError::Locked`] says who has the directory: ask that process. [`OpenError::Layout`]: no store is there, or
/// one of another version. Damage is no error but stands in the survey.
pub fn survey(settings: &EmbeddedSettings, clock: Arc<dyn Clock>) -> Result<Survey, OpenError> {
    let directory = Directory::claim_existing(&settings.path, settings.lock_wait)?;
    let left = directory.left()?;
    let mut survey = Survey::of(&settings.path);
    survey.left_abruptly = left != Left::InOrder;
    survey.durability = match left {
        Left::InOrder => None,
        Left::Abruptly(it) => Some(it),
    };
    survey.damaged_files = damaged_files(&directory, left);
    let wall = clock.wall();
    match Shelf::first(directory, settings, clock, &NoProbe) {
        Ok((shelf, base)) => {
            survey.time_ahead = wall.until(base.time.now());
            match census::take(&shelf) {
                Ok(it) => survey.census = Some(it),
                Err(it) => survey.not_opened = Some(fault::chain(&it)),
            }
            // Nothing was written since the opening, which left nothing in the log that the tables do not have.
            if shelf.log.is_some() && shelf.database.persist(fjall::PersistMode::SyncAll).is_ok() {
                shelf.leave();
            }
        }
        Err(error) => survey.not_opened = Some(fault::chain(&error)),
    }
    Ok(survey)
}

/// Every file that is wrong: lists and table files by their checksums, journals and the log by what they hold.
pub(crate) fn damaged_files(directory: &Directory, left: Left) -> Vec<(PathBuf, String)> {
    let database = directory.database();
    let mut damaged = Vec::new();
    match directory.born() {
        Ok(born) => damaged.extend(contents::check(&database, born).err().map(|it| (it.file, it.what))),
        Err(it) => damaged.push((directory.root().to_owned(), fault::chain(&it))),
    }
    let files = contents::damaged(&database).unwrap_or_default();
    for file in files {
        if !damaged.iter().any(|it| it.0 == file) {
            damaged.push((file, "it is not as it was written: its checksum is another".to_owned()));
        }
    }
    match directory.needs().map(|it| log::read(&directory.log(), left, it)) {
        Ok(Ok(log)) => damaged.extend(log.damages.into_iter().map(|it| (it.file, it.what))),
        Ok(Err(it)) => damaged.push((it.file, it.what)),
        Err(it) => damaged.push((directory.log(), fault::chain(&it))),
    }
    match journal::damages(&database, left) {
        Ok(journals) => damaged.extend(journals.into_iter().filter(|it| !it.unfinished).map(|it| {
            let what = format!("it is damaged at byte {}, and writes follow that were told", it.valid);
            (it.journal, what)
        })),
        Err(what) => damaged.push((database, what)),
    }
    damaged
}

impl Survey {
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            layout: 2,
            open: false,
            durability: None,
            left_abruptly: false,
            damaged_files: Vec::new(),
            census: None,
            not_opened: None,
            bytes: disk::bytes_in(path),
            file_system: disk::file_system(path),
            time_ahead: Duration::ZERO,
            reopened: 0,
        }
    }

    /// What is wrong or should be known, the worst first. What is unresolved because it was moved to another store is
    /// not.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |severity, code, what: String, remedy: &str| {
            findings.push(Finding { severity, code, what, remedy: remedy.to_owned() });
        };
        for (file, what) in &self.damaged_files {
            find(Severity::Error, "damaged-file", format!("{}: {what}", file.display()), REPAIR);
        }
        if let Some(why) = &self.not_opened {
            find(Severity::Error, "not-opened", format!("the files cannot be opened: {why}"), REPAIR);
        }
        if let Some(census) = &self.census {
            if census.unreadable > 0 || census.damaged_places > 0 {
                let what = format!(
                    "{} records cannot be read, and {} places in the files are damaged; their keys are refused, \
                     or their records are missing from listings",
                    census.unreadable, census.damaged_places
                );
                find(Severity::Error, "unreadable-records", what, REPAIR);
            }
            if let (Some((id, age)), Place::Here) = (census.oldest_unresolved, &census.place) {
                let what = format!(
                    "{} operations are unresolved, the oldest ({}) for {}",
                    census.count(Status::Unresolved),
                    id.prefix(),
                    humantime::format_duration(Duration::from_secs(age.as_secs()))
                );
                find(
                    Severity::Warning,
                    "unresolved",
                    what,
                    "look at them and decide: `onceward keys resolve`",
                );
            }
        }
        if self.durability == Some(Durability::Relaxed) {
            let what = "the store is relaxed: a power cut may take about the last second of writes, and those \
                        operations can run again";
            find(
                Severity::Warning,
                "relaxed",
                what.to_owned(),
                "remove durability=relaxed from the store URL",
            );
        }
        if self.time_ahead > AHEAD {
            let what = format!(
                "the store's time is {} ahead of the wall clock: it was once written under a clock that was \
                 wrong, or the clock is wrong now; what was kept before ends that much earlier",
                humantime::format_duration(Duration::from_secs(self.time_ahead.as_secs()))
            );
            find(
                Severity::Warning,
                "time-ahead",
                what,
                "keep the clock synchronised; the store stays ahead until the wall clock has caught up",
            );
        }
        if let Some(it) = &self.file_system {
            if let Some((what, remedy)) = it.objection() {
                find(Severity::Warning, "file-system", format!("it lies on {}: {what}", it.kind), remedy);
            }
            if it.free_bytes < FREE_BYTES_MIN {
                let what = format!("only {} MiB are free", it.free_bytes >> 20);
                find(
                    Severity::Warning,
                    "free-space",
                    what,
                    "make room; on a full disk operations are refused with 503",
                );
            }
        }
        if self.reopened > 0 {
            let what = format!("the store had to open its files again {} times after faults", self.reopened);
            find(Severity::Warning, "reopened", what, "look into the log for the cause, and at the disk");
        }
        if self.left_abruptly {
            let what = "it was left without an orderly end (a crash, a kill or a power cut)".to_owned();
            find(Severity::Note, "left-abruptly", what, "nothing: opening it checks more");
        }
        find(
            Severity::Note,
            "sync-unknown",
            "whether a sync really reaches the disk cannot be known from here".to_owned(),
            "use a disk that keeps what it acknowledged; test it by cutting its power",
        );
        findings.sort_by_key(|it| std::cmp::Reverse(it.severity));
        findings
    }
}

const REPAIR: &str =
    "stop the gateway, keep a copy of the directory, and see what `onceward doctor --repair` would do";

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "store        {}", self.path.display())?;
        writeln!(f, "layout       {}", self.layout)?;
        writeln!(
            f,
            "state        {}",
            match (self.open, self.left_abruptly) {
                (true, _) => "open",
                (false, true) => "closed, after a crash",
                (false, false) => "closed in order",
            }
        )?;
        if let Some(it) = self.durability {
            writeln!(f, "durability   {}", if it == Durability::Durable { "durable" } else { "relaxed" })?;
        }
        writeln!(f, "on the disk  {} MiB", self.bytes.div_ceil(1 << 20))?;
        if let Some(it) = &self.file_system {
            writeln!(f, "file system  {}, {} MiB free", it.kind, it.free_bytes >> 20)?;
        }
        let Some(census) = &self.census else { return Ok(()) };
        for (status, count) in census.by_status {
            writeln!(f, "{:<12} {count}{}", status.as_str(), if census.complete { "" } else { " or more" })?;
        }
        writeln!(f, "unreadable   {}", census.unreadable)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}
