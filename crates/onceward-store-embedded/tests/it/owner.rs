//! One process owns the directory, and only a layout that is known is opened.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::SystemClock;
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore, OpenError, survey};
use tempfile::TempDir;

use crate::sample::{claim, id, inserted, open, settings, stored, try_open};

#[test]
fn a_directory_in_use_is_waited_for_then_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let _holder = open(folder.path());
    let lock_wait = Duration::from_millis(60);
    let second = EmbeddedSettings { lock_wait, ..settings(folder.path()) };
    let error = EmbeddedStore::open(second, Arc::new(SystemClock)).unwrap_err();
    let OpenError::Locked { waited, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*waited, lock_wait);
    let said = error.to_string();
    assert!(said.contains("this very process") && said.contains("stop that process"), "{said}");
}

#[tokio::test]
async fn a_holder_that_leaves_lets_the_waiter_in() {
    let folder = tempfile::tempdir().unwrap();
    let holder = open(folder.path());
    let path = folder.path().to_owned();
    let waiter = std::thread::spawn(move || open(&path));
    let kept = inserted(&holder, id(1), &claim()).await;
    assert!(!waiter.is_finished(), "it waits while the holder is there");
    drop(holder);
    let store = waiter.join().unwrap();
    assert_eq!(stored(&store, id(1)).await, Some(kept), "it opened after the last write");
}

#[test]
fn a_directory_is_made_for_this_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    drop(open(&path));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn an_unknown_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let format = folder.path().join("FORMAT");
    fs::write(&format, "onceward embedded store, layout 3\n").unwrap();
    let said = try_open(folder.path()).unwrap_err().to_string();
    assert!(said.contains("layout 3") && said.contains("version of Onceward that wrote it"), "{said}");
    fs::remove_file(&format).unwrap();
    let said = try_open(folder.path()).unwrap_err().to_string();
    assert!(said.contains("no FORMAT file"), "{said}");
}

#[test]
fn a_kill_during_the_very_first_opening_does_not_spoil_the_directory() {
    // As the engine leaves it when it is killed or loses power before or in its last step: no whole version file, no table.
    for version in [None, Some(""), Some("FJL"), Some("\0\0\0\0")] {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()));
        let database = folder.path().join("db");
        fs::remove_dir_all(&database).unwrap();
        fs::remove_file(folder.path().join("TABLES")).unwrap();
        fs::create_dir_all(database.join("keyspaces")).unwrap();
        fs::write(database.join("0.jnl"), []).unwrap();
        if let Some(version) = version {
            fs::write(database.join("version"), version).unwrap();
        }
        drop(try_open(folder.path()).expect("what was never begun is begun again"));
    }
}

/// A directory as a kill in the middle of the very first opening leaves it: with the tables `made` (their names with
/// a blank between), and the directory of one more, which the engine does not know yet.
pub(crate) fn cut_off_at_birth(made: &str) -> TempDir {
    let (folder, donor) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop((open(folder.path()), open(donor.path())));
    fs::remove_file(folder.path().join("TABLES")).unwrap();
    let database = folder.path().join("db");
    fs::remove_dir_all(&database).unwrap();
    let engine = fjall::Database::builder(&database).open().unwrap();
    let made: Vec<_> =
        made.split_whitespace().map(|it| engine.keyspace(it, Default::default).unwrap()).collect();
    let next = database.join(format!("keyspaces/{}", made.len() + 1));
    drop((made, engine));
    fs::rename(donor.path().join("db/keyspaces/1"), next).unwrap();
    folder
}

#[tokio::test]
async fn a_kill_between_the_first_tables_changes_their_numbers_and_nothing_else() {
    for (made, numbers) in [("", [2, 3]), ("records", [1, 3]), ("records agenda", [1, 2])] {
        let folder = cut_off_at_birth(made);
        let kept = inserted(&open(folder.path()), id(1), &claim()).await;
        let noted = || fs::read_to_string(folder.path().join("TABLES")).unwrap();
        let right = format!("records {}\nagenda {}\n", numbers[0], numbers[1]);
        assert_eq!(noted(), right);
        assert_eq!(stored(&open(folder.path()), id(1)).await, Some(kept.clone()), "{made:?}");
        // Written before the numbers were noted.
        fs::write(folder.path().join("TABLES"), "records, agenda\n").unwrap();
        let survey = survey(&settings(folder.path()), Arc::new(SystemClock)).unwrap();
        assert!(survey.census.is_some() && survey.damaged_files.is_empty(), "{survey:?}");
        assert_eq!(noted(), right, "they are noted now");
        assert_eq!(stored(&open(folder.path()), id(1)).await, Some(kept), "{made:?}");
        for number in numbers {
            let table = folder.path().join(format!("db/keyspaces/{number}"));
            fs::rename(&table, folder.path().join("away")).unwrap();
            for text in [noted(), "records, agenda\n".to_owned()] {
                fs::write(folder.path().join("TABLES"), text).unwrap();
                let error = try_open(folder.path()).unwrap_err();
                assert!(error.to_string().contains("with all that was in it"), "{error}");
            }
            fs::rename(folder.path().join("away"), &table).unwrap();
            drop(open(folder.path()));
        }
    }
}

#[test]
fn a_kill_while_the_store_looks_for_room_costs_no_room() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let room = folder.path().join("ROOM");
    fs::write(&room, vec![0xa5; 1 << 20]).unwrap();
    drop(open(folder.path()));
    assert!(!room.exists());
}

#[test]
fn files_that_went_missing_are_never_replaced_by_empty_ones() {
    for gone in ["db", "db/keyspaces", "db/keyspaces/0", "db/keyspaces/1", "db/keyspaces/2/current"] {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()));
        let path = folder.path().join(gone);
        fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
        let error = try_open(folder.path()).unwrap_err();
        assert!(matches!(error, OpenError::Files { .. }), "{gone}: {error}");
        assert!(!path.exists(), "{gone}");
    }
}

#[test]
fn files_without_their_version_are_never_discarded() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    fs::remove_file(folder.path().join("db/version")).unwrap();
    let error = try_open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Files { .. }), "{error}");
    assert!(folder.path().join("db/keyspaces/1").exists());
}

#[test]
fn a_place_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, []).unwrap();
    let error = try_open(&file.join("data")).unwrap_err();
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
}
