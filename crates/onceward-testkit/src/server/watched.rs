//! A server that ends with the test, however the test ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Does what each line of its input says, and answers each with a line. The end of the input, which also comes when the
/// test is killed, ends the program and removes the folder.
const KEEPER: &str = r#"folder=$1 end=$2; shift 2; pid=
while read -r word; do
    case $word in
        start) "$@" </dev/null >>"$folder/log" 2>&1 & pid=$! ;;
        kill)
            all=$pid
            for it in /proc/[0-9]*/stat; do
                read -r child _ _ parent _ 2>/dev/null <"$it" && [ "$parent" = "$pid" ] && all="$all $child"
            done
            kill -9 $all; wait $pid ;;
    esac
    echo
done
if [ -n "$pid" ]; then kill -$end $pid; wait $pid; fi
rm -rf "$folder""#;

/// A server below a shell that watches whether the test still lives.
#[derive(Debug)]
pub(super) struct Watched {
    keeper: Child,
    said: BufReader<ChildStdout>,
}

impl Watched {
    /// A keeper for `program` with `arguments`, which is not started yet, says what it says to `log` in `folder`, and ends
    /// at once on the signal `end`.
    pub(super) fn new(owner: &Owner, folder: &Path, end: &str, program: &Path, arguments: &[&str]) -> Self {
        let mut command = owner.command("sh");
        command.arg("-c").arg(KEEPER).arg("keeper").arg(folder).arg(end).arg(program).args(arguments);
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A signal to the test and all its children is not for it.
        command.process_group(0);
        let mut keeper = command.spawn().expect("a shell can be started");
        let said = BufReader::new(keeper.stdout.take().expect("it was asked for"));
        Self { keeper, said }
    }

    /// Starts the program.
    pub(super) fn start(&mut self) {
        self.tell("start\n");
    }

    /// `kill -9` for it and its children, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        self.tell("kill\n");
    }

    fn tell(&mut self, word: &str) {
        let to = self.keeper.stdin.as_mut().expect("it is open until the end");
        to.write_all(word.as_bytes()).expect("the keeper listens");
        self.said.read_line(&mut String::new()).expect("the keeper answers");
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Whom a server runs as: servers refuse to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    /// `None` where this process is nobody special.
    ids: Option<(u32, u32)>,
    pub(super) uid: u32,
}

impl Owner {
    /// This user, or where that is root, `postgres`, or where that does not exist, `nobody`.
    pub(super) fn of_servers() -> Self {
        let probe = tempfile::tempdir().expect("a folder can be made");
        let uid = std::fs::metadata(probe.path()).expect("it is there").uid();
        if uid != 0 {
            return Self { ids: None, uid };
        }
        let users = std::fs::read_to_string("/etc/passwd").expect("the users can be read");
        let ids = |name: &str| {
            let user = users.lines().find(|it| it.split(':').next() == Some(name))?;
            let mut ids = user.split(':').skip(2).map(str::parse);
            Some((ids.next()?.ok()?, ids.next()?.ok()?))
        };
        let ids = ids("postgres").or_else(|| ids("nobody")).expect("there is a user who is not root");
        Self { ids: Some(ids), uid: ids.0 }
    }

    /// A command that runs as this user.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file or folder to this user.
    pub(super) fn gets(&self, path: &Path) {
        if let Some((uid, gid)) = self.ids {
            chown(path, Some(uid), Some(gid)).expect("root may give files away");
        }
    }

    /// A new folder of this user in `parent`. The keeper removes it.
    pub(super) fn folder(&self, parent: &Path, name: &str) -> PathBuf {
        let folder = tempfile::Builder::new().prefix(name).tempdir_in(parent).expect("a folder can be made");
        self.gets(folder.path());
        folder.keep()
    }
}
