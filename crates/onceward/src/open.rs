//! Picks the backend that a URL names.

use std::path::PathBuf;
use std::sync::Arc;

use onceward_core::store::memory::MemoryStore;
use onceward_core::{Store, SystemClock};
#[cfg(feature = "embedded")]
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore, OpenError as EmbeddedError, SettingsError};

/// Why a store cannot be opened. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No backend of this build has the scheme.
    #[error("this build has no store for `{scheme}:`; use `embedded:PATH` or `memory:`")]
    Scheme {
        /// The scheme as written.
        scheme: String,
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
}

/// What a URL names, checked and not yet opened.
enum Named {
    Memory,
    #[cfg(feature = "embedded")]
    Embedded(EmbeddedSettings),
}

fn named(url: &str) -> Result<Named, OpenError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Named::Memory),
        Some(("memory", _)) => Err(OpenError::Memory),
        #[cfg(feature = "embedded")]
        Some(("embedded", _)) => Ok(Named::Embedded(EmbeddedSettings::from_url(url)?)),
        _ => Err(OpenError::Scheme { scheme: url.split(':').next().unwrap_or_default().to_owned() }),
    }
}

/// Opens the store that `url` names: `memory:` or `embedded:PATH[?durability=relaxed&lock_wait=30s]`.
///
/// An embedded store may wait `lock_wait` for another process to leave its directory; that happens on a
/// thread of its own.
///
/// # Errors
/// [`OpenError`] says what to change.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, OpenError> {
    match named(url)? {
        Named::Memory => Ok(Arc::new(MemoryStore::new(Arc::new(SystemClock)))),
        #[cfg(feature = "embedded")]
        Named::Embedded(settings) => {
            let opening =
                tokio::task::spawn_blocking(move || EmbeddedStore::open(settings, Arc::new(SystemClock)));
            Ok(Arc::new(opening.await.expect("opening a store does not panic")?))
        }
    }
}

/// Checks a store URL without opening anything.
///
/// # Errors
/// What [`open`] would refuse before it touches anything.
pub fn check(url: &str) -> Result<(), OpenError> {
    named(url).map(|_| ())
}

/// The directory of the store that `url` names, if it has one.
#[must_use]
pub fn directory(url: &str) -> Option<PathBuf> {
    match named(url) {
        #[cfg(feature = "embedded")]
        Ok(Named::Embedded(settings)) => Some(settings.path),
        Ok(Named::Memory) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_picks_its_backend_or_is_refused_with_the_remedy() {
        assert!(check("memory:").is_ok());
        assert!(check("memory:x").is_err());
        assert!(check("embedded:./data?durability=relaxed").is_ok());
        for bad in ["", "postgres://h/db", "embedded:", "./data"] {
            let message = check(bad).unwrap_err().to_string();
            assert!(message.contains("embedded:"), "{bad}: {message}");
        }
        assert_eq!(directory("embedded:/a/b?lock_wait=1s"), Some("/a/b".into()));
        assert_eq!(directory("memory:"), None);
    }

    #[tokio::test]
    async fn an_embedded_store_opens_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let store = open(&format!("embedded:{}", path.display())).await.unwrap();
        assert_eq!(store.traits().name, "embedded");
        assert!(path.is_dir());
    }
}
