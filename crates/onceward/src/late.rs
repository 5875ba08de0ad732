//! A store that may not be there yet: it is opened as soon as that works, and the process starts without it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Hints, Insert, Loaded, Page, Put, Replace, Swept, Traits,
};
use onceward_core::{Clock, Error, ErrorKind, RecordId, Result, Revision, Store};
#[cfg(feature = "embedded")]
use onceward_store_embedded::EmbeddedStore;

use crate::open::OpenError;

/// The pauses between tries: the first, doubled up to the last.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A store that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    /// The same, where it is one.
    #[cfg(feature = "embedded")]
    pub(crate) embedded: Option<Arc<EmbeddedStore>>,
}

/// Opens the store, once per try.
pub(crate) type Opener = Box<dyn Fn() -> BoxFuture<'static, Result<Opened, OpenError>> + Send + Sync>;

/// Any store, opened late. Until then every call is `Unavailable`: nothing was written. From then on it is that
/// store.
pub struct LateStore {
    store: OnceLock<Opened>,
    traits: Traits,
    clock: Arc<dyn Clock>,
    open: Opener,
}

impl LateStore {
    /// A store that `open` will open and that will have these `traits`, as far as its settings tell.
    pub(crate) fn new(traits: Traits, clock: Arc<dyn Clock>, open: Opener) -> Self {
        Self { store: OnceLock::new(), traits, clock, open }
    }

    /// Whether the store is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.store.get().is_some()
    }

    /// The embedded store, once it is open, if this is one: for its survey and its counters.
    #[cfg(feature = "embedded")]
    #[must_use]
    pub fn embedded(&self) -> Option<&Arc<EmbeddedStore>> {
        self.store.get()?.embedded.as_ref()
    }

    /// Tries to open the store until it is open, at once and then with pauses that grow from 100 ms to 5 s.
    /// Returns at once when it is open. Logs each change of the reason once.
    ///
    /// # Cancel safety
    /// Dropping this ends the tries; a store that was just being opened is closed again.
    pub async fn keep_trying(&self) {
        let (mut pause, mut said) = (PAUSE, String::new());
        while let Err(error) = self.try_once().await {
            let reason = error.to_string();
            if reason != said {
                tracing::warn!(
                    reason,
                    "the store is not open yet: operations are refused, everything else is served"
                );
                said = reason;
            }
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        if !said.is_empty() {
            tracing::info!("the store is open");
        }
    }

    /// One try.
    ///
    /// # Errors
    /// Why it cannot be opened now.
    pub(crate) async fn try_once(&self) -> Result<(), OpenError> {
        if !self.is_open() {
            let store = (self.open)().await?;
            // Of two tries at once the directory lets only one in.
            let _ = self.store.set(store);
        }
        Ok(())
    }

    fn get(&self) -> Result<&Arc<dyn Store>> {
        let away = || Error::new(ErrorKind::Unavailable, "use the store: it could not be opened yet");
        self.store.get().map(|it| &it.store).ok_or_else(away)
    }
}

#[async_trait]
impl Store for LateStore {
    // These two are called for every operation, and are written as `async_trait` would have them: that way the call of
    // the store inside is handed out as it is, without a second box around it.
    fn insert<'life0, 'life1, 'async_trait>(
        &'life0 self,
        id: RecordId,
        put: &'life1 Put,
    ) -> BoxFuture<'async_trait, Result<Insert>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        match self.get() {
            Ok(store) => store.insert(id, put),
            Err(away) => Box::pin(std::future::ready(Err(away))),
        }
    }

    fn replace<'life0, 'life1, 'async_trait>(
        &'life0 self,
        id: RecordId,
        seen: Revision,
        put: &'life1 Put,
    ) -> BoxFuture<'async_trait, Result<Replace>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        match self.get() {
            Ok(store) => store.replace(id, seen, put),
            Err(away) => Box::pin(std::future::ready(Err(away))),
        }
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        self.get()?.load(id).await
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.get()?.due(from, limit).await
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.get()?.list(filter, cursor, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        self.get()?.sweep(limit).await
    }

    async fn check(&self) -> Result<()> {
        self.get()?.check().await
    }

    fn traits(&self) -> Traits {
        self.store.get().map_or_else(|| self.traits.clone(), |it| it.store.traits())
    }

    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.get().ok()?.hints(id)
    }
}

impl fmt::Debug for LateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateStore").field("traits", &self.traits).field("store", &self.store.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use onceward_core::store::memory::MemoryStore;
    use onceward_testkit::{HandClock, within};
    use tokio::task::JoinSet;

    use super::*;

    fn traits() -> Traits {
        Traits { name: "memory", durable: false, shared: false }
    }

    /// A store that opens at the `nth` try.
    fn late(clock: &HandClock, nth: usize) -> (Arc<LateStore>, Arc<AtomicUsize>) {
        let tries = Arc::new(AtomicUsize::new(0));
        let (count, time) = (Arc::clone(&tries), clock.clone());
        let open = move || -> BoxFuture<'static, Result<Opened, OpenError>> {
            let ready = count.fetch_add(1, Ordering::SeqCst) + 1 >= nth;
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(time.clone())));
            let opened = Opened {
                store,
                #[cfg(feature = "embedded")]
                embedded: None,
            };
            Box::pin(async move { if ready { Ok(opened) } else { Err(OpenError::Memory) } })
        };
        (Arc::new(LateStore::new(traits(), Arc::new(clock.clone()), Box::new(open))), tries)
    }

    #[tokio::test]
    async fn until_it_is_open_every_call_is_unavailable_and_it_tries_again_with_growing_pauses() {
        let clock = HandClock::new();
        let (store, tries) = late(&clock, 10);
        let mut trying = JoinSet::new();
        let opening = Arc::clone(&store);
        trying.spawn(async move { opening.keep_trying().await });
        for (tried, pause_ms) in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000].into_iter().enumerate() {
            clock.until_asleep(1).await;
            assert_eq!(tries.load(Ordering::SeqCst), tried + 1);
            let error = store.check().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(!store.is_open());
            clock.advance(Duration::from_millis(pause_ms - 1));
            assert_eq!(clock.sleepers(), 1, "it sleeps for {pause_ms} ms");
            clock.advance(Duration::from_millis(1));
        }
        within(trying.join_next()).await.unwrap().unwrap();
        store.check().await.unwrap();
        store.keep_trying().await;
        assert_eq!(tries.load(Ordering::SeqCst), 10, "an open store is not opened again");
    }

    #[tokio::test]
    async fn an_open_store_hints_as_the_one_inside() {
        let clock = HandClock::new();
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let (inside, listeners) = onceward_testkit::hinting(memory);
        let open = move || -> BoxFuture<'static, Result<Opened, OpenError>> {
            let opened = Opened {
                store: Arc::clone(&inside),
                #[cfg(feature = "embedded")]
                embedded: None,
            };
            Box::pin(std::future::ready(Ok(opened)))
        };
        let store = LateStore::new(traits(), Arc::new(clock), Box::new(open));
        assert!(store.hints(RecordId::from_bytes([1; 32])).is_none());
        store.try_once().await.unwrap();
        onceward_testkit::hints_are_passed_on(&store, &listeners).await;
    }
}
