//! Which stream is read, by whom, and where.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use onceward_core::{Error, ErrorKind, Result};

use crate::source::open::{SourceUrl, UrlError};

/// Which stream is read, and by whom.
#[derive(Clone)]
pub struct RedisStreamsSettings {
    /// `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS. Several hosts, with commas between, are nodes of
    /// one Cluster, or Sentinels.
    pub url: String,
    /// The stream. It is made if there is none.
    pub stream: String,
    /// The consumer group: all who share the work. It is made if there is none, by whoever reads: not by publishing.
    pub group: String,
    /// Where a new group begins: at the first entry of the stream, or with those that come after it was made. Default: at the
    /// first.
    pub from_first: bool,
    /// For how long an entry is a consumer's before another may take it, unless it is kept. Default 30 s.
    pub visible_for: Duration,
    /// Whether entries are deleted once they are acknowledged. Only where no other group reads the stream. Default: they stay,
    /// and whoever owns the stream trims it.
    pub delete: bool,
    /// What Sentinels call the primary: then the hosts are theirs. Default: the hosts are servers.
    pub sentinel: Option<String>,
    /// A PEM file of certificates to trust instead of those of the machine.
    pub ca: Option<PathBuf>,
}

/// Where to connect, and as whom.
#[derive(Clone, Default)]
pub(super) struct Place {
    pub(super) tls: bool,
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
}

impl RedisStreamsSettings {
    /// The defaults for a stream and a group.
    #[must_use]
    pub fn new(url: &str, stream: &str, group: &str) -> Self {
        Self {
            url: url.to_owned(),
            stream: stream.to_owned(),
            group: group.to_owned(),
            from_first: true,
            visible_for: Duration::from_secs(30),
            delete: false,
            sentinel: None,
            ca: None,
        }
    }

    /// Reads `redis-streams://[user:password@]host[:port][,host[:port]…]/STREAM?group=GROUP`, and `&database=0`,
    /// `&from=first|new`, `&visible_for=30s`, `&delete=true`, `&sentinel=NAME`, `&ca=FILE`; `rediss-streams://` for TLS.
    ///
    /// # Errors
    /// What is wrong, by the name of its parameter.
    pub fn from_url(url: &str, group: &str) -> std::result::Result<Self, UrlError> {
        let scheme = if url.starts_with("rediss") { "rediss" } else { "redis" };
        let mut url = SourceUrl::parse_several(url)?;
        let stream = url.name("the stream")?;
        let database: u32 = url.take("database", "0, 1, 2, …")?.unwrap_or(0);
        let server = format!("{scheme}://{}/{database}", url.authority());
        let defaults = Self::new(&server, &stream, group);
        let it = Self {
            group: url.take("group", "a name")?.unwrap_or_else(|| group.to_owned()),
            from_first: url.choose("from", &[("first", true), ("new", false)])?.unwrap_or(true),
            visible_for: url.duration("visible_for")?.unwrap_or(defaults.visible_for),
            delete: url.take("delete", "true or false")?.unwrap_or(false),
            sentinel: url.take("sentinel", "the name of a primary")?,
            ca: url.take("ca", "a file")?,
            ..defaults
        };
        url.end()?;
        Ok(it)
    }

    /// Reads where the servers are.
    ///
    /// # Errors
    /// `Invalid`: the settings cannot be.
    pub(super) fn place(&self) -> Result<Place> {
        let invalid = |what| Error::new(ErrorKind::Invalid, what);
        if self.stream.is_empty() || self.group.is_empty() {
            return Err(invalid("read a stream: name the stream and the group"));
        }
        if self.visible_for < Duration::from_millis(100) {
            return Err(invalid("read a stream: visible_for must be at least 100 ms"));
        }
        let what = "read the URL of a Redis server: write redis://HOST:PORT or rediss://HOST:PORT";
        let wrong = |it| invalid(what).caused_by(it);
        let url = SourceUrl::parse_several(&self.url).map_err(wrong)?;
        let tls = match url.url().scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(invalid(what)),
        };
        let database = match url.url().path().trim_start_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| invalid(what))?,
        };
        let port = if self.sentinel.is_some() { 26_379 } else { 6379 };
        let (user, password) = url.login().map_err(wrong)?.unzip();
        let user = user.filter(|it| !it.is_empty());
        Ok(Place { tls, hosts: url.places(port).map_err(wrong)?, user, password, database })
    }
}

impl fmt::Debug for RedisStreamsSettings {
    /// The URL may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreamsSettings")
            .field("stream", &self.stream)
            .field("group", &self.group)
            .field("visible_for", &self.visible_for)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_servers_are() {
        let all = "rediss-streams://u:p%40@h,k:7000,[::1]/orders?database=3&sentinel=main&ca=/ca";
        let settings = RedisStreamsSettings::from_url(all, "billing").unwrap();
        assert_eq!((settings.sentinel.as_deref(), settings.ca.clone()), (Some("main"), Some("/ca".into())));
        let place = settings.place().unwrap();
        let hosts = [("h", 26_379), ("k", 7000), ("::1", 26_379)];
        assert_eq!(place.hosts, hosts.map(|it| (it.0.to_owned(), it.1)));
        assert_eq!((place.tls, place.database), (true, 3));
        assert_eq!((place.user.as_deref(), place.password.as_deref()), (Some("u"), Some("p@")));
        let place = RedisStreamsSettings::new("redis://:p@h", "orders", "billing").place().unwrap();
        assert_eq!((place.tls, place.hosts), (false, vec![("h".to_owned(), 6379)]));
        assert_eq!((place.user, place.password.as_deref()), (None, Some("p")));
        for wrong in ["http://h", "redis://h/x", "h", "redis://h:x"] {
            let error = RedisStreamsSettings::new(wrong, "orders", "billing").place().err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
        }
    }
}
