//! `onceward --version`: the number, and the commit where it is known.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{onceward, run};

#[path = "../../build/commit.rs"]
mod commit;

/// What the build script reads, too.
const GIVEN: Option<&str> = option_env!("ONCEWARD_COMMIT");
const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// What git prints in `folder`. These tests need git.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments);
    command.env("GIT_COMMITTER_DATE", "2026-01-02T23:30:00-08:00").env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with one commit.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet"]);
    another_commit(folder.path());
    folder
}

fn another_commit(folder: &Path) {
    let who = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"];
    git(folder, &[&who[..], &["commit", "--quiet", "--allow-empty", "-m", "x"]].concat());
}

#[test]
fn the_version_names_the_commit_it_was_built_from() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = commit::find(GIVEN, &root).commit;
    let ended = run(onceward(Path::new(".")).arg("--version")).with_code(0);
    assert_eq!(ended.stdout, format!("onceward {}\n", commit::version(NUMBER, found.as_deref())));
}

#[test]
fn the_commit_is_a_short_hash_and_the_day_of_the_commit() {
    let folder = repository();
    let hash = git(folder.path(), &["rev-parse", "HEAD"]);
    let found = commit::find(None, folder.path());
    assert_eq!(found.commit, Some(format!("{} 2026-01-02", &hash[..7])));
    assert_eq!(
        commit::version("1.2.3", found.commit.as_deref()),
        format!("1.2.3 ({} 2026-01-02)", &hash[..7])
    );
}

#[test]
fn every_new_commit_changes_a_watched_file() {
    let folder = repository();
    for pack in [false, true] {
        if pack {
            git(folder.path(), &["pack-refs", "--all"]);
        }
        let before = commit::find(None, folder.path());
        let read = |it: &commit::BuiltFrom| it.watched.iter().map(|it| fs::read(it).ok()).collect::<Vec<_>>();
        assert!(!before.watched.is_empty() && before.watched.iter().all(|it| it.exists()), "{before:?}");
        let texts = read(&before);
        another_commit(folder.path());
        assert_ne!(read(&before), texts, "packed: {pack}");
    }
}

#[test]
fn without_git_the_variable_is_taken_and_without_both_there_is_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let found = |given| commit::find(given, folder.path()).commit;
    assert_eq!(found(None), None);
    assert_eq!(found(Some("")), None);
    assert_eq!(found(Some("no hash")), None);
    assert_eq!(
        found(Some("0123456789abcdef0123456789abcdef01234567 2026-01-02")).unwrap(),
        "0123456 2026-01-02"
    );
    assert_eq!(found(Some("0123456")).unwrap(), "0123456");
    assert_eq!(commit::version("1.2.3", None), "1.2.3");
    assert_eq!(commit::VARIABLE, "ONCEWARD_COMMIT");
}

#[test]
fn an_archive_inside_of_another_repository_is_not_built_from_its_commit() {
    let folder = repository();
    let inside = folder.path().join("vendor/onceward");
    fs::create_dir_all(&inside).unwrap();
    assert_eq!(commit::find(None, &inside), commit::BuiltFrom::default());
}
