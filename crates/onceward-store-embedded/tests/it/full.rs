//! A disk that is really full, or really read-only.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceward_core::store::{Insert, Put, Replace};
use onceward_core::{Answer, Error, ErrorKind, Record, RecordId, State, Store};
use onceward_store_embedded::{EmbeddedStore, OpenError};
use onceward_testkit::{eventually, fill, remount, small_disk};
use tokio::task::JoinSet;

use crate::sample::{claim, completion, open, stored, try_open};

/// More of them than a `u16` counts.
fn id(number: u32) -> RecordId {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    RecordId::from_bytes(bytes)
}

/// What callers do all the while, and what they were told.
#[derive(Debug, Default)]
struct Traffic {
    told: Mutex<Vec<Arc<Record>>>,
    errors: Mutex<Vec<Error>>,
    next: AtomicU32,
    ends: AtomicBool,
    /// How many more answers may be long, where they are counted: the disk must not be full of answers alone.
    long_ones: Option<AtomicU32>,
}

impl Traffic {
    fn start(self: &Arc<Self>, store: &Arc<EmbeddedStore>, answer: usize) -> JoinSet<()> {
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let (it, store) = (Arc::clone(self), Arc::clone(store));
            callers.spawn(async move {
                while !it.ends.load(Ordering::SeqCst) {
                    it.operation(&store, answer).await;
                }
            });
        }
        callers
    }

    /// One operation: claimed, and finished if the claim was kept.
    async fn operation(&self, store: &EmbeddedStore, answer: usize) {
        let id = id(self.next.fetch_add(1, Ordering::SeqCst));
        let claimed = match store.insert(id, &claim()).await {
            Ok(Insert::Kept(it)) => self.tell(it),
            Ok(other) => panic!("{other:?}"),
            Err(it) => return self.fail(it).await,
        };
        let may_be_long = self.long_ones.as_ref().is_none_or(|left| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1)).is_ok()
        });
        let bytes = vec![7; if may_be_long { answer } else { 100 }];
        let done = Put { state: State::Done(Answer::new("test", bytes)), ..completion(&claimed) };
        match store.replace(id, claimed.revision, &done).await {
            Ok(Replace::Kept(it)) => drop(self.tell(it)),
            Ok(other) => panic!("{other:?}"),
            Err(it) => self.fail(it).await,
        }
    }

    fn tell(&self, record: Arc<Record>) -> Arc<Record> {
        self.told.lock().unwrap().push(Arc::clone(&record));
        record
    }

    async fn fail(&self, error: Error) {
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Uncertain), "{error}");
        self.errors.lock().unwrap().push(error);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    fn count(&self) -> (usize, usize) {
        (self.told.lock().unwrap().len(), self.errors.lock().unwrap().len())
    }

    async fn until_it_fails(&self, store: &EmbeddedStore) {
        let before = self.count().1;
        eventually(async || self.count().1 > before && store.check().await.is_err()).await;
    }

    async fn until_it_works(&self, store: &EmbeddedStore) {
        eventually(async || store.check().await.is_ok()).await;
        let before = self.count().0;
        eventually(async || self.count().0 > before + 20).await;
    }

    /// Everything that was told is there, or something later.
    async fn is_all_in(&self, store: &EmbeddedStore) {
        let told = self.told.lock().unwrap().clone();
        for it in told {
            let now =
                stored(store, it.id).await.unwrap_or_else(|| panic!("{:?} was told and is gone", it.id));
            assert!(now.revision >= it.revision, "{now:?} was {it:?}");
            assert!(now == it || now.revision > it.revision);
        }
    }
}

async fn finish(traffic: &Traffic, mut callers: JoinSet<()>, store: Arc<EmbeddedStore>, data: &Path) {
    traffic.ends.store(true, Ordering::SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    traffic.is_all_in(&store).await;
    drop(store);
    traffic.is_all_in(&open(data)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_errors_and_no_restart() {
    let Some(disk) = small_disk("full::a_full_disk_costs_errors_and_no_restart") else { return };
    let data = disk.join("data");
    let (store, traffic) = (Arc::new(open(&data)), Arc::new(Traffic::default()));
    let callers = traffic.start(&store, 900);
    traffic.until_it_works(&store).await;
    let filler = fill(&disk, 0);
    traffic.until_it_fails(&store).await;
    let error = store.load(id(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // A little room is not enough: it would be full again at once.
    let file = File::options().write(true).open(&filler).unwrap();
    file.set_len(file.metadata().unwrap().len() - (3 << 20)).unwrap();
    drop(file);
    let before = traffic.count().1;
    eventually(async || traffic.count().1 > before + 1500).await;
    assert_eq!(store.reopened(), 0);
    fs::remove_file(filler).unwrap();
    traffic.until_it_works(&store).await;
    assert!(store.reopened() > 0);
    finish(&traffic, callers, store, &data).await;
}

/// With some room left it is not the journal that fails first but a table file that is written out or merged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_room_ends_nothing_that_was_told_is_lost() {
    let Some(disk) = small_disk("full::wherever_the_room_ends_nothing_that_was_told_is_lost") else { return };
    let data = disk.join("data");
    let traffic = Traffic { long_ones: Some(AtomicU32::new(0)), ..Traffic::default() };
    let (store, traffic) = (Arc::new(open(&data)), Arc::new(traffic));
    let callers = traffic.start(&store, 20_000);
    for spare in [0, 1, 3, 6] {
        traffic.until_it_works(&store).await;
        traffic.long_ones.as_ref().unwrap().store(200, Ordering::SeqCst);
        let filler = fill(&disk, spare);
        traffic.until_it_fails(&store).await;
        fs::remove_file(filler).unwrap();
    }
    traffic.until_it_works(&store).await;
    finish(&traffic, callers, store, &data).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_turned_read_only_is_used_again_once_it_is_writable() {
    let Some(disk) =
        small_disk("full::a_file_system_that_turned_read_only_is_used_again_once_it_is_writable")
    else {
        return;
    };
    let data = disk.join("data");
    let (store, traffic) = (Arc::new(open(&data)), Arc::new(Traffic::default()));
    let callers = traffic.start(&store, 900);
    traffic.until_it_works(&store).await;
    let filler = fill(&disk, 0);
    traffic.until_it_fails(&store).await;
    // The system refuses this while a file is open for writing: at times the store is just trying.
    eventually(async || remount(&disk, "ro")).await;
    let before = traffic.count();
    eventually(async || traffic.count().1 > before.1 + 200).await;
    assert_eq!(traffic.count().0, before.0, "nothing is told on a file system that takes no writes");
    assert!(remount(&disk, "rw"));
    fs::remove_file(filler).unwrap();
    traffic.until_it_works(&store).await;
    finish(&traffic, callers, store, &data).await;
    assert!(remount(&disk, "ro"), "a closed store has no file open");
    let error = try_open(&data).unwrap_err();
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
}
