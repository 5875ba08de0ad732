//! Reading a log that was left: what of it is needed, and whether all of that is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use onceward_core::Timestamp;

use crate::contents::{Wrong, wrong};
use crate::journal::Left;
use crate::log::frame::{self, Frame, HEAD_LEN, Kind};
use crate::log::write::segments;
use crate::settings::Durability;

/// Whether a log must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Something was told that may be nowhere else.
    Log,
    /// Nothing was ever written to a log, as far as is known: the directory is new, or of a build that had none.
    Nothing,
}

/// What is in a log.
#[derive(Debug, Default)]
pub(crate) struct Read {
    segments: Vec<Segment>,
    /// The sequence up to which the engine has everything.
    drained: u64,
    /// The sequence of the last frame.
    pub(crate) last: u64,
    /// The latest time that is stamped in it.
    pub(crate) now: Timestamp,
    /// The highest number of a segment.
    pub(crate) newest: u64,
    /// What is missing of what was told, each with the file it should be in. Empty when the log is whole.
    pub(crate) damages: Vec<Wrong>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    /// `None` when the head is not whole.
    nonce: Option<u64>,
    bytes: Vec<u8>,
    /// Whole frames, also those behind a bad place.
    frames: Vec<Frame>,
    /// Where the first run of whole frames ends.
    valid: usize,
    /// How many frames are in that run.
    run: usize,
}

impl Segment {
    fn read(number: u64, path: PathBuf) -> io::Result<Self> {
        let bytes = fs::read(&path)?;
        let nonce = frame::nonce_of(&bytes, number);
        let (mut valid, mut frames) = (HEAD_LEN, Vec::new());
        let mut run = 0;
        if let Some(nonce) = nonce {
            while let Some(it) = frame::frame(&bytes, valid, nonce) {
                valid = it.body.end;
                frames.push(it);
            }
            run = frames.len();
            frames.extend(frame::frames_behind(&bytes, valid, nonce));
        }
        Ok(Self { number, path, nonce, bytes, frames, valid, run })
    }

    fn next(&self) -> Option<u64> {
        let last = self.frames.last().filter(|it| it.kind == Kind::End)?;
        frame::next(&self.bytes[last.body.clone()])
    }
}

/// Reads all segments in `folder`; nothing is changed.
///
/// # Errors
/// A file that cannot be read. Damage is no error but stands in what is returned.
pub(crate) fn read(folder: &Path, left: Left, needs: Needs) -> Result<Read, Wrong> {
    let mut log = Read::default();
    for (number, path) in segments(folder).map_err(|it| wrong(folder, &it.to_string()))? {
        log.newest = number;
        log.segments.push(Segment::read(number, path.clone()).map_err(|it| wrong(&path, &it.to_string()))?);
    }
    if left == Left::Abruptly(Durability::Relaxed) {
        log.drop_unsynced();
    }
    log.judge(folder, needs);
    Ok(log)
}

impl Read {
    /// A power cut can take any of the writes since the last sync, and every segment but the last was synced to its
    /// end: what lies behind a bad place in that one was not synced either.
    fn drop_unsynced(&mut self) {
        if let Some(it) = self.segments.iter_mut().rfind(|it| !it.frames.is_empty()) {
            if it.run < it.frames.len() {
                tracing::warn!(segment = %it.path.display(), at = it.valid, "unsynced writes were lost");
            }
            it.frames.truncate(it.run);
        }
    }

    /// Works out what is needed, and what of that is missing.
    fn judge(&mut self, folder: &Path, needs: Needs) {
        let all = || self.segments.iter().flat_map(|it| it.frames.iter().map(move |frame| (it, frame)));
        let Some((holder, last)) = all().max_by_key(|it| it.1.sequence) else {
            if needs == Needs::Nothing {
                // The rest of an opening that was cut off before anything was told, if there is any.
                return;
            }
            let what = "no segment of the log can be read: the last operations that were told are in it";
            self.damages.push(wrong(self.segments.last().map_or(folder, |it| &it.path), what));
            return;
        };
        let (drained, sequence) = (last.drained, last.sequence);
        let now = all().map(|it| it.1.now).max().unwrap_or_default();
        let mut damages = Vec::new();
        let mut needed: Vec<_> = all().filter(|it| it.1.sequence > drained).collect();
        needed.sort_by_key(|it| it.1.sequence);
        let (mut before, mut expected) = (None::<&Segment>, drained + 1);
        for (segment, frame) in needed {
            if frame.sequence > expected {
                // What is missing lies behind the frame before it; at the very front, before this one.
                let inside = before.filter(|it| it.nonce.is_some() && it.next() != Some(segment.number));
                let inside = inside.unwrap_or(segment);
                let what = format!(
                    "it is damaged at byte {}, or a file before it is missing: {} groups of writes that were told \
                     are not there",
                    inside.valid,
                    frame.sequence - expected
                );
                damages.push(wrong(&inside.path, &what));
            }
            (before, expected) = (Some(segment), frame.sequence + 1);
        }
        if let Some(next) = holder.next().filter(|_| last.kind == Kind::End)
            && !self.segments.iter().any(|it| it.number == next && it.nonce.is_some())
        {
            let path = folder.join(format!("{next}.log"));
            damages.push(wrong(&path, "it is missing or its head is damaged, with all that was told last"));
        }
        (self.drained, self.last, self.now, self.damages) = (drained, sequence, now, damages);
    }

    /// The groups that the engine may not have, in order, each with the bytes of its changes.
    pub(crate) fn groups(&self) -> Vec<&[u8]> {
        let all = self.segments.iter().flat_map(|it| it.frames.iter().map(move |frame| (it, frame)));
        let mut groups: Vec<_> =
            all.filter(|it| it.1.kind == Kind::Group && it.1.sequence > self.drained).collect();
        groups.sort_by_key(|it| it.1.sequence);
        groups.into_iter().map(|(it, frame)| &it.bytes[frame.body.clone()]).collect()
    }
}
