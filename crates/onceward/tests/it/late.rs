//! A store that was opened late keeps every law of a store, agrees with the reference, and what it tells has an order.

use std::sync::Arc;

use async_trait::async_trait;
use onceward::{Store, open_when_possible};
use onceward_testkit::HandClock;
use onceward_testkit::conformance::Fixture;

/// A directory of its own, in use by another store until the one that is tested was made.
struct Late {
    folder: tempfile::TempDir,
    clock: HandClock,
}

impl Late {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder can be made"), clock: HandClock::new() }
    }
}

#[async_trait]
impl Fixture for Late {
    async fn open(&self) -> Arc<dyn Store> {
        let url = format!("embedded:{}", self.folder.path().display());
        let clock: Arc<HandClock> = Arc::new(self.clock.clone());
        let first = open_when_possible(&url, clock.clone()).await.expect("the URL is right");
        assert!(first.is_open());
        let late = open_when_possible(&url, clock).await.expect("the URL is right");
        assert!(!late.is_open());
        drop(first);
        late.keep_trying().await;
        late
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.open().await
    }

    fn clock(&self) -> Option<HandClock> {
        Some(self.clock.clone())
    }
}

onceward_testkit::store_conformance!(Late::new());
onceward_testkit::store_reference!(Late::new(), runs = 10);
onceward_testkit::store_history!(Late::new(), runs = 2);
