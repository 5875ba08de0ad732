//! What a store URL says: read and checked, with nothing opened.

use std::path::PathBuf;

#[cfg(feature = "embedded")]
use onceward_store_embedded::EmbeddedSettings;
#[cfg(feature = "postgres")]
use onceward_store_postgres::PostgresSettings;
#[cfg(feature = "redis")]
use onceward_store_redis::RedisSettings;

use super::error::OpenError;

/// Checks a store URL without opening anything.
///
/// # Errors
/// What [`open`](crate::open()) would refuse before it touches anything.
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

/// What a URL names, checked and not yet opened.
pub(super) enum Named {
    Memory,
    #[cfg(feature = "embedded")]
    Embedded(EmbeddedSettings),
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresSettings>),
    #[cfg(feature = "redis")]
    Redis(Box<RedisSettings>),
}

impl Named {
    /// Its directory, if it has one.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(settings) => Some(settings.path.clone()),
            _ => None,
        }
    }
}

pub(super) fn named(url: &str) -> Result<Named, OpenError> {
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
        Some((scheme, _)) if is_redis(scheme) => Ok(Named::Redis(Box::new(RedisSettings::from_url(url)?))),
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

/// What of a store URL may be shown to anybody: where it is, without user and password. A path is made absolute, since
/// whoever reads it may be elsewhere.
pub(super) fn address(url: &str) -> String {
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

#[cfg(test)]
mod tests {
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
}
