//! A store that hints when a test says so, and the test that a store around it passes that on.

use std::sync::Arc;

use futures_util::StreamExt as _;
use onceward_core::store::Hints;
use onceward_core::store::hints::Listeners;
use onceward_core::{RecordId, Store};

use crate::{Wrapped, Wrapper, within};

#[derive(Debug)]
struct Hinting {
    store: Arc<dyn Store>,
    listeners: Arc<Listeners>,
}

impl Wrapper for Hinting {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.listeners.join(id)
    }
}

/// `store`, and what makes it hint.
#[must_use]
pub fn hinting(store: Arc<dyn Store>) -> (Arc<dyn Store>, Arc<Listeners>) {
    let listeners = Listeners::new(8);
    (Arc::new(Wrapped(Hinting { store, listeners: Arc::clone(&listeners) })), listeners)
}

/// Fails unless `outside` passes on what the store hints that `listeners` belong to.
///
/// # Panics
/// When it does not, within 30 s.
pub async fn hints_are_passed_on(outside: &dyn Store, listeners: &Listeners) {
    let id = RecordId::from_bytes([1; 32]);
    let mut hints = outside.hints(id).expect("the store inside has hints");
    assert!(listeners.waits(id), "it listens inside");
    listeners.hint(id);
    within(hints.next()).await.expect("the hints go on");
    drop(hints);
    assert!(listeners.is_empty(), "it listens no more");
}
