//! The file system below a path.

use std::io;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use crate::doctor::Disk;

/// Magic numbers of `statfs(2)` for file systems whose kind matters, or that are usual.
const KINDS: &[(u64, &str)] = &[
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "cifs"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
];

/// Looks at the file system that holds `path`, or will hold it: that of its nearest ancestor that is there.
///
/// # Errors
/// What the system said.
pub fn disk(path: &Path) -> io::Result<Disk> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
    let (kind, space) = (statfs(there)?, statvfs(there)?);
    Ok(Disk {
        kind: name(kind.f_type),
        is_read_only: space.f_flag.contains(StatVfsMountFlags::RDONLY),
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
    })
}

/// The type of the number differs between machines; its low 32 bits are what counts.
fn name(magic: impl TryInto<i64>) -> String {
    let magic = magic.try_into().unwrap_or_default().cast_unsigned() & 0xffff_ffff;
    let known = KINDS.iter().find(|it| it.0 == magic);
    known.map_or_else(|| format!("a file system of kind {magic:#x}"), |it| it.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{disk, name};
    use std::path::Path;

    #[test]
    fn a_path_that_is_not_there_yet_is_judged_by_where_it_will_be() {
        let folder = tempfile::tempdir().unwrap();
        let there = disk(folder.path()).unwrap();
        let not_yet = disk(&folder.path().join("a/b/c")).unwrap();
        assert_eq!((&not_yet.kind, not_yet.is_read_only), (&there.kind, there.is_read_only));
        assert!(there.free_bytes > 0);
        assert_eq!(disk(Path::new("/dev/shm")).unwrap().kind, "tmpfs");
    }

    #[test]
    fn numbers_have_names() {
        assert_eq!(name(0x0102_1994_i64), "tmpfs");
        assert_eq!(name(0xff53_4d42_u64), "cifs");
        assert_eq!(name(i64::from(0xff53_4d42_u32.cast_signed())), "cifs");
        assert_eq!(name(7_i64), "a file system of kind 0x7");
    }
}
