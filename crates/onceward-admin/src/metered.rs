//! A store that measures every call to the store inside it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Hints, Insert, Loaded, Page, Put, Replace, Swept, Traits,
};
use onceward_core::{Clock, Error, ErrorKind, RecordId, Result, Revision, Store};

use crate::metrics::Metrics;

/// Any store, measured: how long each call took and what came of it. Apart from that it is that store.
///
/// A call that its caller dropped is measured, too, as `dropped`: a store that hangs can be seen.
#[derive(Debug, Clone)]
pub struct MeteredStore {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl MeteredStore {
    /// `store`, measured by `clock` into `metrics`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { store, clock, metrics }
    }

    fn call(&self, operation: &'static str) -> Call<'_> {
        Call { store: self, operation, outcome: "dropped", asked: self.clock.boot() }
    }
}

/// A call under way; measured when it ends, however it ends.
struct Call<'a> {
    store: &'a MeteredStore,
    operation: &'static str,
    outcome: &'static str,
    asked: Duration,
}

impl Call<'_> {
    fn told<T>(mut self, told: Result<T>, outcome: impl FnOnce(&T) -> &'static str) -> Result<T> {
        self.outcome = match &told {
            Ok(told) => outcome(told),
            Err(error) => failure(error),
        };
        told
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.outcome == CORRUPT {
            self.store.metrics.damaged(1);
        }
        let elapsed = self.store.clock.boot().saturating_sub(self.asked);
        self.store.metrics.store_call(self.operation, self.outcome, elapsed);
    }
}

/// The outcome of a call that met a damaged record.
const CORRUPT: &str = "corrupt";

fn failure(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Invalid => "invalid",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Uncertain => "uncertain",
        ErrorKind::Corrupt => CORRUPT,
        ErrorKind::Lost => "lost",
        // Kinds may be added before this crate knows them.
        _ => "failed",
    }
}

fn ok<T>(_: &T) -> &'static str {
    "ok"
}

#[async_trait]
impl Store for MeteredStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        let call = self.call("insert");
        call.told(self.store.insert(id, put).await, |it| match it {
            Insert::Kept(_) => "kept",
            Insert::Found(..) => "found",
            Insert::Late(_) => "late",
        })
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        let call = self.call("replace");
        call.told(self.store.replace(id, seen, put).await, |it| match it {
            Replace::Kept(_) => "kept",
            Replace::Lost(..) => "lost",
            Replace::Late(_) => "late",
        })
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        let call = self.call("load");
        call.told(self.store.load(id).await, ok)
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        let call = self.call("due");
        call.told(self.store.due(from, limit).await, ok)
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let call = self.call("list");
        let page = call.told(self.store.list(filter, cursor, limit).await, ok)?;
        self.metrics.damaged(u64::try_from(page.unreadable.len()).unwrap_or(u64::MAX));
        Ok(page)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        let call = self.call("sweep");
        let swept = call.told(self.store.sweep(limit).await, ok)?;
        self.metrics.swept(swept.tombstones, swept.removed);
        Ok(swept)
    }

    async fn check(&self) -> Result<()> {
        let call = self.call("check");
        call.told(self.store.check().await, ok)
    }

    fn traits(&self) -> Traits {
        self.store.traits()
    }

    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.store.hints(id)
    }
}
