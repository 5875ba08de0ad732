//! The embedded store keeps every law of a store, durable and relaxed.

use std::sync::Arc;

use async_trait::async_trait;
use onceward_core::Store;
use onceward_store_embedded::{Durability, EmbeddedSettings, EmbeddedStore};
use onceward_testkit::HandClock;
use onceward_testkit::conformance::Fixture;

/// A directory of its own and a clock in the hand.
struct Embedded {
    folder: tempfile::TempDir,
    clock: HandClock,
    durability: Durability,
}

impl Embedded {
    fn new(durability: Durability) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder can be made"),
            clock: HandClock::new(),
            durability,
        }
    }
}

#[async_trait]
impl Fixture for Embedded {
    async fn open(&self) -> Arc<dyn Store> {
        let settings =
            EmbeddedSettings { durability: self.durability, ..EmbeddedSettings::new(self.folder.path()) };
        let clock = Arc::new(self.clock.clone());
        Arc::new(EmbeddedStore::open_async(settings, clock).await.expect("the store opens"))
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.open().await
    }

    fn clock(&self) -> Option<HandClock> {
        Some(self.clock.clone())
    }
}

mod durable {
    use super::*;
    onceward_testkit::store_conformance!(Embedded::new(Durability::Durable));
}

mod relaxed {
    use super::*;
    onceward_testkit::store_conformance!(Embedded::new(Durability::Relaxed));
}
