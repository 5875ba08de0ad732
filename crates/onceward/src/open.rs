//! Picks the backend that a URL names.

use std::sync::Arc;
#[cfg(feature = "embedded")]
use std::time::Duration;

use onceward_core::store::memory::MemoryStore;
use onceward_core::{Clock, Store, SystemClock};
#[cfg(feature = "embedded")]
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore};
#[cfg(feature = "postgres")]
use onceward_store_postgres::PostgresStore;
#[cfg(feature = "redis")]
use onceward_store_redis::RedisStore;

mod error;
mod late;
mod named;

pub use self::error::OpenError;
use self::late::{open_late, was_there};
#[cfg(feature = "embedded")]
pub use self::named::embedded_settings;
use self::named::{Named, address, named};
pub use self::named::{check, directory};
use crate::alone::alone;
use crate::late::LateStore;
use crate::mover::{MoveError, MovingStore};

/// Opens the store that `url` names: `memory:`, `embedded:PATH[?durability=relaxed&lock_wait=30s]`, `postgres://…` or
/// `redis://…`.
///
/// An embedded store may wait `lock_wait` for another process to leave its directory; that happens on a
/// thread of its own.
///
/// A store whose records were all moved to another one is refused: [`OpenError::MovedAway`]. One that is shared refuses
/// claims from the moment on at which they were.
///
/// # Errors
/// [`OpenError`] says what to change.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, OpenError> {
    alone(open_plain(url).await?, Arc::new(SystemClock)).await
}

/// Opens the store, whatever it says of itself.
async fn open_plain(url: &str) -> Result<Arc<dyn Store>, OpenError> {
    match named(url)? {
        Named::Memory => Ok(Arc::new(MemoryStore::new(Arc::new(SystemClock)))),
        #[cfg(feature = "embedded")]
        Named::Embedded(settings) => {
            let opening =
                tokio::task::spawn_blocking(move || EmbeddedStore::open(settings, Arc::new(SystemClock)));
            Ok(Arc::new(opening.await.expect("opening a store does not panic")?))
        }
        #[cfg(feature = "postgres")]
        Named::Postgres(settings) => Ok(Arc::new(PostgresStore::open(*settings).await?)),
        #[cfg(feature = "redis")]
        Named::Redis(settings) => Ok(Arc::new(RedisStore::open(*settings).await?)),
    }
}

/// Opens the store that `url` names to look at it, and makes nothing there: a database without the tables of the store is
/// refused. Claim nothing in it: its records may be in another store.
///
/// # Errors
/// [`OpenError`] says what to change.
pub async fn open_to_look(url: &str) -> Result<Arc<dyn Store>, OpenError> {
    match named(url)? {
        #[cfg(feature = "postgres")]
        Named::Postgres(mut settings) => {
            settings.migrate = false;
            Ok(Arc::new(PostgresStore::open(*settings).await?))
        }
        _ => open_plain(url).await,
    }
}

/// Opens two stores at once, to move all records of `from` to the store of `to`; see [`MovingStore::step`]. Nothing is made
/// where `from` should be, and a directory in use is not waited for.
///
/// # Errors
/// [`OpenError`] says what to change.
pub async fn open_mover(from: &str, to: &str) -> Result<MovingStore, OpenError> {
    if from == to {
        return Err(MoveError::Same.into());
    }
    named(to)?;
    let from: Arc<dyn Store> = match named(from)? {
        #[cfg(feature = "embedded")]
        Named::Embedded(settings) => {
            if !was_there(&settings.path) {
                return Err(MoveError::Empty.into());
            }
            let settings = EmbeddedSettings { lock_wait: Duration::ZERO, ..settings };
            Arc::new(EmbeddedStore::open_async(settings, Arc::new(SystemClock)).await?)
        }
        _ => open_to_look(from).await?,
    };
    let moving = MovingStore::begin(from, open_plain(to).await?).await?;
    moving.to_be_found_at(address(to)).watching(Arc::new(SystemClock)).await
}

/// Brings the tables of the store that `url` names to what this build needs, and says so in words. Safe while
/// others do the same, and while a store of this version works on them.
///
/// # Errors
/// [`OpenError`] says what to change. Nothing was changed.
pub async fn migrate(url: &str) -> Result<String, OpenError> {
    match named(url)? {
        #[cfg(feature = "postgres")]
        Named::Postgres(settings) => {
            onceward_store_postgres::migrate(&settings).await?;
            Ok("the tables are those of this version".to_owned())
        }
        _ => Ok("this store has no tables to bring up to date".to_owned()),
    }
}

/// Names the store of `url` and tries to open it once. When that does not work yet, the process can go on without
/// it: the store refuses every call until [`LateStore::keep_trying`], which the caller must run, has opened it.
///
/// A directory that another process has is such a case (that process may be on its way out; `lock_wait` does
/// not count here), and so are files that cannot be read or written now, damaged ones included: they may be
/// repaired meanwhile.
///
/// A shared store that cannot be reached is one, too.
///
/// Calls of an embedded store that are made on a tokio runtime of one thread are answered by that runtime
/// ([`answer_together`](onceward_store_embedded::EmbeddedSettings::answer_together)): it has to run while they wait.
///
/// # Errors
/// What no waiting cures: the URL is wrong, the directory has a layout that this build does not know, the server is one on
/// which the store does not work, or the records of the store were moved to another one.
pub async fn open_when_possible(url: &str, clock: Arc<dyn Clock>) -> Result<Arc<LateStore>, OpenError> {
    open_late(named(url)?, None, clock, false).await
}

/// As [`open_when_possible`], for a process that must not run beside another one on the same directory: it waits
/// `lock_wait` for that one to leave, and fails when it does not.
///
/// # Errors
/// What only another URL or another build can cure, a directory that is in use, and one that cannot be made.
pub async fn open_once_left(url: &str, clock: Arc<dyn Clock>) -> Result<Arc<LateStore>, OpenError> {
    open_late(named(url)?, None, clock, true).await
}

/// As [`open_once_left`], over two stores: the records of `from` are moved to the store of `url` while both are in use, see
/// [`MovingStore`]. It is open once both are.
///
/// # Errors
/// As there, of either; and when records cannot be moved from the one to the other.
pub async fn open_moving(from: &str, url: &str, clock: Arc<dyn Clock>) -> Result<Arc<LateStore>, OpenError> {
    if from == url {
        return Err(MoveError::Same.into());
    }
    let (from, to) = (named(from)?, named(url)?);
    let address = address(url);
    if from.directory().is_some_and(|it| !was_there(&it)) {
        return Err(MoveError::Empty.into());
    }
    open_late(to, Some((from, address)), clock, true).await
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_embedded_store_opens_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let store = open(&format!("embedded:{}", path.display())).await.unwrap();
        assert_eq!(store.traits().name, "embedded");
        assert!(path.is_dir());
    }
}
