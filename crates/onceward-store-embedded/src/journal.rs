//! Looks at the engine's journals before the engine does.
//!
//! After a power cut the last batch, which nobody was told of, may be there in part: begun and not ended, or
//! whole but for a block in its middle. The engine (fjall 3.1) discards the first kind; it refuses to start
//! over the second, and over a damaged *earlier* batch it may silently discard all that follows, which callers
//! were told of. So: what can only be an unfinished write is cut off here, any other damage is refused.
//!
//! A batch is: 1, number of entries (u32), sequence number (u64); the entries; 3, XXH3 of the entries (u64),
//! `FJL` 3. An entry is: 2, kind (u8), compression (u8), table (u64), lengths of key (u16), of value (u32) and
//! of stored value (u32), key, stored value; or 4, table (u64). Integers are little-endian. Behind the last
//! batch lie zeros or nothing.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::behind::more_behind;
use crate::directory::sync_directory;
use crate::settings::Durability;

pub(crate) const MAGIC: &[u8; 4] = b"FJL\x03";

/// How the directory was left the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Everything was synced: no batch can be unfinished.
    InOrder,
    /// In the middle of it. Every batch but the last was synced before the next began; or, relaxed, several
    /// of the last ones were not.
    Abruptly(Durability),
}

/// A journal that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) journal: PathBuf,
    /// Up to where it is whole, in bytes.
    pub(crate) valid: u64,
    /// Whether the rest can only be a write that was not finished.
    pub(crate) unfinished: bool,
}

/// Cuts off what was not finished.
///
/// # Errors
/// Damage that cannot be an unfinished write, in words. Nothing was changed.
pub(crate) fn check(database: &Path, left: Left) -> Result<(), String> {
    let damages = damages(database, left)?;
    if let Some(Damage { journal, valid, .. }) = damages.iter().find(|it| !it.unfinished) {
        return Err(format!("the journal {} is damaged at byte {valid}", journal.display()));
    }
    for Damage { journal, valid, .. } in damages {
        tracing::warn!(journal = %journal.display(), at = valid, "an unfinished write was cut off");
        let cut = || {
            let file = File::options().write(true).open(&journal)?;
            file.set_len(valid)?;
            file.sync_all()
        };
        cut().map_err(|it| format!("{}: {it}", journal.display()))?;
    }
    Ok(())
}

/// Every journal that is not whole, the newest first. Nothing is changed.
pub(crate) fn damages(database: &Path, left: Left) -> Result<Vec<Damage>, String> {
    let mut journals = Vec::new();
    let mut last = None;
    for journal in oldest_first(database).map_err(|it| it.to_string())? {
        let extent = extent(&journal, last).map_err(|it| format!("{}: {it}", journal.display()))?;
        last = extent.last;
        journals.push((journal, extent));
    }
    let (mut nothing_newer, mut damages) = (true, Vec::new());
    for (journal, extent) in journals.into_iter().rev() {
        if extent.damaged {
            let unfinished = nothing_newer
                && match left {
                    Left::InOrder => false,
                    Left::Abruptly(Durability::Relaxed) => true,
                    Left::Abruptly(Durability::Durable) => {
                        let rest = rest(&journal, extent.valid);
                        let rest = rest.map_err(|it| format!("{}: {it}", journal.display()))?;
                        !more_behind(&rest, extent.last)
                    }
                };
            damages.push(Damage { journal, valid: extent.valid, unfinished });
        }
        nothing_newer &= extent.valid == 0;
    }
    Ok(damages)
}

/// Copies the whole part of every journal into `to`.
pub(crate) fn copy_whole(database: &Path, to: &Path) -> io::Result<()> {
    for journal in oldest_first(database)? {
        let Some(name) = journal.file_name() else { continue };
        let valid = extent(&journal, None)?.valid;
        let mut copy = File::create(to.join(name))?;
        io::copy(&mut File::open(&journal)?.take(valid), &mut copy)?;
        copy.sync_all()?;
    }
    Ok(())
}

/// Begins a new journal behind the ones that are there, so that the engine only reads those and removes each
/// once all of it is in table files.
///
/// After a failed sync the system may take pages of a journal for clean that the disk never got. Written on, that
/// journal would have a hole in front of what callers are told; and a thread of the engine that was not quite
/// at its end could still write to it.
pub(crate) fn seal(database: &Path) -> io::Result<()> {
    let Some(newest) = oldest_first(database)?.pop() else { return Ok(()) };
    if fs::metadata(&newest)?.len() == 0 {
        return Ok(());
    }
    let number = newest.file_stem().and_then(|it| it.to_str()).and_then(|it| it.parse::<u64>().ok());
    let Some(next) = number.and_then(|it| it.checked_add(1)) else { return Ok(()) };
    File::create_new(database.join(format!("{next}.jnl")))?.sync_all()?;
    sync_directory(database)
}

/// Whether this process still has a journal or a segment of the log in `root` open, where the system can tell (Linux).
pub(crate) fn is_held(root: &Path) -> bool {
    let (Ok(root), Ok(open)) = (root.canonicalize(), fs::read_dir("/proc/self/fd")) else {
        return false;
    };
    let mut files = open.flatten().filter_map(|it| fs::read_link(it.path()).ok());
    files.any(|it| it.starts_with(&root) && it.extension().is_some_and(|it| it == "jnl" || it == "log"))
}

/// The journals are named by growing numbers.
fn oldest_first(database: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(database) {
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut journals = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_stem().and_then(|it| it.to_str()).and_then(|it| it.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|it| it == "jnl")) {
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|it| it.1).collect())
}

/// How far a journal is whole, and whether anything but zeros follows.
struct Extent {
    valid: u64,
    /// The sequence number of the last batch up to here, older journals included.
    last: Option<u64>,
    damaged: bool,
}

fn extent(journal: &Path, mut last: Option<u64>) -> io::Result<Extent> {
    let mut input = BufReader::with_capacity(1 << 16, File::open(journal)?);
    let mut valid = 0;
    while let Some(batch) = whole_batch(&mut input)? {
        valid += batch.bytes;
        last = Some(batch.sequence);
    }
    input.seek(SeekFrom::Start(valid))?;
    Ok(Extent { valid, last, damaged: !only_zeros(&mut input)? })
}

fn only_zeros(input: &mut impl Read) -> io::Result<bool> {
    // A new journal is 64 MiB of zeros, so they are compared as a block.
    let (zeros, mut buffer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(true),
            read if buffer[..read] != zeros[..read] => return Ok(false),
            _ => {}
        }
    }
}

/// What follows the whole batches, without the zeros at its end.
fn rest(journal: &Path, valid: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(journal)?;
    file.seek(SeekFrom::Start(valid))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    rest.truncate(rest.iter().rposition(|it| *it != 0).map_or(0, |it| it + 1));
    Ok(rest)
}

/// A whole batch: its length in bytes and its sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) bytes: u64,
    pub(crate) sequence: u64,
}

/// The batch that stands here; `None` when none does, or not all of it, or not unchanged.
pub(crate) fn whole_batch(input: &mut impl Read) -> io::Result<Option<Batch>> {
    let mut input = Counted { input, bytes: 0 };
    match input.batch() {
        Ok(sequence) => Ok(sequence.map(|sequence| Batch { bytes: input.bytes, sequence })),
        Err(it) if it.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(it) => Err(it),
    }
}

struct Counted<'a, R> {
    input: &'a mut R,
    bytes: u64,
}

impl<R: Read> Counted<'_, R> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.bytes += N as u64;
        Ok(bytes)
    }

    /// The sequence number of a batch that is whole. The engine writes none without entries.
    fn batch(&mut self) -> io::Result<Option<u64>> {
        let [tag] = self.take()?;
        if tag != 1 {
            return Ok(None);
        }
        let entries = u32::from_le_bytes(self.take()?);
        let sequence = u64::from_le_bytes(self.take()?);
        let mut hash = Xxh3::new();
        for _ in 0..entries {
            if !self.entry(&mut hash)? {
                return Ok(None);
            }
        }
        let [tag] = self.take()?;
        let expected = u64::from_le_bytes(self.take()?);
        let whole = entries > 0 && tag == 3 && expected == hash.digest() && self.take::<4>()? == *MAGIC;
        Ok(whole.then_some(sequence))
    }

    fn entry(&mut self, hash: &mut Xxh3) -> io::Result<bool> {
        let [tag] = self.take()?;
        hash.update(&[tag]);
        match tag {
            2 => {
                let head: [u8; 20] = self.take()?;
                hash.update(&head);
                let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = head;
                let key = u64::from(u16::from_le_bytes([k0, k1]));
                self.body(key + u64::from(u32::from_le_bytes([v0, v1, v2, v3])), hash)?;
            }
            4 => hash.update(&self.take::<8>()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn body(&mut self, mut left: u64, hash: &mut Xxh3) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while left > 0 {
            let part = usize::try_from(left).map_or(buffer.len(), |it| it.min(buffer.len()));
            self.input.read_exact(&mut buffer[..part])?;
            hash.update(&buffer[..part]);
            left -= part as u64;
            self.bytes += part as u64;
        }
        Ok(())
    }
}
