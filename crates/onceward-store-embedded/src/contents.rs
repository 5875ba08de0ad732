//! The engine's tables of contents, looked at before the engine does.
//!
//! It takes some of them on trust (fjall 3.1, lsm-tree 3.1, sfa 1.0): a damaged number of entries becomes an
//! allocation of 171 GB that ends the process; a table whose `current` is missing is taken for unfinished and is
//! deleted. Here all of that is an error that names the file. Nothing is changed.
//!
//! ```text
//! keyspaces/N/current     version (u64), XXH3-128 of vVERSION (u128), 0
//! keyspaces/N/vVERSION    which table files there are, each with its XXH3-128
//! keyspaces/N/tables/ID   records: sections, table of contents, trailer
//! ```
//! A file of sections ends with its table of contents (`TOC!`, number of entries (u32); each: position, length
//! (u64), length of name (u16), name) and a trailer: `SFA!`, 1, 0, XXH3-128 of the table of contents, its position
//! and length (u64). Integers are little-endian.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::numbers::{self, Born};

const TRAILER_LEN: usize = 38;
/// No table of contents of the engine comes near this.
const CONTENTS_LEN_MAX: u64 = 1 << 20;
/// No list of table files does.
const VERSION_LEN_MAX: u64 = 64 << 20;

/// A file that is not as it must be, and in which way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

/// A table file as the engine listed it when it wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) file: PathBuf,
    checksum: u128,
}

/// What must hold before the engine may open `database`, of whose tables so much is known.
///
/// # Errors
/// The first file that is wrong.
pub(crate) fn check(database: &Path, born: Born) -> Result<(), Wrong> {
    let mut all = tables(database, born)?;
    all.try_for_each(|folder| {
        for table in listed(&folder?)? {
            contents(&table.file)?;
        }
        Ok(())
    })
}

/// Every table file that is not as it was written, or cannot be read. Reads all of them.
pub(crate) fn damaged(database: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let mut damaged = Vec::new();
    for folder in tables(database, Born::No)? {
        let files = listed(&folder?)?.into_iter();
        damaged.extend(files.filter(|it| !it.is_whole().unwrap_or(false)).map(|it| it.file));
    }
    Ok(damaged)
}

/// The directories of the tables, each with its `current`.
pub(crate) fn tables(
    database: &Path,
    born: Born,
) -> Result<impl Iterator<Item = Result<PathBuf, Wrong>>, Wrong> {
    let root = database.join("keyspaces");
    let mut folders = numbered(&root)?;
    numbers::check(&root, folders.len(), born)?;
    folders.sort();
    // The engine deletes such a table; that is right only where nothing was ever in it.
    let unborn = move |it: &PathBuf| {
        born == Born::No
            && !it.join("current").exists()
            && fs::read_dir(it.join("tables")).map_or(0, Iterator::count) == 0
    };
    folders.retain(|it| !unborn(it));
    Ok(folders.into_iter().map(|it| {
        if it.join("current").exists() {
            return Ok(it);
        }
        Err(wrong(
            &it.join("current"),
            "it is missing; the engine would take the table for empty and delete it",
        ))
    }))
}

/// The table files of a table, as its list says.
pub(crate) fn listed(folder: &Path) -> Result<Vec<Listed>, Wrong> {
    // Files that are not listed are leftovers of an unfinished write; the engine removes them.
    numbered(&folder.join("tables"))?;
    let current = folder.join("current");
    let bytes = fs::read(&current).map_err(|it| wrong(&current, &it.to_string()))?;
    let Ok(bytes) = <[u8; 25]>::try_from(bytes) else { return Err(wrong(&current, "it is damaged")) };
    let mut bytes = &bytes[..];
    let (Some(version), Some(sum), Some([0])) = (number(&mut bytes), sum(&mut bytes), take(&mut bytes))
    else {
        return Err(wrong(&current, "it is damaged"));
    };
    let file = folder.join(format!("v{version}"));
    if fs::metadata(&file).is_ok_and(|it| it.len() > VERSION_LEN_MAX) {
        return Err(wrong(&file, "it is damaged: it is far too long"));
    }
    let bytes = fs::read(&file).map_err(|it| wrong(&file, &it.to_string()))?;
    if xxh3_128(&bytes) != sum {
        return Err(wrong(&file, "it is damaged: its checksum is not the one that `current` has"));
    }
    let sections = contents(&file)?;
    let section = sections.iter().find(|it| it.name == b"tables").and_then(|it| it.of(&bytes));
    let Some(ids) = section.and_then(table_ids) else {
        return Err(wrong(&file, "its list of table files cannot be read"));
    };
    let path = |id: u64| folder.join("tables").join(id.to_string());
    Ok(ids.into_iter().map(|(id, checksum)| Listed { file: path(id), checksum }).collect())
}

impl Listed {
    /// Whether the file is the one that was written, by its checksum. Reads all of it.
    pub(crate) fn is_whole(&self) -> io::Result<bool> {
        let (mut file, mut hash, mut buffer) = (File::open(&self.file)?, Xxh3::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.digest128() == self.checksum),
                read => hash.update(&buffer[..read]),
            }
        }
    }
}

impl Listed {
    /// A file that no list names any more, if it looks like a table file.
    pub(crate) fn found(file: PathBuf) -> Result<Self, Wrong> {
        contents(&file)?;
        let bytes = fs::read(&file).map_err(|it| wrong(&file, &it.to_string()))?;
        Ok(Self { checksum: xxh3_128(&bytes), file })
    }
}

/// Whether the file says what is in it. Its contents are not looked at.
pub(crate) fn is_readable(file: &Path) -> Result<(), Wrong> {
    contents(file).map(|_| ())
}

/// Lets a table consist of `files`, which lie in its directory. Where they were does not matter to a reader that
/// goes through all of them in order, for every row has its sequence number.
pub(crate) fn relist(folder: &Path, files: &[Listed]) -> io::Result<()> {
    let damaged = || io::Error::other("the new list cannot be read");
    let current = fs::read(folder.join("current"))?;
    let version = number(&mut &current[..]).ok_or_else(damaged)?;
    let list = folder.join(format!("v{version}"));
    let old = fs::read(&list)?;
    let sections = contents(&list).map_err(|it| io::Error::other(it.what))?;
    let (mut new, mut contents) = (Vec::new(), Vec::new());
    for section in &sections {
        let start = new.len();
        match &section.name[..] {
            b"tables" => new.extend(runs(files)),
            _ => new.extend(section.of(&old).ok_or_else(damaged)?),
        }
        contents.extend((start as u64).to_le_bytes());
        contents.extend(((new.len() - start) as u64).to_le_bytes());
        contents.extend(u16::try_from(section.name.len()).map_err(io::Error::other)?.to_le_bytes());
        contents.extend(&section.name);
    }
    let count = u32::try_from(sections.len()).map_err(io::Error::other)?.to_le_bytes();
    let contents = [&b"TOC!"[..], &count, &contents].concat();
    let (position, length) = (new.len() as u64, contents.len() as u64);
    new.extend(&contents);
    new.extend(b"SFA!\x01\x00");
    new.extend(xxh3_128(&contents).to_le_bytes());
    new.extend(position.to_le_bytes());
    new.extend(length.to_le_bytes());
    fs::write(&list, &new)?;
    let current = [&version.to_le_bytes()[..], &xxh3_128(&new).to_le_bytes(), &[0]].concat();
    fs::write(folder.join("current"), current)
}

/// Every file a run of its own, spread over seven levels, each of which holds at most 255 runs.
fn runs(files: &[Listed]) -> Vec<u8> {
    const LEVELS: u8 = 7;
    let mut bytes = vec![LEVELS];
    let mut chunks = files.chunks(usize::from(u8::MAX));
    for _ in 0..LEVELS {
        let chunk = chunks.next().unwrap_or_default();
        bytes.push(u8::try_from(chunk.len()).unwrap_or(u8::MAX));
        for Listed { file, checksum } in chunk {
            let id = file.file_name().and_then(|it| it.to_str()).and_then(|it| it.parse::<u64>().ok());
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(id.unwrap_or_default().to_le_bytes());
            bytes.push(0);
            bytes.extend(checksum.to_le_bytes());
            bytes.extend(0_u64.to_le_bytes());
        }
    }
    bytes
}

struct Section {
    name: Vec<u8>,
    position: u64,
    length: u64,
}

impl Section {
    fn of<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.position).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(self.length).ok()?)?)
    }
}

/// The sections of a file, once its table of contents proved to be what was written.
fn contents(path: &Path) -> Result<Vec<Section>, Wrong> {
    let read = || -> io::Result<Option<Vec<Section>>> {
        let mut file = File::open(path)?;
        let Some(end) = file.metadata()?.len().checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
        file.seek(SeekFrom::Start(end))?;
        let mut trailer = [0; TRAILER_LEN];
        file.read_exact(&mut trailer)?;
        let mut trailer = &trailer[..];
        let (Some(b"SFA!\x01\x00"), Some(checksum), Some(position), Some(length)) =
            (take::<6>(&mut trailer).as_ref(), sum(&mut trailer), number(&mut trailer), number(&mut trailer))
        else {
            return Ok(None);
        };
        if length > CONTENTS_LEN_MAX || position.checked_add(length) != Some(end) {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(position))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok((xxh3_128(&bytes) == checksum).then(|| sections(&bytes, position)).flatten())
    };
    match read() {
        Ok(Some(sections)) => Ok(sections),
        Ok(None) => Err(wrong(path, "its table of contents is damaged or cut off")),
        Err(error) => Err(wrong(path, &error.to_string())),
    }
}

fn sections(mut bytes: &[u8], end: u64) -> Option<Vec<Section>> {
    let bytes = &mut bytes;
    let [b'T', b'O', b'C', b'!', count @ ..] = take::<8>(bytes)? else { return None };
    let mut sections = Vec::new();
    for _ in 0..u32::from_le_bytes(count) {
        let (position, length) = (number(bytes)?, number(bytes)?);
        let name_len = usize::from(u16::from_le_bytes(take(bytes)?));
        let name;
        (name, *bytes) = bytes.split_at_checked(name_len)?;
        position.checked_add(length).filter(|it| *it <= end)?;
        sections.push(Section { name: name.to_vec(), position, length });
    }
    bytes.is_empty().then_some(sections)
}

/// Levels of runs of table files: id (u64), 0, checksum (u128), a number that is not needed (u64).
fn table_ids(mut bytes: &[u8]) -> Option<Vec<(u64, u128)>> {
    let (bytes, mut ids) = (&mut bytes, Vec::new());
    let [levels] = take(bytes)?;
    for _ in 0..levels {
        let [runs] = take(bytes)?;
        for _ in 0..runs {
            for _ in 0..u32::from_le_bytes(take(bytes)?) {
                let id = number(bytes)?;
                let ([0], checksum) = (take(bytes)?, sum(bytes)?) else { return None };
                number(bytes)?;
                ids.push((id, checksum));
            }
        }
    }
    Some(ids)
}

/// What lies in `folder`, when each name is a number; the engine takes nothing else.
fn numbered(folder: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let entries = match fs::read_dir(folder) {
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|it| wrong(folder, &it.to_string()))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|it| wrong(folder, &it.to_string()))?.path();
        let name = path.file_name().and_then(|it| it.to_str());
        if name.and_then(|it| it.parse::<u64>().ok()).is_none() {
            return Err(wrong(&path, "it does not belong there; move it away"));
        }
        paths.push(path);
    }
    Ok(paths)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_le_bytes)
}

fn sum(bytes: &mut &[u8]) -> Option<u128> {
    take(bytes).map(u128::from_le_bytes)
}

pub(crate) fn wrong(file: &Path, what: &str) -> Wrong {
    Wrong { file: file.to_owned(), what: what.to_owned() }
}
