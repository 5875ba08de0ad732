//! Stores around another store that change some of its calls and pass on the rest.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Filter, Hints, Insert, Loaded, Page, Put, Replace, Swept, Traits,
};
use onceward_core::{RecordId, Result, Revision, Store};

/// What a store around another one does. Only the calls that it changes are written; every other is passed on as it
/// is. [`Wrapped`] makes a store of it.
/// ```
/// # use std::sync::Arc;
/// # use onceward_core::{Result, Store, store::Swept};
/// # use onceward_testkit::{Wrapped, Wrapper};
/// #[derive(Debug)]
/// struct NeverSweeps(Arc<dyn Store>);
///
/// #[async_trait::async_trait]
/// impl Wrapper for NeverSweeps {
///     fn inside(&self) -> &Arc<dyn Store> {
///         &self.0
///     }
///
///     async fn sweep(&self, _: usize) -> Result<Swept> {
///         Ok(Swept::default())
///     }
/// }
///
/// fn wrap(store: Arc<dyn Store>) -> Arc<dyn Store> {
///     Arc::new(Wrapped(NeverSweeps(store)))
/// }
/// ```
#[async_trait]
pub trait Wrapper: fmt::Debug + Send + Sync + 'static {
    /// The store that it is around.
    fn inside(&self) -> &Arc<dyn Store>;

    /// [`Store::insert`].
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        self.inside().insert(id, put).await
    }

    /// [`Store::replace`].
    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        self.inside().replace(id, seen, put).await
    }

    /// [`Store::load`].
    async fn load(&self, id: RecordId) -> Result<Loaded> {
        self.inside().load(id).await
    }

    /// [`Store::due`].
    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.inside().due(from, limit).await
    }

    /// [`Store::list`].
    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.inside().list(filter, cursor, limit).await
    }

    /// [`Store::sweep`].
    async fn sweep(&self, limit: usize) -> Result<Swept> {
        self.inside().sweep(limit).await
    }

    /// [`Store::check`].
    async fn check(&self) -> Result<()> {
        self.inside().check().await
    }

    /// [`Store::traits`].
    fn traits(&self) -> Traits {
        self.inside().traits()
    }

    /// [`Store::hints`].
    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.inside().hints(id)
    }
}

/// The store that a [`Wrapper`] makes of the one inside.
#[derive(Debug)]
pub struct Wrapped<W>(pub W);

#[async_trait]
impl<W: Wrapper> Store for Wrapped<W> {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        self.0.insert(id, put).await
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        self.0.replace(id, seen, put).await
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        self.0.load(id).await
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.0.due(from, limit).await
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.list(filter, cursor, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        self.0.sweep(limit).await
    }

    async fn check(&self) -> Result<()> {
        self.0.check().await
    }

    fn traits(&self) -> Traits {
        self.0.traits()
    }

    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.0.hints(id)
    }
}

#[cfg(test)]
mod tests {
    use onceward_core::store::Due;

    use super::*;
    use crate::conformance::{Fixture as _, Memory, Wrapping};
    use crate::{FaultyStore, Op};

    #[derive(Debug)]
    struct Unchanged(Arc<dyn Store>);

    #[async_trait]
    impl Wrapper for Unchanged {
        fn inside(&self) -> &Arc<dyn Store> {
            &self.0
        }
    }

    crate::store_conformance!(Wrapping::new(Memory::default(), |it| Arc::new(Wrapped(Unchanged(it)))));

    #[tokio::test]
    async fn every_call_is_passed_on_once() {
        let inside = Arc::new(FaultyStore::new(Memory::default().open().await));
        let store = Wrapped(Unchanged(inside.clone()));
        let (id, put) = (RecordId::from_bytes([1; 32]), crate::claim(1));
        let Insert::Kept(record) = store.insert(id, &put).await.unwrap() else {
            panic!("the place is vacant")
        };
        assert!(matches!(store.replace(id, record.revision, &put).await, Ok(Replace::Kept(_))));
        store.load(id).await.unwrap();
        store.due(Due::Lease.start(), 1).await.unwrap();
        store.list(&Filter::default(), None, 1).await.unwrap();
        store.sweep(1).await.unwrap();
        store.check().await.unwrap();
        assert_eq!(
            inside.ops(),
            [Op::Insert, Op::Replace, Op::Load, Op::Due, Op::List, Op::Sweep, Op::Check]
        );
        assert_eq!(store.traits(), inside.traits());
    }

    #[tokio::test]
    async fn hints_are_passed_on_through_a_wrapper_and_a_store_that_fails_on_cue() {
        let (store, listeners) = crate::hinting(Memory::default().open().await);
        let store = Wrapped(Unchanged(Arc::new(FaultyStore::new(store))));
        crate::hints_are_passed_on(&store, &listeners).await;
    }
}
