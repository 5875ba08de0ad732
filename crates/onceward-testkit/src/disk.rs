//! A disk that is really small: a file system of its own, mounted in a mount namespace of its own, for another
//! process of the same test.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the environment of the other process: where its small file system is.
const DISK: &str = "ONCEWARD_TEST_SMALL_DISK";
const DISK_MIB: usize = 64;

/// Where the small file system is, 64 MiB and empty, when this is the other process. In the first process this runs
/// the test `name` of this binary again, in the other one, and fails unless that passes.
///
/// As root a mount namespace is enough; anybody else needs a user namespace, too.
///
/// ```no_run
/// # #[test]
/// fn a_full_disk_is_survived() {
///     let Some(disk) = onceward_testkit::small_disk("full::a_full_disk_is_survived") else { return };
///     // …
/// }
/// ```
///
/// # Panics
/// Where no small file system can be had: the message says what is needed.
pub fn small_disk(name: &str) -> Option<PathBuf> {
    let disk = std::env::var_os(DISK).map(PathBuf::from);
    if disk.is_none() {
        run_on_a_small_disk(name);
    }
    disk
}

fn run_on_a_small_disk(name: &str) {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let mount = format!("mount -t tmpfs -o size={DISK_MIB}m,mode=700 none \"${DISK}\"");
    let namespace = ["--mount", "-Urm"].into_iter().find(|it| {
        let tried = Command::new("unshare").args([it, "sh", "-c", &mount]).env(DISK, folder.path()).output();
        tried.is_ok_and(|it| it.status.success())
    });
    let Some(namespace) = namespace else {
        panic!(
            "this test needs a small file system of its own: run it as root, or where unprivileged user \
             namespaces are allowed (`unshare -Urm true` must work), with the commands unshare and mount"
        );
    };
    let ended = Command::new("unshare")
        .args([namespace, "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().expect("a test knows its binary"))
        .args([name, "--exact", "--nocapture"])
        .env(DISK, folder.path())
        .output()
        .expect("the other process runs");
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

/// Takes all the room of `disk` but `spare` MiB, with the file that is returned.
///
/// # Panics
/// When the file cannot be made.
pub fn fill(disk: &Path, spare: usize) -> PathBuf {
    let (filler, step) = (disk.join("filler"), vec![7; 1 << 20]);
    let mut file = File::create(&filler).expect("the filler can be made");
    while file.write_all(&step).is_ok() {}
    let length = file.metadata().expect("it has a length").len();
    file.set_len(length.saturating_sub((spare as u64) << 20)).expect("it can be cut");
    filler
}

/// Mounts `disk` anew, `ro` or `rw`, and says whether the system let it. The mount, not the file system beneath it
/// (`bind`): that also works in a user namespace.
///
/// # Panics
/// Without the command mount.
pub fn remount(disk: &Path, how: &str) -> bool {
    let told = Command::new("mount").args(["-o", &format!("remount,bind,{how}")]).arg(disk).output();
    told.expect("mount runs").status.success()
}
