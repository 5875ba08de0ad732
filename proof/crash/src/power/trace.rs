//! Reads what strace wrote: which call changed which file, and when.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::model::Change;
use crate::Result;

/// The calls that matter. `read` and `lseek` tell where the next write goes.
pub(crate) const CALLS: [&str; 23] = [
    "openat",
    "open",
    "creat",
    "close",
    "read",
    "lseek",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "fallocate",
    "copy_file_range",
];

/// A change, and when its call ended.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Since the boot of the machine.
    pub(crate) at: Duration,
    pub(crate) change: Change,
}

/// The changes below `disk`, in their order. `offset` is the time of the epoch minus that of the boot.
///
/// # Errors
/// A call that cannot be read, or that is not understood: nothing that changes files may be missed.
pub(crate) fn read(text: &str, disk: &Path, offset: Duration) -> Result<Vec<Event>> {
    let disk = format!("{}/", disk.display());
    let mut reader = Reader { disk, positions: HashMap::new() };
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((time, call)) = rest.trim_start().split_once(' ') else { continue };
        if call.starts_with("+++") || call.starts_with("---") {
            continue;
        }
        let at = Duration::from_secs_f64(time.parse::<f64>()?).saturating_sub(offset);
        let whole;
        let call = if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, begin);
            // Its number may be given to another file before its end is written down.
            if let Some(words) = begin.strip_prefix("close(") {
                reader.positions.remove(&descriptor(words).0);
            }
            continue;
        } else if call.starts_with("<... close resumed>") {
            continue;
        } else if let Some(end) = call.strip_prefix("<... ") {
            let end = end.split_once(" resumed>").ok_or_else(|| format!("strace said: {call:.200}"))?.1;
            whole = format!("{}{end}", begun.remove(thread).unwrap_or_default());
            whole.as_str()
        } else {
            call
        };
        let changes = reader.call(call)?;
        events.extend(changes.into_iter().map(|change| Event { at, change }));
    }
    Ok(events)
}

struct Reader {
    disk: String,
    /// Where the next write of a descriptor goes; `None` for the end of its file.
    positions: HashMap<u32, Option<u64>>,
}

impl Reader {
    /// The path below the disk, if it is there.
    fn below(&self, path: &str) -> Option<String> {
        format!("{path}/").strip_prefix(&self.disk).map(|it| it.trim_end_matches('/').to_owned())
    }

    fn call(&mut self, call: &str) -> Result<Vec<Change>> {
        let strange = || format!("strace said: {call:.300}");
        let (name, rest) = call.split_once('(').ok_or_else(strange)?;
        let (inside, result) = rest.rsplit_once(" = ").ok_or_else(strange)?;
        let inside = inside.trim_end().strip_suffix(')').ok_or_else(strange)?;
        if result.starts_with('-') || result.starts_with('?') {
            return Ok(Vec::new());
        }
        let words = split(inside);
        let result = result.split(' ').next().unwrap_or_default();
        let (returned, path_of_result) = descriptor(result);
        let text = |at: usize| words.get(at).map(|it| decode(it)).unwrap_or_default();
        let path = |at: usize| String::from_utf8_lossy(&text(at)).into_owned();
        let (fd, fd_path) = descriptor(words.first().copied().unwrap_or_default());
        let file = self.below(&fd_path);
        let number = |at: usize| words.get(at).and_then(|it| it.parse::<u64>().ok()).ok_or_else(strange);
        let length = u64::from(returned);
        Ok(match name {
            "openat" => {
                let flags = words.get(2).copied().unwrap_or_default();
                let end = flags.contains("O_APPEND");
                self.positions.insert(returned, (!end).then_some(0));
                let Some(file) = self.below(&path_of_result) else { return Ok(Vec::new()) };
                let mut changes = Vec::new();
                if flags.contains("O_CREAT") {
                    changes.push(Change::Create(file.clone()));
                }
                if flags.contains("O_TRUNC") {
                    changes.push(Change::SetLength(file, 0));
                }
                changes
            }
            "close" => {
                self.positions.remove(&fd);
                Vec::new()
            }
            "lseek" => {
                self.positions.insert(fd, Some(result.parse()?));
                Vec::new()
            }
            "read" => {
                if let Some(Some(at)) = self.positions.get_mut(&fd) {
                    *at += length;
                }
                Vec::new()
            }
            "write" => {
                let Some(file) = file else { return Ok(Vec::new()) };
                let bytes = text(1);
                if bytes.len() as u64 != length {
                    return Err(
                        format!("{} bytes of a write of {length} were written down", bytes.len()).into()
                    );
                }
                let at = self.positions.get_mut(&fd).ok_or_else(strange)?;
                let start =
                    at.ok_or_else(|| format!("{file} is appended to, and the model does not know how"))?;
                *at = Some(start + length);
                vec![Change::Write { path: file, at: start, bytes }]
            }
            "pwrite64" => {
                let Some(file) = file else { return Ok(Vec::new()) };
                vec![Change::Write { path: file, at: number(3)?, bytes: text(1) }]
            }
            "fsync" | "fdatasync" => file.map(Change::Sync).into_iter().collect(),
            "ftruncate" => match file {
                Some(file) => vec![Change::SetLength(file, number(1)?)],
                None => Vec::new(),
            },
            "mkdir" => self.below(&path(0)).map(Change::MakeDirectory).into_iter().collect(),
            "unlink" | "rmdir" => self.below(&path(0)).map(Change::Remove).into_iter().collect(),
            "unlinkat" => {
                // A path of its own, or one below the directory that is named first.
                let name = path(1);
                let whole = if name.starts_with('/') { name } else { format!("{fd_path}/{name}") };
                self.below(&whole).map(Change::Remove).into_iter().collect()
            }
            "rename" => self.renamed(&path(0), &path(1)),
            "renameat" | "renameat2" => self.renamed(&path(1), &path(3)),
            other => match file {
                Some(file) => {
                    return Err(format!("{other} changes {file}, and the model does not know how").into());
                }
                None => Vec::new(),
            },
        })
    }

    fn renamed(&self, from: &str, to: &str) -> Vec<Change> {
        match (self.below(from), self.below(to)) {
            (Some(from), Some(to)) => vec![Change::Rename(from, to)],
            _ => Vec::new(),
        }
    }
}

/// The words between the brackets of a call. No text holds a comma or a quote: all bytes are hexadecimal.
fn split(inside: &str) -> Vec<&str> {
    inside.split(", ").map(str::trim).collect()
}

/// A descriptor with its path, such as `12<…>`.
fn descriptor(word: &str) -> (u32, String) {
    let (number, path) = word.split_once('<').unwrap_or((word, ""));
    let path = decode(path.trim_end_matches('>'));
    (number.parse().unwrap_or(0), String::from_utf8_lossy(&path).into_owned())
}

/// Bytes written as `\x00`; others stand for themselves, quotes for nothing.
fn decode(word: &str) -> Vec<u8> {
    let bytes = word.as_bytes();
    let mut found = Vec::with_capacity(bytes.len() / 4);
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 2..at + 4).and_then(|it| std::str::from_utf8(it).ok());
        match (bytes[at], bytes.get(at + 1), digits.and_then(|it| u8::from_str_radix(it, 16).ok())) {
            (b'\\', Some(b'x'), Some(byte)) => {
                found.push(byte);
                at += 4;
            }
            (b'"', _, _) => at += 1,
            (byte, _, _) => {
                found.push(byte);
                at += 1;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_several_threads_are_put_together_and_failed_ones_change_nothing() {
        let text = concat!(
            "7 100.000001 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x64\\x2f\\x66\", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 4<\\x2f\\x64\\x2f\\x66>\n",
            "7 100.000002 write(4<\\x2f\\x64\\x2f\\x66>, \"\\x61\\x62\", 2 <unfinished ...>\n",
            "8 100.000003 mkdir(\"\\x2f\\x64\\x2f\\x67\", 0777) = -1 EEXIST (File exists)\n",
            "7 100.000004 <... write resumed>)      = 2\n",
            "7 100.000005 write(4<\\x2f\\x64\\x2f\\x66>, \"\\x63\", 1) = 1\n",
            "7 100.000006 fdatasync(4<\\x2f\\x64\\x2f\\x66>) = 0\n",
            "7 100.0000065 close(4<\\x2f\\x64\\x2f\\x66> <unfinished ...>\n",
            "8 100.0000066 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x64\\x2f\\x66\", O_WRONLY|O_CLOEXEC) = 4<\\x2f\\x64\\x2f\\x66>\n",
            "7 100.0000067 <... close resumed>) = 0\n",
            "8 100.0000068 write(4<\\x2f\\x64\\x2f\\x66>, \"\\x64\", 1) = 1\n",
            "7 100.000007 write(5<\\x2f\\x65>, \"\\x63\", 1) = 1\n",
            "7 100.000008 +++ exited with 0 +++\n",
        );
        let events = read(text, Path::new("/d"), Duration::from_secs(99)).unwrap();
        let changes: Vec<_> = events.iter().map(|it| it.change.clone()).collect();
        let write = |at, bytes: &[u8]| Change::Write { path: "f".into(), at, bytes: bytes.to_vec() };
        assert_eq!(
            changes,
            [
                Change::Create("f".into()),
                write(0, b"ab"),
                write(2, b"c"),
                Change::Sync("f".into()),
                write(0, b"d")
            ]
        );
        assert_eq!(events[1].at.as_micros(), 1_000_004);
    }
}
