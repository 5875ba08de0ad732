//! What the operating system says about the disk that a directory lies on.

use std::fs::{self, Metadata};
use std::path::Path;

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSystem {
    /// Its type: `ext4`, `tmpfs`, …; `unknown` where the system does not say.
    pub kind: String,
    /// How many bytes this user can still write.
    pub free_bytes: u64,
    /// How many bytes it has.
    pub total_bytes: u64,
}

impl FileSystem {
    /// Why a store should not lie there, and what to do.
    pub(crate) fn objection(&self) -> Option<(&'static str, &'static str)> {
        match self.kind.as_str() {
            "tmpfs" | "ramfs" => Some((
                "that is memory; a restart of the machine forgets every key, and repeats run again",
                "put the store on a disk; in Kubernetes use a persistent volume, no emptyDir",
            )),
            "overlay" => Some((
                "that is a container's own layer; it goes with the container, and repeats run again",
                "mount a volume for the store",
            )),
            "nfs" | "cifs" | "smb2" | "9p" | "ceph" | "fuse" => Some((
                "locks and syncs over a network or a user's program are not tested",
                "put the store on a local disk",
            )),
            _ => None,
        }
    }
}

/// The file system of `path`.
#[cfg(unix)]
pub(crate) fn file_system(path: &Path) -> Option<FileSystem> {
    let it = rustix::fs::statvfs(path).ok()?;
    Some(FileSystem {
        kind: kind(path),
        free_bytes: it.f_bavail.saturating_mul(it.f_frsize),
        total_bytes: it.f_blocks.saturating_mul(it.f_frsize),
    })
}

#[cfg(not(unix))]
pub(crate) fn file_system(_: &Path) -> Option<FileSystem> {
    None
}

/// The numbers of statfs(2).
#[cfg(target_os = "linux")]
fn kind(path: &Path) -> String {
    let Ok(it) = rustix::fs::statfs(path) else { return "unknown".to_owned() };
    // The type of the number differs between machines; its lower half is what counts.
    let Ok(number) = u32::try_from(i128::from(it.f_type) & 0xffff_ffff) else { return "unknown".to_owned() };
    let name = match number {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb2",
        0x0102_1997 => "9p",
        0x00c3_6400 => "ceph",
        0x6573_5546 => "fuse",
        other => return format!("{other:#x}"),
    };
    name.to_owned()
}

#[cfg(all(unix, not(target_os = "linux")))]
fn kind(_: &Path) -> String {
    "unknown".to_owned()
}

/// How many bytes a file takes on the disk: a new journal is mostly holes.
#[cfg(unix)]
fn allocated(meta: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    meta.blocks() * 512
}

#[cfg(not(unix))]
fn allocated(meta: &Metadata) -> u64 {
    meta.len()
}

/// How many bytes a directory takes on the disk, with all that is in it.
pub(crate) fn bytes_in(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let bytes = entries.map(|it| match it.metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&it.path()),
        Ok(meta) => allocated(&meta),
        Err(_) => 0,
    });
    bytes.sum()
}
