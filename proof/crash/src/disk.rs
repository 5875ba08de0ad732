//! A disk that can be made full: a file system of its own, mounted in a mount namespace of its own, which ends with
//! this process.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::statvfs;

use crate::Result;

/// Set once this process has its own file system: where.
const DISK: &str = "ONCEWARD_CRASH_DISK";
const SIZE: &str = "8g";

/// Where the small file system is. The first call runs this program again, in a mount namespace in which there is one,
/// and ends with it.
///
/// As root a mount namespace is enough; anybody else needs a user namespace, too.
///
/// # Errors
/// No file system can be had.
#[expect(clippy::disallowed_methods, reason = "the harness hands a value to itself")]
pub(crate) fn own_disk() -> Result<PathBuf> {
    if let Ok(disk) = std::env::var(DISK) {
        return Ok(disk.into());
    }
    let folder = std::env::temp_dir().join(format!("onceward-crash-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let mount = format!("mount -t tmpfs -o size={SIZE},mode=700 none \"${DISK}\"");
    for namespace in ["--mount", "-Urm"] {
        let tried = Command::new("unshare").args([namespace, "sh", "-c", &mount]).env(DISK, &folder).output();
        if tried.is_ok_and(|it| it.status.success()) {
            let program = std::env::current_exe()?;
            let status = Command::new("unshare")
                .args([namespace, "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")])
                .arg(program)
                .args(std::env::args_os().skip(1))
                .env(DISK, &folder)
                .status()?;
            std::fs::remove_dir(&folder)?;
            std::process::exit(status.code().unwrap_or(1));
        }
    }
    // It is empty.
    let _ = std::fs::remove_dir(&folder);
    Err("a disk that can be full needs a file system of its own: run this as root, or where unprivileged user \
         namespaces are allowed (`unshare -Urm true` must work), with the commands unshare and mount; or say \
         `--no-full-disk` and go without these faults"
        .into())
}

/// Takes all the room of `disk` that is free.
pub(crate) fn fill(disk: &Path) -> Result<()> {
    let stat = statvfs(disk)?;
    let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
    // It can grow meanwhile; then the next size fits.
    for pages in 0..64 {
        if remount(disk, &(used + pages * pages * stat.f_frsize).to_string()) {
            return Ok(());
        }
    }
    Err("the disk cannot be made full".into())
}

/// Gives the room back.
pub(crate) fn free(disk: &Path) -> Result<()> {
    if remount(disk, SIZE) { Ok(()) } else { Err("the disk's room cannot be given back".into()) }
}

fn remount(disk: &Path, size: &str) -> bool {
    let told = Command::new("mount").arg("-o").arg(format!("remount,size={size}")).arg(disk).output();
    told.is_ok_and(|it| it.status.success())
}
