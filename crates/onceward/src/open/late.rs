//! How a store is opened later, again and again until it works.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "embedded")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "embedded")]
use std::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::Clock;
use onceward_core::store::Traits;
use onceward_core::store::memory::MemoryStore;
#[cfg(feature = "embedded")]
use onceward_store_embedded::{Durability, EmbeddedSettings, EmbeddedStore, OpenError as EmbeddedError};
#[cfg(feature = "postgres")]
use onceward_store_postgres::{PostgresSettings, PostgresStore};
#[cfg(feature = "redis")]
use onceward_store_redis::{RedisSettings, RedisStore};

use super::error::OpenError;
use super::named::Named;
use crate::alone::alone;
use crate::late::{LateStore, Opened, Opener};
use crate::mover::MovingStore;

type Opening = BoxFuture<'static, Result<Opened, OpenError>>;

/// Makes a store that is opened as soon as that works, and tries once.
pub(super) async fn open_late(
    named: Named,
    from: Option<(Named, String)>,
    clock: Arc<dyn Clock>,
    must_be_left: bool,
) -> Result<Arc<LateStore>, OpenError> {
    let must_exist = named.directory().filter(|_| must_be_left);
    let (mut traits, mut open) = opener(named, &clock, must_be_left);
    if let Some((from, address)) = from {
        let (before, open_from) = opener(from, &clock, must_be_left);
        traits = Traits {
            durable: traits.durable && before.durable,
            shared: traits.shared || before.shared,
            ..traits
        };
        open = both(open_from, open, address, Arc::clone(&clock));
    } else {
        open = by_itself(open, Arc::clone(&clock));
    }
    let late = LateStore::new(traits, clock, open);
    match late.try_once().await {
        Err(error) if error.is_final(must_be_left) => Err(error),
        Err(error) if must_exist.is_some_and(|it| !was_there(&it)) => Err(error),
        Ok(()) | Err(_) => Ok(Arc::new(late)),
    }
}

/// How a store is opened, and what it will be as far as its settings tell.
#[cfg_attr(not(feature = "embedded"), expect(unused_variables, reason = "only a directory can be in use"))]
fn opener(named: Named, clock: &Arc<dyn Clock>, must_be_left: bool) -> (Traits, Opener) {
    match named {
        Named::Memory => {
            let time = Arc::clone(clock);
            let open = move || -> Opening {
                let opened = Opened {
                    store: Arc::new(MemoryStore::new(Arc::clone(&time))),
                    #[cfg(feature = "embedded")]
                    embedded: None,
                };
                Box::pin(std::future::ready(Ok(opened)))
            };
            (Traits { name: "memory", durable: false, shared: false }, Box::new(open))
        }
        #[cfg(feature = "embedded")]
        Named::Embedded(settings) => {
            let patience = AtomicBool::new(must_be_left);
            let durable = settings.durability == Durability::Durable;
            let time = Arc::clone(clock);
            let was_filled = is_filled(&settings);
            let open = move || -> Opening {
                if was_filled && !is_filled(&settings) {
                    return Box::pin(std::future::ready(Err(emptied(&settings))));
                }
                // Only the first try waits: later ones come again by themselves.
                let waits = patience.swap(false, Ordering::Relaxed);
                let lock_wait = if waits { settings.lock_wait } else { Duration::ZERO };
                // Who serves while the store is not there yet has runtimes that run.
                let settings = EmbeddedSettings { lock_wait, answer_together: true, ..settings.clone() };
                let time = Arc::clone(&time);
                Box::pin(async move {
                    let store = Arc::new(EmbeddedStore::open_async(settings, time).await?);
                    Ok(Opened { store: Arc::clone(&store) as _, embedded: Some(store) })
                })
            };
            (Traits { name: "embedded", durable, shared: false }, Box::new(open))
        }
        #[cfg(feature = "postgres")]
        Named::Postgres(settings) => {
            shared("postgres", move || PostgresStore::open(PostgresSettings::clone(&settings)))
        }
        #[cfg(feature = "redis")]
        Named::Redis(settings) => shared("redis", move || RedisStore::open(RedisSettings::clone(&settings))),
    }
}

/// Opens both, and begins to move from the first to the second.
fn both(from: Opener, to: Opener, address: String, clock: Arc<dyn Clock>) -> Opener {
    Box::new(move || -> Opening {
        let (from, to, address, clock) = (from(), to(), address.clone(), Arc::clone(&clock));
        Box::pin(async move {
            let (from, to) = (from.await?.store, to.await?.store);
            let moving = MovingStore::begin(from, to).await?.to_be_found_at(address);
            Ok(Opened {
                store: Arc::new(moving.watching(clock).await?),
                #[cfg(feature = "embedded")]
                embedded: None,
            })
        })
    })
}

/// Opens it, unless its records have left it.
fn by_itself(open: Opener, clock: Arc<dyn Clock>) -> Opener {
    Box::new(move || -> Opening {
        let (opening, clock) = (open(), Arc::clone(&clock));
        Box::pin(async move {
            let mut opened = opening.await?;
            opened.store = alone(opened.store, clock).await?;
            Ok(opened)
        })
    })
}

/// A store that several processes share. Whether it is durable is known once it is open.
#[cfg(any(feature = "postgres", feature = "redis"))]
fn shared<S, E, F>(name: &'static str, open: impl Fn() -> F + Send + Sync + 'static) -> (Traits, Opener)
where
    S: onceward_core::Store,
    F: Future<Output = Result<S, E>> + Send + 'static,
    OpenError: From<E>,
{
    let open = move || -> Opening {
        let opening = open();
        Box::pin(async move {
            let store = Arc::new(opening.await?);
            Ok(Opened {
                store,
                #[cfg(feature = "embedded")]
                embedded: None,
            })
        })
    };
    (Traits { name, durable: true, shared: true }, Box::new(open))
}

/// Whether the directory holds a store, or may hold one as far as can be seen.
#[cfg(feature = "embedded")]
fn is_filled(settings: &EmbeddedSettings) -> bool {
    settings.path.join("TABLES").try_exists().unwrap_or(true)
}

/// While a process waits for its store, the directory may be moved away, to be repaired or put back from a copy. An
/// empty store that is made there meanwhile would have forgotten every operation.
#[cfg(feature = "embedded")]
fn emptied(settings: &EmbeddedSettings) -> OpenError {
    let (path, found) = (settings.path.clone(), "no stored files any more".to_owned());
    let remedy =
        "put them back, or restart to begin with an empty store, under which every repeat runs again";
    OpenError::Embedded(EmbeddedError::Layout { path, found, remedy })
}

/// Whether there was a store once: a path that was mistyped, or that nobody can write, is not one that is away.
pub(super) fn was_there(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use onceward_core::{ErrorKind as CallErrorKind, Store as _, SystemClock};
    use onceward_testkit::{HandClock, within};

    use super::super::{embedded_settings, open, open_once_left, open_when_possible};
    use super::*;

    #[tokio::test]
    async fn a_directory_in_use_is_opened_once_it_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("embedded:{}", directory.path().display());
        let holder = open(&url).await.unwrap();
        let clock = HandClock::new();
        let store = open_when_possible(&url, Arc::new(clock.clone())).await.unwrap();
        assert!(!store.is_open());
        let refused = open_once_left(&format!("{url}?lock_wait=1ms"), Arc::new(SystemClock)).await;
        assert!(matches!(refused, Err(OpenError::Embedded(EmbeddedError::Locked { .. }))), "{refused:?}");
        assert_eq!(store.traits(), holder.traits(), "what it will be is known before");
        assert_eq!(store.check().await.unwrap_err().kind(), CallErrorKind::Unavailable);
        drop(holder);
        assert!(store.embedded().is_none());
        within(store.keep_trying()).await;
        store.check().await.unwrap();
        let survey = store.embedded().expect("it is one").survey().await.unwrap();
        assert_eq!(survey.path, directory.path());
        assert_eq!(embedded_settings(&url).unwrap().unwrap().path, survey.path);
    }

    #[tokio::test]
    async fn a_store_that_is_moved_away_while_it_is_waited_for_is_not_begun_anew() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, aside) = (parent.path().join("data"), parent.path().join("aside"));
        let url = format!("embedded:{}", folder.display());
        drop(open(&url).await.unwrap());
        let tables = folder.join("TABLES");
        let noted = std::fs::read(&tables).unwrap();
        std::fs::write(&tables, "records 7\nagenda 8\n").unwrap();
        let store = open_when_possible(&url, Arc::new(HandClock::new())).await.unwrap();
        assert!(!store.is_open(), "its files are damaged");
        std::fs::rename(&folder, &aside).unwrap();
        for is_there in [false, true] {
            if is_there {
                std::fs::create_dir(&folder).unwrap();
            }
            let error = store.try_once().await.unwrap_err().to_string();
            assert!(error.contains("put them back"), "{error}");
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing was made there");
        std::fs::remove_dir(&folder).unwrap();
        std::fs::write(aside.join("TABLES"), noted).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
        within(store.keep_trying()).await;
        store.check().await.unwrap();
    }

    #[tokio::test]
    async fn what_no_waiting_cures_fails_at_once() {
        let clock = || Arc::new(SystemClock);
        for bad in ["sqlite://h/db", "memory:x", "embedded:/x?durability=maybe"] {
            assert!(open_when_possible(bad, clock()).await.is_err(), "{bad}");
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("FORMAT"), "another layout").unwrap();
        let url = format!("embedded:{}", directory.path().display());
        assert!(matches!(open_when_possible(&url, clock()).await, Err(OpenError::Embedded(_))));
        // A file in the way of a directory may be moved.
        let url = format!("embedded:{}/FORMAT/data", directory.path().display());
        assert!(!open_when_possible(&url, clock()).await.unwrap().is_open());
        assert!(open_once_left(&url, clock()).await.is_err(), "a store that never was is not away");
        assert!(open_when_possible("memory:", clock()).await.unwrap().is_open());
    }
}
