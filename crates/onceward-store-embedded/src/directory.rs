//! The directory: who may use it, which layout it has, and whether it was left in order.
//!
//! ```text
//! LOCK     locked by the process that uses the directory; holds its process id
//! FORMAT   the version of this layout
//! IN-USE   there from opening to an orderly close; says which durability writes have meanwhile
//! TABLES   there once the engine's tables were made, with their numbers: from then on none may be missing
//! ROOM     there for a moment after a fault: whether the disk has room again
//! log/     what every write is in first, see [`log`](crate::log)
//! db/      the engine's files
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk;
use crate::journal::{self, Left};
use crate::lock::lock;
use crate::log::{self, Needs};
use crate::numbers::{Born, Numbers};
use crate::settings::Durability;

const FORMAT: &str = "onceward embedded store, layout 2\n";
/// Without a log. It is opened, and becomes the present one before the first write goes into the log: a build that
/// knows no log must not pass over it.
const FORMAT_WITHOUT_LOG: &str = "onceward embedded store, layout 1\n";
const IN_USE: &str = "IN-USE";
const TABLES: &str = "TABLES";
const ROOM: &str = "ROOM";
/// What must be free before a store that ran out of room takes calls again: enough that it does not stop at
/// the very next write.
const ROOM_BYTES: usize = 4 << 20;
static ROOM_STEP: [u8; 1 << 16] = [0xa5; 1 << 16];

/// How long it was waited, unless it was not.
fn waited_for(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" and was not left within {waited:?}") }
}

/// Why a directory could not be opened. Nothing in it was changed, unless it was new.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the directory.
    #[error(
        "the store directory {path} is in use by {holder}{}; stop that \
         process, or give this one a directory of its own if the two protect different services",
        waited_for(*waited)
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as its lock file says.
        holder: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The directory has a layout that this build does not know.
    #[error("the store directory {path} has {found}; {remedy}")]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The operating system refused.
    #[error("failed to {doing} {path}; look at the permissions and the free space there")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stored files could not be opened.
    #[error(
        "failed to open the files in {path}: {cause}; keep a copy of the directory, then see what \
         `onceward doctor --repair` would do"
    )]
    Files {
        /// The directory.
        path: PathBuf,
        /// What is wrong with them.
        cause: String,
    },
}

/// A directory that this process has to itself, until this is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    /// The lock ends when the file is closed, also by the end of the process.
    lock: File,
}

/// What a newer build wrote is not damaged, so this one neither repairs nor replaces it.
pub(crate) fn newer(path: &Path, count: usize) -> OpenError {
    OpenError::Layout {
        path: path.to_owned(),
        found: format!("{count} records that a newer version of Onceward wrote"),
        remedy: "nothing was changed; go on with that version, or go back to a copy from before it",
    }
}

impl Directory {
    /// Makes the directory if need be and waits for it. Blocks for up to `wait`.
    pub(crate) fn claim(root: &Path, wait: Duration) -> Result<Self, OpenError> {
        make(root)?;
        let lock = lock(root, wait)?;
        let it = Self { root: root.to_owned(), lock };
        it.check_format()?;
        Ok(it)
    }

    /// Claims a directory that is there, and changes nothing in it.
    pub(crate) fn claim_existing(root: &Path, wait: Duration) -> Result<Self, OpenError> {
        if !root.join("FORMAT").exists() {
            return Err(OpenError::Layout {
                path: root.to_owned(),
                found: "no FORMAT file".to_owned(),
                remedy: "name a directory that the store has made",
            });
        }
        Self::claim(root, wait)
    }

    /// Whether what now lies at its path is still the directory that was claimed. An empty place where a file system
    /// was mounted, or a copy from before, knows nothing of what callers were told.
    pub(crate) fn is_in_place(&self) -> Result<(), OpenError> {
        let path = self.root.join("LOCK");
        let found = fs::metadata(&path).map_err(refused("find the directory again by", &path))?;
        let held = self.lock.metadata().map_err(refused("look at", &path))?;
        if is_same(&held, &found) && self.born()? != Born::No {
            return Ok(());
        }
        let cause = "another directory lies in its place; put back the one that the store was using, or restart \
                     to use this one, which knows nothing of the operations that it does not hold";
        Err(OpenError::Files { path: self.root.clone(), cause: cause.to_owned() })
    }

    /// How the directory was left the last time. Changes nothing.
    pub(crate) fn left(&self) -> Result<Left, OpenError> {
        let mark = self.root.join(IN_USE);
        match fs::read_to_string(&mark) {
            Ok(it) if it == word(Durability::Relaxed) => Ok(Left::Abruptly(Durability::Relaxed)),
            Ok(_) => Ok(Left::Abruptly(Durability::Durable)),
            Err(it) if it.kind() == io::ErrorKind::NotFound => Ok(Left::InOrder),
            Err(source) => Err(refused("read", &mark)(source)),
        }
    }

    /// Where the engine keeps its files.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("db")
    }

    /// Where the log lies.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join(log::FOLDER)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether something may be in a log and nowhere else.
    pub(crate) fn needs(&self) -> Result<Needs, OpenError> {
        let path = self.root.join("FORMAT");
        let format = fs::read_to_string(&path).map_err(refused("read", &path))?;
        let born = self.born()? != Born::No;
        Ok(if born && format == FORMAT { Needs::Log } else { Needs::Nothing })
    }

    /// Notes that there is a log from now on.
    pub(crate) fn has_log(&self) -> Result<(), OpenError> {
        let path = self.root.join("FORMAT");
        let format = fs::read_to_string(&path).map_err(refused("read", &path))?;
        if format == FORMAT { Ok(()) } else { self.replace("FORMAT", FORMAT) }
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let path = self.root.join("FORMAT");
        match fs::read_to_string(&path) {
            Ok(found) if found == FORMAT || found == FORMAT_WITHOUT_LOG => self.discard_unborn(),
            Ok(found) => Err(OpenError::Layout {
                path: self.root.clone(),
                found: format!("the format {:?}", found.chars().take(60).collect::<String>().trim_end()),
                remedy: "open it with the version of Onceward that wrote it",
            }),
            Err(it) if it.kind() == io::ErrorKind::NotFound && self.database().exists() => {
                Err(OpenError::Layout {
                    path: self.root.clone(),
                    found: "stored files but no FORMAT file".to_owned(),
                    remedy: "put the FORMAT file back, or name another directory",
                })
            }
            Err(it) if it.kind() == io::ErrorKind::NotFound => self.replace("FORMAT", FORMAT),
            Err(source) => Err(refused("read", &path)(source)),
        }
    }

    /// Written beside and renamed: a crash leaves all of it or nothing.
    fn replace(&self, name: &str, text: &str) -> Result<(), OpenError> {
        let (path, beside) = (self.root.join(name), self.root.join(format!("{name}.new")));
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_directory(&self.root)
        };
        write().map_err(refused("write", &path))
    }

    /// A kill or a power cut in the middle of the very first opening leaves the engine's directory without its version
    /// file, or with a part of it or zeros, and without a table, and the engine refuses that one for ever. There was
    /// never a record in it: the version file is synced before the first table is made.
    fn discard_unborn(&self) -> Result<(), OpenError> {
        let database = self.database();
        let tables = fs::read_dir(database.join("keyspaces")).map_or(0, Iterator::count);
        let has_version = fs::read(database.join("version")).is_ok_and(|it| it == journal::MAGIC);
        if self.born()? == Born::No && database.exists() && !has_version && tables == 0 {
            fs::remove_dir_all(&database).map_err(refused("remove the unfinished", &database))?;
        }
        Ok(())
    }

    /// Notes how the directory is used from now on, once everything that was left is on the disk.
    pub(crate) fn settle(&self, durability: Durability) -> Result<(), OpenError> {
        self.replace(IN_USE, word(durability))
    }

    /// Whether the tables were made, and under which numbers. Until then a kill can leave any part of them.
    pub(crate) fn born(&self) -> Result<Born, OpenError> {
        let path = self.root.join(TABLES);
        match fs::read(&path) {
            // Another text is from before the numbers were noted.
            Ok(it) => Ok(str::from_utf8(&it).ok().and_then(Numbers::parse).map_or(Born::Somehow, Born::As)),
            Err(it) if it.kind() == io::ErrorKind::NotFound => Ok(Born::No),
            Err(source) => Err(refused("read", &path)(source)),
        }
    }

    /// The numbers of the tables, noted or not.
    pub(crate) fn numbers(&self) -> Result<Numbers, OpenError> {
        match self.born()? {
            Born::As(it) => Ok(it),
            Born::No | Born::Somehow => Ok(Numbers::found(&self.database())),
        }
    }

    /// Notes that the tables were made under these numbers.
    ///
    /// # Errors
    /// Also when others are noted: then these are new and empty ones, made in place of those.
    pub(crate) fn bear(&self, numbers: Numbers) -> Result<(), OpenError> {
        match self.born()? {
            Born::As(noted) if noted == numbers => Ok(()),
            Born::As(noted) => {
                let cause = format!("the tables {:?} are gone; {:?} are new", noted.both(), numbers.both());
                Err(OpenError::Files { path: self.root.clone(), cause })
            }
            Born::No | Born::Somehow => self.replace(TABLES, &numbers.to_text()),
        }
    }

    /// Whether there is room to go on: a file of [`ROOM_BYTES`] can be written and synced, and what the log holds fits
    /// twice, into the journal and the tables of the engine. The file is removed again.
    pub(crate) fn has_room(&self) -> Result<(), OpenError> {
        let path = self.root.join(ROOM);
        let free = disk::file_system(&self.root).map_or(u64::MAX, |it| it.free_bytes);
        let write = || {
            // So that a full disk is not filled to its last byte at every try.
            if free < ROOM_BYTES as u64 + 2 * log::bytes(&self.log()) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let mut file = File::create(&path)?;
            for _ in 0..ROOM_BYTES / ROOM_STEP.len() {
                file.write_all(&ROOM_STEP)?;
            }
            file.sync_all()
        };
        let written = write();
        let removed = self.give_back_room();
        written.map_err(refused("make sure of the room that is needed, by writing", &path))?;
        removed
    }

    /// Removes what a kill in [`Directory::has_room`] left.
    pub(crate) fn give_back_room(&self) -> Result<(), OpenError> {
        let path = self.root.join(ROOM);
        match fs::remove_file(&path) {
            Err(it) if it.kind() != io::ErrorKind::NotFound => Err(refused("remove", &path)(it)),
            _ => Ok(()),
        }
    }

    /// Like [`Directory::leave`], however the directory was left before.
    pub(crate) fn leave_if_in_use(&self) -> io::Result<()> {
        if self.root.join(IN_USE).exists() { self.leave() } else { Ok(()) }
    }

    /// Notes that everything is on the disk.
    pub(crate) fn leave(&self) -> io::Result<()> {
        fs::remove_file(self.root.join(IN_USE))?;
        sync_directory(&self.root)
    }
}

/// Makes `root` and what is above it, and sees to it that a power cut does not take the new directories away
/// again together with the records in them.
fn make(root: &Path) -> Result<(), OpenError> {
    let missing: Vec<_> =
        root.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).collect();
    for path in missing.into_iter().rev() {
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        private(path)
            .or_else(|it| if path.is_dir() { Ok(()) } else { Err(it) })
            .and_then(|()| sync_directory(parent))
            .map_err(refused("make the directory", path))?;
    }
    Ok(())
}

/// Answers can be anybody's secrets: the directory is for this user alone.
#[cfg(unix)]
fn private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(not(unix))]
fn private(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

#[cfg(unix)]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Elsewhere a directory whose files are in use cannot be moved away.
#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Durable => "durable\n",
        Durability::Relaxed => "relaxed\n",
    }
}

pub(crate) fn refused(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Refused { doing, path: path.to_owned(), source }
}

#[cfg(unix)]
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Only Unix can sync a directory.
#[cfg(not(unix))]
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
