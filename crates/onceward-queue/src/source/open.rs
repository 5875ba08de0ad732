//! Sources by URL, for commands and settings.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::Error;
use url::Url;

use super::Source;

/// Why no source can be opened by a URL. Nobody was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is no URL.
    #[error("`{0}` is no URL; write for example `redis-streams://127.0.0.1:6379/orders`")]
    NoUrl(String),
    /// There is no such source.
    #[error("there is no source `{0}:`; use `redis-streams://…`")]
    Scheme(String),
    /// This build was made without it.
    #[error("this build has no source for `{scheme}:`; build it with `--features {feature}`")]
    NotBuilt {
        /// The scheme as written.
        scheme: String,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// Something that must be there is not.
    #[error("the URL does not name {0}")]
    Missing(&'static str),
    /// A parameter has a value that it cannot have.
    #[error("the parameter `{name}` cannot be `{value}`; use {wanted}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        wanted: String,
    },
    /// There is no such parameter.
    #[error("there is no parameter `{0}` for this source")]
    Unknown(String),
    /// The source does not take these settings.
    #[error(transparent)]
    Source(#[from] Error),
}

/// The source that a URL names, for a consumer called `group` unless the URL names another group.
///
/// # Errors
/// [`UrlError`]. Nobody was asked: a broker that is away is found out about later.
pub fn open(url: &str, group: &str) -> Result<Arc<dyn Source>, UrlError> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "redis-streams")]
        "redis-streams" => {
            let settings = super::redis_streams::RedisStreamsSettings::from_url(url, group)?;
            Ok(Arc::new(super::redis_streams::RedisStreams::new(settings)?))
        }
        _ => {
            let _ = group;
            let features = [("redis-streams", "redis-streams")];
            Err(match features.iter().find(|it| it.0 == scheme) {
                Some((_, feature)) => UrlError::NotBuilt { scheme: scheme.to_owned(), feature },
                None if url.contains("://") => UrlError::Scheme(scheme.to_owned()),
                None => UrlError::NoUrl(url.to_owned()),
            })
        }
    }
}

/// A URL whose parameters are taken one by one, so that what is left over is told.
#[derive(Debug)]
pub struct SourceUrl {
    url: Url,
    parameters: Vec<(String, String)>,
}

impl SourceUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is none, or it has no host.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        // What is no URL may still have a password in it.
        let no_url = || UrlError::NoUrl(url.split('@').next_back().unwrap_or_default().to_owned());
        let url = Url::parse(url).map_err(|_| no_url())?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(UrlError::Missing("a host"));
        }
        let parameters = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned()));
        Ok(Self { parameters: parameters.collect(), url })
    }

    /// User, password, host and port, as they stand there.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.url.authority()
    }

    /// The parsed URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The path without its first slash.
    ///
    /// # Errors
    /// There is none.
    pub fn name(&self, what: &'static str) -> Result<String, UrlError> {
        let name = self.url.path().trim_start_matches('/');
        if name.is_empty() { Err(UrlError::Missing(what)) } else { Ok(name.to_owned()) }
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn take<T: FromStr>(&mut self, name: &'static str, wanted: &str) -> Result<Option<T>, UrlError> {
        let Some(at) = self.parameters.iter().position(|it| it.0 == name) else { return Ok(None) };
        let value = self.parameters.remove(at).1;
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(UrlError::Parameter { name, value, wanted: wanted.to_owned() }),
        }
    }

    /// A parameter that is one of a few words.
    ///
    /// # Errors
    /// It is another.
    pub fn choose<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, UrlError> {
        let Some(value) = self.take::<String>(name, "")? else { return Ok(None) };
        match words.iter().find(|it| it.0 == value) {
            Some((_, chosen)) => Ok(Some(*chosen)),
            None => {
                let words: Vec<_> = words.iter().map(|it| it.0).collect();
                Err(UrlError::Parameter { name, value, wanted: words.join(" or ") })
            }
        }
    }

    /// A time such as `30s`.
    ///
    /// # Errors
    /// It is none.
    pub fn duration(&mut self, name: &'static str) -> Result<Option<Duration>, UrlError> {
        let wanted = "a number with a unit: 500ms, 30s, 10m";
        Ok(self.take::<humantime::Duration>(name, wanted)?.map(Into::into))
    }

    /// That all parameters were taken.
    ///
    /// # Errors
    /// One was not: there is none of that name.
    pub fn end(self) -> Result<(), UrlError> {
        match self.parameters.into_iter().next() {
            Some((name, _)) => Err(UrlError::Unknown(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_source_can_be_opened_by_is_told() {
        let said = |url: &str| open(url, "billing").map(|it| it.capabilities().name).unwrap_err().to_string();
        assert_eq!(
            said("orders"),
            "`orders` is no URL; write for example `redis-streams://127.0.0.1:6379/orders`"
        );
        assert!(said("ftp://a/b").starts_with("there is no source `ftp:`"));
        #[cfg(not(feature = "redis-streams"))]
        assert!(said("redis-streams://a/b").contains("--features redis-streams"));
    }

    #[cfg(feature = "redis-streams")]
    #[test]
    fn a_url_says_every_setting_of_a_stream() {
        let said =
            |url: &str| open(url, "billing").map(|it| it.capabilities().name).map_err(|it| it.to_string());
        assert_eq!(said("redis-streams://127.0.0.1:6379/orders"), Ok("redis-streams"));
        let all = "redis-streams://u:p@h/orders?group=g&database=3&from=new&visible_for=2m&delete=true";
        let settings = crate::source::redis_streams::RedisStreamsSettings::from_url(all, "billing").unwrap();
        assert_eq!((&*settings.url, &*settings.stream, &*settings.group), ("redis://u:p@h/3", "orders", "g"));
        assert_eq!(
            (settings.from_first, settings.visible_for.as_secs(), settings.delete),
            (false, 120, true)
        );
        let wrong = |url: &str| said(url).unwrap_err();
        assert_eq!(wrong("redis-streams://h/"), "the URL does not name the stream");
        assert_eq!(wrong("redis-streams://h/s?gruop=g"), "there is no parameter `gruop` for this source");
        assert_eq!(
            wrong("redis-streams://h/s?visible_for=30"),
            "the parameter `visible_for` cannot be `30`; use a number with a unit: 500ms, 30s, 10m"
        );
        assert_eq!(
            wrong("redis-streams://h/s?from=last"),
            "the parameter `from` cannot be `last`; use first or new"
        );
    }
}
