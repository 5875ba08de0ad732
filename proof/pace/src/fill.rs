//! Fills a directory with stored answers through the store's own door.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onceward_bench::Result;
use onceward_core::SystemClock;
use onceward_core::store::{Insert, Store as _};
use onceward_store_embedded::{Durability, EmbeddedSettings, EmbeddedStore};
use tokio::task::JoinSet;

use crate::made_up;

/// Callers at once, and so the size of a group.
const CALLERS: usize = 4096;

/// Stores `count` answers that are kept for `retention`, in big groups without a sync, then syncs and closes.
///
/// Each record has the bytes that the gateway leaves there; the claim before it is not written.
///
/// # Errors
/// The store refused.
pub async fn fill(directory: &Path, count: u64, retention: Duration) -> Result<()> {
    let settings = EmbeddedSettings {
        durability: Durability::Relaxed,
        max_group: CALLERS,
        max_queue: CALLERS,
        ..EmbeddedSettings::new(directory)
    };
    let store = Arc::new(EmbeddedStore::open_async(settings, Arc::new(SystemClock)).await?);
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (store, next) = (Arc::clone(&store), Arc::clone(&next));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Result::Ok(());
                }
                let put = made_up::done(format!("filled-{number}"), made_up::answer(), retention);
                match store.insert(made_up::id(), &put).await? {
                    Insert::Kept(_) => {}
                    Insert::Found(..) | Insert::Late(_) => return Err("an answer was not kept".into()),
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use onceward_core::store::Filter;
    use onceward_core::{State, Status};

    use super::*;

    #[tokio::test]
    async fn as_many_answers_are_there_as_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), 50, Duration::from_secs(3600)).await.unwrap();
        let settings = EmbeddedSettings::new(folder.path());
        let store = EmbeddedStore::open(settings, Arc::new(SystemClock)).unwrap();
        let page = store.list(&Filter::default(), None, 100).await.unwrap();
        assert_eq!(page.records.len(), 50);
        for record in page.records {
            assert_eq!(record.status_at(record.updated), Status::Done);
            let State::Done(answer) = &record.state else { panic!("{record:?}") };
            assert!(answer.len() > made_up::BODY_BYTES && record.attempt == 1);
        }
    }
}
