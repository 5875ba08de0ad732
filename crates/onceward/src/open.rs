//! Picks the backend that a URL names.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "embedded")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "embedded")]
use std::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::store::Traits;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Clock, Store, SystemClock};
#[cfg(feature = "embedded")]
use onceward_store_embedded::{
    Durability, EmbeddedSettings, EmbeddedStore, OpenError as EmbeddedError, SettingsError,
};

#[cfg(feature = "postgres")]
use onceward_store_postgres::{PostgresSettings, PostgresStore};
#[cfg(feature = "redis")]
use onceward_store_redis::{RedisSettings, RedisStore};

use crate::alone::alone;
use crate::late::{LateStore, Opened, Opener};
use crate::mover::{MoveError, MovingStore, place};

/// Why a store cannot be opened. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such store.
    #[error("there is no store `{scheme}:`; use `embedded:PATH`, `postgres://…`, `redis://…` or `memory:`")]
    Scheme {
        /// The scheme as written.
        scheme: String,
    },
    /// This build was made without the store.
    #[error("this build has no store for `{scheme}:`; build it with `--features {feature}`")]
    NotBuilt {
        /// The scheme as written.
        scheme: String,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// `memory:` takes nothing behind it.
    #[error("the store URL `memory:` takes no path and no parameters")]
    Memory,
    /// The URL of an embedded store is wrong.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The directory of an embedded store cannot be opened.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The URL of a PostgreSQL store is wrong.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    PostgresSettings(#[from] onceward_store_postgres::SettingsError),
    /// The database cannot be used.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] onceward_store_postgres::OpenError),
    /// The URL of a Redis store is wrong.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    RedisSettings(#[from] onceward_store_redis::SettingsError),
    /// The server or cluster cannot be used.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] onceward_store_redis::OpenError),
    /// Records cannot be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// Whoever works on it alone would run again what was run since.
    #[error(
        "the records of this store were moved to {}, so nothing may run on this one: keys that were used since are not known \
         here, and their operations would run again; set `store` to that one, with its user and password (to come back on \
         purpose, move the records here: `onceward store copy`, or `store_from`)",
        place(to)
    )]
    MovedAway {
        /// Where they are, without user and password; empty where that is not known.
        to: String,
    },
    /// The store is open, and what it knows of itself could not be read.
    #[error(transparent)]
    Asked(onceward_core::Error),
}

/// What a URL names, checked and not yet opened.
enum Named {
    Memory,
    #[cfg(feature = "embedded")]
    Embedded(EmbeddedSettings),
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresSettings>),
    #[cfg(feature = "redis")]
    Redis(RedisSettings),
}

impl Named {
    /// Its directory, if it has one.
    fn directory(&self) -> Option<PathBuf> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(settings) => Some(settings.path.clone()),
            _ => None,
        }
    }
}

fn named(url: &str) -> Result<Named, OpenError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Named::Memory),
        Some(("memory", _)) => Err(OpenError::Memory),
        #[cfg(feature = "embedded")]
        Some(("embedded", _)) => Ok(Named::Embedded(EmbeddedSettings::from_url(url)?)),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => {
            Ok(Named::Postgres(Box::new(PostgresSettings::from_url(url)?)))
        }
        #[cfg(feature = "redis")]
        Some((scheme, _)) if is_redis(scheme) => Ok(Named::Redis(RedisSettings::from_url(url)?)),
        _ => Err(no_store(url.split(':').next().unwrap_or_default())),
    }
}

fn is_redis(scheme: &str) -> bool {
    let schemes = ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];
    schemes.contains(&scheme)
}

/// Either nobody has such a store, or only this build has not.
fn no_store(scheme: &str) -> OpenError {
    let feature = match scheme {
        "embedded" => "embedded",
        "postgres" | "postgresql" => "postgres",
        scheme if is_redis(scheme) => "redis",
        _ => return OpenError::Scheme { scheme: scheme.to_owned() },
    };
    OpenError::NotBuilt { scheme: scheme.to_owned(), feature }
}

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
        Named::Redis(settings) => Ok(Arc::new(RedisStore::open(settings).await?)),
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

/// What of a store URL may be shown to anybody: where it is, without user and password. A path is made absolute, since
/// whoever reads it may be elsewhere.
fn address(url: &str) -> String {
    const SHOWN: [&str; 6] = ["host", "port", "dbname", "schema", "prefix", "service"];
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    if scheme == "embedded" {
        let path = rest.split('?').next().unwrap_or_default();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        return format!("embedded:{}", path.display());
    }
    let place = rest.strip_prefix("//").unwrap_or(rest).rsplit('@').next().unwrap_or_default();
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let query = query.split('#').next().unwrap_or_default();
    let shown =
        query.split('&').filter(|it| it.split_once('=').is_some_and(|(name, _)| SHOWN.contains(&name)));
    let shown = shown.collect::<Vec<_>>().join("&");
    let place = place.split('#').next().unwrap_or_default();
    format!("{scheme}://{place}{}{shown}", if shown.is_empty() { "" } else { "?" })
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

async fn open_late(
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

impl OpenError {
    /// Whether no waiting cures it.
    #[cfg_attr(
        not(feature = "embedded"),
        expect(unused_variables, reason = "only a directory can be in use")
    )]
    fn is_final(&self, must_be_left: bool) -> bool {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(EmbeddedError::Layout { .. }) => true,
            #[cfg(feature = "embedded")]
            Self::Embedded(EmbeddedError::Locked { .. }) => must_be_left,
            #[cfg(feature = "postgres")]
            Self::Postgres(error) => error.is_final(),
            #[cfg(feature = "redis")]
            Self::Redis(error) => error.is_final(),
            Self::Move(error) => error.is_final(),
            Self::MovedAway { .. } => true,
            _ => false,
        }
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
        Named::Redis(settings) => shared("redis", move || RedisStore::open(settings.clone())),
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
            let opened = opening.await?;
            Ok(Opened { store: alone(opened.store, clock).await?, ..opened })
        })
    })
}

/// A store that several processes share. Whether it is durable is known once it is open.
#[cfg(any(feature = "postgres", feature = "redis"))]
fn shared<S, E, F>(name: &'static str, open: impl Fn() -> F + Send + Sync + 'static) -> (Traits, Opener)
where
    S: Store,
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
fn was_there(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

type Opening = BoxFuture<'static, Result<Opened, OpenError>>;

/// Checks a store URL without opening anything.
///
/// # Errors
/// What [`open`] would refuse before it touches anything.
pub fn check(url: &str) -> Result<(), OpenError> {
    named(url).map(|_| ())
}

/// The settings of the embedded store that `url` names; `None` where it names another store. With them go
/// [`survey`](onceward_store_embedded::survey) and [`repair`](onceward_store_embedded::repair).
///
/// # Errors
/// The URL is wrong.
#[cfg(feature = "embedded")]
pub fn embedded_settings(url: &str) -> Result<Option<EmbeddedSettings>, OpenError> {
    Ok(match named(url)? {
        Named::Embedded(settings) => Some(settings),
        _ => None,
    })
}

/// The directory of the store that `url` names, if it has one.
#[must_use]
pub fn directory(url: &str) -> Option<PathBuf> {
    named(url).ok()?.directory()
}

#[cfg(test)]
mod tests {
    use onceward_core::ErrorKind as CallErrorKind;
    use onceward_testkit::{HandClock, within};

    use super::*;

    #[test]
    fn a_url_picks_its_backend_or_is_refused_with_the_remedy() {
        assert!(check("memory:").is_ok());
        assert!(check("memory:x").is_err());
        assert!(check("embedded:./data?durability=relaxed").is_ok());
        for bad in ["", "sqlite://h/db", "embedded:", "./data"] {
            let message = check(bad).unwrap_err().to_string();
            assert!(message.contains("embedded:"), "{bad}: {message}");
        }
        assert_eq!(directory("embedded:/a/b?lock_wait=1s"), Some("/a/b".into()));
        assert_eq!(directory("memory:"), None);
    }

    #[test]
    fn where_a_store_is_can_be_said_to_anybody() {
        let here = std::env::current_dir().unwrap();
        for (url, expected) in [
            (
                "postgres://me:hunter2@db:5433/shop?schema=pay&password=hunter2",
                "postgres://db:5433/shop?schema=pay",
            ),
            ("postgres://me:a@hunter2@db,db2/shop?sslmode=require", "postgres://db,db2/shop"),
            ("postgres:///shop?host=/run/postgresql&user=me", "postgres:///shop?host=/run/postgresql"),
            ("rediss://:hunter2@cache:6380/1?prefix=pay#hunter2", "rediss://cache:6380/1?prefix=pay"),
            ("redis-cluster://me:hunter2@a:1,b:2", "redis-cluster://a:1,b:2"),
            ("redis://h?password=p@hunter2", "redis://hunter2"),
            ("memory:", "memory://"),
        ] {
            assert_eq!(address(url), expected, "{url}");
        }
        let path = format!("embedded:{}", here.join("data").display());
        assert_eq!(address("embedded:./data?lock_wait=1s"), path);
    }

    #[test]
    fn a_store_that_this_build_has_not_is_refused_with_the_feature_that_adds_it() {
        for (scheme, feature, is_built) in [
            ("postgres", "postgres", cfg!(feature = "postgres")),
            ("postgresql", "postgres", cfg!(feature = "postgres")),
            ("redis", "redis", cfg!(feature = "redis")),
            ("redis-cluster", "redis", cfg!(feature = "redis")),
        ] {
            let checked = check(&format!(
                "{scheme}://me:hunter2@127.0.0.1:1/{}",
                if scheme == "redis-cluster" { "" } else { "0" }
            ));
            if is_built {
                assert!(checked.is_ok(), "{scheme}: {checked:?}");
            } else {
                let said = checked.unwrap_err().to_string();
                assert!(
                    said.contains(&format!("--features {feature}")) && !said.contains("hunter2"),
                    "{said}"
                );
            }
        }
    }

    #[tokio::test]
    async fn an_embedded_store_opens_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let store = open(&format!("embedded:{}", path.display())).await.unwrap();
        assert_eq!(store.traits().name, "embedded");
        assert!(path.is_dir());
    }

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
