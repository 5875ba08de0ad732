//! Writing: the committer's segment, and the files around it.
//!
//! A segment's blocks are allocated and written before frames go into them, a step ahead, and all of them once the file
//! is used again: then a sync has no metadata to write, which takes a third less time.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use onceward_core::Timestamp;

use crate::directory::sync_directory;
use crate::disk;
use crate::log::frame::{self, Change, HEAD_LEN, Kind};

/// On a small disk the segments, of which there are up to three, take no more than about a fifth of it.
const DISK_SHARE: u64 = 16;
/// How far ahead a new segment is filled with zeros.
const STEP: u64 = 1 << 20;
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// The log as it is written.
#[derive(Debug)]
pub(crate) struct Log {
    folder: PathBuf,
    segment_bytes: u64,
    /// The latest time that was stamped before it was begun.
    pub(crate) begun: Timestamp,
    /// The committer's alone; others look only at what is beside it.
    writer: Mutex<Writer>,
    /// Up to where the engine has everything, synced.
    drained: AtomicU64,
    /// The same, as far as a synced frame says so.
    noted: AtomicU64,
    /// How far the present segment is written.
    position: AtomicU64,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Writer {
    segment: Segment,
    sequence: u64,
    /// What the last frame says, and whether that frame is synced.
    unnoted: u64,
    frame: Vec<u8>,
}

/// A file that frames go into.
#[derive(Debug)]
struct Segment {
    number: u64,
    nonce: u64,
    file: File,
    position: u64,
    allocated: u64,
}

/// What is there beside the present segment.
#[derive(Debug, Default)]
struct Files {
    /// Segments that were left, oldest first, each with the sequence of its last frame.
    left: Vec<(u64, u64)>,
    /// The segment that comes next, made and synced.
    spare: Option<Segment>,
    newest: u64,
}

/// Begins a log behind everything up to the sequence `last`, which the engine has. Files of segments are numbered from
/// `number` on; those before are removed.
pub(crate) fn begin(
    folder: &Path,
    segment_bytes: u64,
    number: u64,
    last: u64,
    now: Timestamp,
) -> io::Result<Log> {
    if !folder.exists() {
        fs::create_dir(folder)?;
        sync_directory(folder.parent().unwrap_or(folder))?;
    }
    let disk_bytes = disk::file_system(folder).map_or(u64::MAX, |it| it.total_bytes);
    let segment_bytes = segment_bytes.min(disk_bytes / DISK_SHARE);
    let segment = Segment::make(folder, number, segment_bytes.min(STEP))?;
    let log = Log {
        folder: folder.to_owned(),
        segment_bytes,
        begun: now,
        writer: Mutex::new(Writer { segment, sequence: last, unnoted: 0, frame: Vec::new() }),
        drained: AtomicU64::new(last),
        noted: AtomicU64::new(last),
        position: AtomicU64::new(HEAD_LEN as u64),
        files: Mutex::new(Files { newest: number, ..Files::default() }),
    };
    // From here on nothing of an earlier segment is needed.
    log.mark(now)?;
    Ok(log)
}

/// The segments in `folder` with their numbers, oldest first. None when there is no such folder.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_stem().and_then(|it| it.to_str()).and_then(|it| it.parse::<u64>().ok());
        if let Some(number) = number.filter(|it| path == segment(folder, *it)) {
            segments.push((number, path));
        }
    }
    segments.sort();
    Ok(segments)
}

/// How many bytes of frames the segments in `folder` can hold: what an opening may have to move at most.
pub(crate) fn bytes(folder: &Path) -> u64 {
    let segments = segments(folder).unwrap_or_default();
    segments.iter().map(|it| fs::metadata(&it.1).map_or(0, |it| it.len())).sum()
}

fn segment(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.log"))
}

impl Segment {
    fn make(folder: &Path, number: u64, bytes: u64) -> io::Result<Self> {
        let file = File::create_new(segment(folder, number))?;
        let segment = Self::take(file, number, bytes)?;
        sync_directory(folder)?;
        Ok(segment)
    }

    /// Gives the file a new head and at least `bytes` of written blocks, and syncs it.
    fn take(mut file: File, number: u64, bytes: u64) -> io::Result<Self> {
        let nonce = frame::nonce();
        let had = file.metadata()?.len();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&frame::head(number, nonce))?;
        fill(&mut file, had.max(HEAD_LEN as u64), bytes)?;
        file.sync_all()?;
        let position = HEAD_LEN as u64;
        file.seek(SeekFrom::Start(position))?;
        Ok(Self { number, nonce, file, position, allocated: had.max(bytes) })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.position + bytes.len() as u64;
        if end > self.allocated {
            let enough = end.max(self.allocated * 2).min(end + STEP);
            fill(&mut self.file, self.allocated, enough)?;
            self.allocated = enough;
            self.file.seek(SeekFrom::Start(self.position))?;
        }
        self.file.write_all(bytes)?;
        self.position = end;
        Ok(())
    }
}

/// Writes zeros from `from` up to `to`.
fn fill(file: &mut File, from: u64, to: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut left = to.saturating_sub(from);
    while left > 0 {
        let part = usize::try_from(left).map_or(ZEROS.len(), |it| it.min(ZEROS.len()));
        file.write_all(&ZEROS[..part])?;
        left -= part as u64;
    }
    Ok(())
}

impl Log {
    /// Writes one group and gives its sequence; [`Log::sync`] makes it durable. When there is an error, what was
    /// written is as unknown as after a failed sync.
    pub(crate) fn write<'a>(
        &self,
        now: Timestamp,
        changes: impl Iterator<Item = Change<'a>>,
    ) -> io::Result<u64> {
        let mut writer = self.writer();
        self.turn(&mut writer, now)?;
        frame::begin(&mut writer.frame);
        for change in changes {
            frame::push(&mut writer.frame, change);
        }
        self.append(&mut writer, Kind::Group, now)
    }

    /// Makes all that was written durable. `fdatasync` is enough: it also writes the metadata without which the data
    /// could not be read back, such as the file's size (fdatasync(2)).
    pub(crate) fn sync(&self) -> io::Result<()> {
        let writer = self.writer();
        writer.segment.file.sync_data()?;
        self.noted.store(writer.unnoted, Ordering::Release);
        Ok(())
    }

    /// Notes durably up to where everything is drained.
    pub(crate) fn mark(&self, now: Timestamp) -> io::Result<()> {
        let mut writer = self.writer();
        frame::begin(&mut writer.frame);
        self.append(&mut writer, Kind::Mark, now)?;
        drop(writer);
        self.sync()
    }

    /// Goes over to the next segment once this one is long and that one is there. The one that is left is synced to
    /// its end before anything is written to the next.
    fn turn(&self, writer: &mut Writer, now: Timestamp) -> io::Result<()> {
        if writer.segment.position < self.segment_bytes {
            return Ok(());
        }
        let Some(next) = self.files().spare.take() else { return Ok(()) };
        frame::begin(&mut writer.frame);
        writer.frame.extend(next.number.to_le_bytes());
        let last = self.append(writer, Kind::End, now)?;
        writer.segment.file.sync_data()?;
        self.noted.store(writer.unnoted, Ordering::Release);
        self.files().left.push((writer.segment.number, last));
        writer.segment = next;
        Ok(())
    }

    fn append(&self, writer: &mut Writer, kind: Kind, now: Timestamp) -> io::Result<u64> {
        let Writer { segment, sequence, unnoted, frame } = writer;
        let drained = self.drained.load(Ordering::Acquire);
        frame::finish(frame, segment.nonce, kind, [*sequence + 1, drained, now.as_millis()]);
        segment.write(frame)?;
        (*sequence, *unnoted) = (*sequence + 1, drained);
        self.position.store(segment.position, Ordering::Relaxed);
        Ok(*sequence)
    }

    /// The sequence of the last frame.
    pub(crate) fn last(&self) -> u64 {
        self.writer().sequence
    }

    /// Whether the engine should sync what it has, for a segment waits for it.
    pub(crate) fn wants(&self, applied: u64) -> bool {
        let drained = self.drained.load(Ordering::Acquire);
        self.files().left.iter().any(|(_, last)| drained < *last && *last <= applied)
    }

    /// The engine has everything up to `sequence`, synced.
    pub(crate) fn drained(&self, sequence: u64) {
        self.drained.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Makes the next segment ready, from one that is no longer needed if there is one, and removes those too many.
    /// Done beside the committer.
    pub(crate) fn recycle(&self) -> io::Result<()> {
        let noted = self.noted.load(Ordering::Acquire);
        loop {
            let mut files = self.files();
            let old = files.left.first().copied().filter(|(_, last)| *last <= noted);
            let has_spare = files.spare.is_some();
            if old.is_none() && (has_spare || self.position.load(Ordering::Relaxed) < self.segment_bytes / 2)
            {
                return Ok(());
            }
            let number = files.newest + 1;
            if old.is_some() {
                files.left.remove(0);
            }
            if !has_spare {
                files.newest = number;
            }
            // Nobody else changes these files; the committer only takes the spare one.
            drop(files);
            if let Some((old, _)) = old.filter(|_| has_spare) {
                fs::remove_file(segment(&self.folder, old))?;
                sync_directory(&self.folder)?;
                continue;
            }
            let path = segment(&self.folder, number);
            let file = match old {
                Some((old, _)) => {
                    fs::rename(segment(&self.folder, old), &path)?;
                    File::options().write(true).open(&path)?
                }
                None => File::create_new(&path)?,
            };
            // One that had to grow goes back to its size.
            if file.metadata()?.len() > self.segment_bytes {
                file.set_len(self.segment_bytes)?;
            }
            let spare = Segment::take(file, number, self.segment_bytes)?;
            sync_directory(&self.folder)?;
            self.files().spare = Some(spare);
        }
    }

    /// Removes every segment older than the present one, which nothing needs any more.
    pub(crate) fn remove_older(&self) -> io::Result<()> {
        let number = self.writer().segment.number;
        for (_, path) in segments(&self.folder)?.into_iter().filter(|it| it.0 < number) {
            fs::remove_file(path)?;
        }
        sync_directory(&self.folder)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
