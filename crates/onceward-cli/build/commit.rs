//! Which commit a build is made from: from a variable, else from git, else unknown. Nothing here can fail a build.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the commit where there is no git, such as in an unpacked archive: `HASH` or `HASH YYYY-MM-DD`.
pub(crate) const VARIABLE: &str = "ONCEWARD_COMMIT";

/// How much of a hash is shown. Always the same, so that two machines build the same binary.
const SHOWN: usize = 7;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BuiltFrom {
    /// Short hash and the day of the commit, where they are known.
    pub(crate) commit: Option<String>,
    /// Files that change with the commit.
    pub(crate) watched: Vec<PathBuf>,
}

/// Looks for the commit of the sources in `root`. What the variable says wins.
pub(crate) fn find(given: Option<&str>, root: &Path) -> BuiltFrom {
    match given.and_then(shortened) {
        Some(commit) => BuiltFrom { commit: Some(commit), watched: Vec::new() },
        None => of_git(root).unwrap_or_default(),
    }
}

/// The version as `--version` shows it.
pub(crate) fn version(number: &str, commit: Option<&str>) -> String {
    commit.map_or_else(|| number.to_owned(), |commit| format!("{number} ({commit})"))
}

fn of_git(root: &Path) -> Option<BuiltFrom> {
    // An archive unpacked inside of somebody else's repository is not built from its commit.
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    // The day is the committer's own, from the commit: the same wherever and whenever it is built.
    let commit = git(root, &["show", "--no-patch", "--format=%H %cs", "HEAD"]).and_then(|it| shortened(&it));
    let branch = git(root, &["symbolic-ref", "--quiet", "HEAD"]);
    // A packed branch gets a file of its own with its next commit; the log of HEAD is there before.
    let names = ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    let paths = names.filter_map(|it| git(root, &["rev-parse", "--git-path", it])).map(|it| root.join(it));
    // Cargo takes a file that is not there as changed, each time.
    Some(BuiltFrom { commit, watched: paths.filter(|it| it.exists()).collect() })
}

/// `HASH [DAY]` with a short hash; nothing where it begins with no hash.
fn shortened(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let hash = words.next().filter(|it| it.len() >= SHOWN && it.bytes().all(|it| it.is_ascii_hexdigit()))?;
    let day = words.next().map_or(String::new(), |it| format!(" {it}"));
    Some(format!("{}{day}", &hash[..SHOWN]))
}

/// What git prints; `None` where there is no git or it refuses.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|it| !it.is_empty())
}
