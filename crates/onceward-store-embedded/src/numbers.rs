//! Under which numbers the engine keeps the two tables: its directories and journals name tables by number.
//!
//! They are 1 and 2, unless a kill in the middle of the very first opening left a directory behind: the engine
//! deletes it and goes on counting.

use std::fs;
use std::io;
use std::path::Path;

use crate::contents::{Wrong, wrong};
use crate::engine::Files;

/// The numbers of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) records: u16,
    pub(crate) agenda: u16,
}

/// What is known about the tables of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Born {
    /// They were never all there: nothing was ever stored, and a kill can have left any part of them.
    No,
    /// They were made, but their numbers are not noted.
    Somehow,
    /// They were made under these numbers.
    As(Numbers),
}

impl Numbers {
    /// What the engine gives the tables of a new database.
    pub(crate) const USUAL: Self = Self { records: 1, agenda: 2 };

    /// Under which numbers the tables are open. None when the engine never gives such numbers.
    pub(crate) fn of(files: &Files) -> Option<Self> {
        let number = |it: &fjall::Keyspace| u16::try_from(it.id()).ok();
        Self { records: number(&files.records)?, agenda: number(&files.agenda)? }.in_order()
    }

    /// The engine counts up from 1, and the records are made first.
    fn in_order(self) -> Option<Self> {
        (0 < self.records && self.records < self.agenda).then_some(self)
    }

    /// As the file `TABLES` has them.
    pub(crate) fn to_text(self) -> String {
        format!("records {}\nagenda {}\n", self.records, self.agenda)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut number = |name| lines.next()?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        let it = Self { records: number("records")?, agenda: number("agenda")? };
        it.in_order().filter(|it| it.to_text() == text)
    }

    /// The numbers of the tables in `database` where they are not noted. When one of the two is lost it is taken
    /// for the neighbour of the other: records, or of the first table the agenda.
    pub(crate) fn found(database: &Path) -> Self {
        let folders = fs::read_dir(database.join("keyspaces")).into_iter().flatten().flatten();
        let numbers = folders.filter_map(|it| it.file_name().to_str()?.parse::<u16>().ok());
        let mut numbers: Vec<_> = numbers.filter(|it| *it > 0).collect();
        numbers.sort_unstable();
        match numbers[..] {
            [records, agenda, ..] => Self { records, agenda },
            [agenda] if agenda > 1 => Self { records: agenda - 1, agenda },
            [] | [_] => Self::USUAL,
        }
    }

    /// Both, in the order in which the engine makes the tables.
    pub(crate) fn both(self) -> [u16; 2] {
        [self.records, self.agenda]
    }

    /// Lets the engine give these numbers to the tables of the new database that it makes at `place` during
    /// `make`: it passes over numbers whose directories are there.
    pub(crate) fn lend<T>(self, place: &Path, make: impl FnOnce() -> T) -> io::Result<T> {
        let others = || (1..self.agenda).filter(|it| *it != self.records);
        let folder = |it: u16| place.join("keyspaces").join(it.to_string());
        for it in others() {
            fs::create_dir_all(folder(it))?;
        }
        let made = make();
        others().try_for_each(|it| fs::remove_dir(folder(it)))?;
        Ok(made)
    }
}

/// Whether the directories of all tables that were made are among those in `root`.
///
/// # Errors
/// One that is missing.
pub(crate) fn check(root: &Path, found: usize, born: Born) -> Result<(), Wrong> {
    let gone = |it: &u16| !root.join(it.to_string()).exists();
    let needed = match born {
        Born::No => return Ok(()),
        Born::Somehow => [0, 0, 0],
        Born::As(it) => [0, it.records, it.agenda],
    };
    match needed.into_iter().find(gone) {
        Some(it) => Err(wrong(&root.join(it.to_string()), "it is missing, with all that was in it")),
        None if found < needed.len() => Err(wrong(root, "a table is missing, with all that was in it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_noted_and_nothing_else_is() {
        let odd = Numbers { records: 7, agenda: 12 };
        assert_eq!(Numbers::parse(&odd.to_text()), Some(odd));
        for text in [
            "",
            "records, agenda\n",
            "records 7\n",
            "records 7\nagenda x\n",
            "records 7\nagenda 12",
            "records 7\nagenda 7\n",
        ] {
            assert_eq!(Numbers::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_that_are_not_noted_are_found_from_the_directories() {
        let folder = tempfile::tempdir().expect("a directory");
        let found = |names: &[&str]| {
            let database = folder.path().join(names.join("-"));
            for name in names {
                fs::create_dir_all(database.join("keyspaces").join(name)).expect("a directory");
            }
            Numbers::found(&database).both()
        };
        assert_eq!(found(&["0", "1", "2"]), [1, 2]);
        assert_eq!(found(&["0", "3", "10"]), [3, 10]);
        assert_eq!(found(&["0", "1"]), [1, 2]);
        assert_eq!(found(&["0", "3"]), [2, 3]);
        assert_eq!(found(&["0"]), [1, 2]);
    }
}
