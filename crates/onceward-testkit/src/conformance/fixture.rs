//! What a backend tells the suite: how to open it, how to open it again, and whose clock it uses.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Clock, Store, SystemClock};

use crate::clock::HandClock;

/// Where a case gets its store from. Each case has a fixture of its own, and so a database of its own.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// An empty store. Called once per case.
    async fn open(&self) -> Arc<dyn Store>;

    /// Closes `store`, of which this is the last handle, and opens the same data again. A store whose data
    /// is gone then must not declare itself durable.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;

    /// Ends `store`, of which this is the last handle, as the death of its process would, and opens the same data
    /// again. Closes it where a fixture knows no other end.
    async fn crash(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        self.reopen(store).await
    }

    /// Another handle on the data of `store`, as another process would have. `None` where there is none.
    async fn beside(&self, store: &Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        let _ = store;
        None
    }

    /// The clock by which the store judges, where it can be given one. Otherwise cases use short times and
    /// wait for the store's own clock.
    fn clock(&self) -> Option<HandClock>;
}

/// The memory store, on a clock in the hand unless told otherwise.
#[derive(Debug)]
pub struct Memory {
    clock: Option<HandClock>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { clock: Some(HandClock::new()) }
    }
}

impl Memory {
    /// The memory store on the clock of this machine: the suite as a store runs it whose clock is its own.
    #[must_use]
    pub fn on_the_machines_clock() -> Self {
        Self { clock: None }
    }
}

#[async_trait]
impl Fixture for Memory {
    async fn open(&self) -> Arc<dyn Store> {
        let clock: Arc<dyn Clock> = match &self.clock {
            Some(clock) => Arc::new(clock.clone()),
            None => Arc::new(SystemClock),
        };
        Arc::new(MemoryStore::new(clock))
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.open().await
    }

    fn clock(&self) -> Option<HandClock> {
        self.clock.clone()
    }
}

/// A fixture whose stores are wrapped: what holds for a store must hold through every wrapper.
pub struct Wrapping<F> {
    fixture: F,
    wrap: fn(Arc<dyn Store>) -> Arc<dyn Store>,
}

impl<F> Wrapping<F> {
    /// The stores of `fixture`, each put into `wrap`.
    #[must_use]
    pub fn new(fixture: F, wrap: fn(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        Self { fixture, wrap }
    }
}

impl<F: fmt::Debug> fmt::Debug for Wrapping<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wrapping").field(&self.fixture).finish()
    }
}

#[async_trait]
impl<F: Fixture> Fixture for Wrapping<F> {
    async fn open(&self) -> Arc<dyn Store> {
        (self.wrap)(self.fixture.open().await)
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        (self.wrap)(self.fixture.reopen(store).await)
    }

    async fn crash(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        (self.wrap)(self.fixture.crash(store).await)
    }

    fn clock(&self) -> Option<HandClock> {
        self.fixture.clock()
    }
}
