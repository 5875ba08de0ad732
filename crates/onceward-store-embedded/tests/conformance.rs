//! The embedded store keeps every law of a store, durable and relaxed, agrees with the reference, and
//! what it tells concurrent callers has an order.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use onceward_core::Store;
use onceward_store_embedded::{Durability, EmbeddedSettings, EmbeddedStore};
use onceward_testkit::HandClock;
use onceward_testkit::conformance::Fixture;
use tempfile::TempDir;

/// A directory of its own and a clock in the hand.
struct Embedded {
    folder: Mutex<TempDir>,
    clock: HandClock,
    durability: Durability,
}

impl Embedded {
    fn new(durability: Durability) -> Self {
        Self { folder: Mutex::new(folder()), clock: HandClock::new(), durability }
    }
}

#[async_trait]
impl Fixture for Embedded {
    async fn open(&self) -> Arc<dyn Store> {
        let path = self.folder.lock().unwrap_or_else(PoisonError::into_inner).path().to_owned();
        // Callers on one thread are answered together, as in a gateway.
        let settings = EmbeddedSettings {
            durability: self.durability,
            answer_together: true,
            ..EmbeddedSettings::new(path)
        };
        let clock = Arc::new(self.clock.clone());
        Arc::new(EmbeddedStore::open_async(settings, clock).await.expect("the store opens"))
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.open().await
    }

    /// What the files have when the process is killed now is in a copy that is made while nothing changes them.
    async fn crash(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        {
            let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
            let left = still_copy(folder.path());
            drop(store);
            *folder = left;
        }
        self.open().await
    }

    fn clock(&self) -> Option<HandClock> {
        Some(self.clock.clone())
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

/// A copy of all files. The engine works in the background after an opening: it is copied again until nothing has
/// changed meanwhile.
fn still_copy(from: &Path) -> TempDir {
    for _ in 0..1000 {
        let to = folder();
        let before = files(from);
        let copied = before.iter().try_for_each(|(path, ..)| {
            let copy = to.path().join(path.strip_prefix(from).expect("it is in there"));
            std::fs::create_dir_all(copy.parent().expect("a file is in a folder"))?;
            std::fs::copy(path, copy).map(drop)
        });
        if copied.is_ok() && before == files(from) {
            return to;
        }
    }
    panic!("the files never come to rest")
}

/// Every file below a folder, with its length and the time of its last change.
fn files(folder: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if let Ok(it) = entry.metadata() {
            files.push((path, it.len(), it.modified().ok()));
        }
    }
    files.sort();
    files
}

mod durable {
    use super::*;
    onceward_testkit::store_conformance!(Embedded::new(Durability::Durable));
    onceward_testkit::store_reference!(Embedded::new(Durability::Durable), runs = 40);
    onceward_testkit::store_history!(Embedded::new(Durability::Durable), runs = 6);
}

mod durable_on_one_thread {
    use super::*;
    onceward_testkit::store_conformance!(Embedded::new(Durability::Durable), threads = 1);
}

mod relaxed {
    use super::*;
    onceward_testkit::store_conformance!(Embedded::new(Durability::Relaxed));
    onceward_testkit::store_reference!(Embedded::new(Durability::Relaxed), runs = 40);
    onceward_testkit::store_history!(Embedded::new(Durability::Relaxed), runs = 6);
}
