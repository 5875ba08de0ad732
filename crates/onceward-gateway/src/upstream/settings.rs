//! Where the upstream is and how long it may take.

use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};

/// The protocol spoken to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on each pooled connection.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge, without TLS, all requests on one connection.
    H2c,
}

/// Which host name the upstream is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostMode {
    /// The one that the client sent.
    #[default]
    Preserve,
    /// The authority of the upstream's own URL.
    Upstream,
}

/// One upstream: its address, its protocol and every time limit of talking to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// `http://host[:port][/prefix]`; the prefix is put in front of every path.
    pub url: Uri,
    /// The protocol spoken to the upstream.
    pub protocol: Protocol,
    /// Which host name the upstream is told.
    pub host: HostMode,
    /// Limit for name resolution and connecting together.
    pub connect_timeout: Duration,
    /// Limit from the last byte of the request that was handed over to the head of the response.
    pub response_timeout: Duration,
    /// Limit for the silence between two pieces of a response body.
    pub body_idle_timeout: Duration,
    /// A connection idle for this long is not used again; the upstream can only make it shorter.
    pub idle_max: Duration,
    /// How many idle connections are kept; zero keeps none.
    pub idle_connections_max: usize,
    /// Whether `X-Forwarded-Proto` and `X-Forwarded-Host` of clients are passed on. Set it only behind a
    /// proxy that writes them itself; otherwise anybody could pretend another host or scheme.
    pub trust_forwarded: bool,
}

impl UpstreamSettings {
    /// The defaults for one upstream: HTTP/1.1, the client's host name, connect 5 s, response and body 60 s,
    /// idle 4 s, 128 idle connections, forwarding headers of clients not trusted.
    #[must_use]
    pub fn new(url: Uri) -> Self {
        Self {
            url,
            protocol: Protocol::default(),
            host: HostMode::default(),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            idle_max: Duration::from_secs(4),
            idle_connections_max: 128,
            trust_forwarded: false,
        }
    }

    /// Checks every field without connecting anywhere.
    ///
    /// # Errors
    /// The first field that cannot be used, and what to write instead.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        Target::parse(&self.url)?;
        let limits = [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("body_idle_timeout", self.body_idle_timeout),
        ];
        match limits.into_iter().find(|(_, limit)| limit.is_zero()) {
            Some((field, _)) => Err(InvalidSetting::new(field, "must be longer than zero, for example 5s")),
            None => Ok(()),
        }
    }
}

/// A field of [`UpstreamSettings`] that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {remedy}")]
pub struct InvalidSetting {
    field: &'static str,
    remedy: &'static str,
}

impl InvalidSetting {
    fn new(field: &'static str, remedy: &'static str) -> Self {
        Self { field, remedy }
    }

    /// The name of the field.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// What to write instead.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.remedy
    }
}

/// The upstream's URL, parsed once.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Name or address to connect to, an IPv6 address without its brackets.
    pub(crate) connect_host: String,
    pub(crate) port: u16,
    /// The authority as it was written, for the `Host` header.
    pub(crate) authority: HeaderValue,
    /// Path in front of every request path, without a slash at its end; mostly empty.
    pub(crate) prefix: String,
}

impl Target {
    pub(crate) fn parse(url: &Uri) -> Result<Self, InvalidSetting> {
        let bad = |remedy| InvalidSetting::new("url", remedy);
        match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err(bad("TLS to upstreams is not available yet: use an http:// URL"));
            }
            Some(_) | None => return Err(bad("write it as http://host:port")),
        }
        let authority =
            url.authority().map(Authority::as_str).ok_or_else(|| bad("write it as http://host:port"))?;
        let host = url.host().filter(|it| !it.is_empty()).ok_or_else(|| bad("the host name is missing"))?;
        if authority.contains('@') {
            return Err(bad("user name and password are not sent: remove them"));
        }
        if url.query().is_some() {
            return Err(bad("a query cannot be put in front of requests: remove it"));
        }
        Ok(Self {
            connect_host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority)
                .map_err(|_| bad("the host name has characters that cannot be sent"))?,
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Result<(&str, u16, &str), &str>) {
        let found = Target::parse(&url.parse().unwrap());
        let found = found.as_ref().map(|it| (it.connect_host.as_str(), it.port, it.prefix.as_str()));
        assert_eq!(found.map_err(|it| it.to_string()), expected.map_err(str::to_owned), "{url}");
    }

    #[test]
    fn a_url_gives_an_address_and_a_prefix_or_a_remedy() {
        check("http://127.0.0.1:9000", Ok(("127.0.0.1", 9000, "")));
        check("http://api.internal", Ok(("api.internal", 80, "")));
        check("http://[::1]:9000/", Ok(("::1", 9000, "")));
        check("http://a/base/v1/", Ok(("a", 80, "/base/v1")));
        check("https://a", Err("url: TLS to upstreams is not available yet: use an http:// URL"));
        check("ftp://a", Err("url: write it as http://host:port"));
        check("a:9000", Err("url: write it as http://host:port"));
        check("http://a/?x=1", Err("url: a query cannot be put in front of requests: remove it"));
        check("http://me:pw@a/", Err("url: user name and password are not sent: remove them"));
    }

    #[test]
    fn a_limit_of_zero_is_refused_by_name() {
        let mut settings = UpstreamSettings::new("http://a".parse().unwrap());
        assert_eq!(settings.check(), Ok(()));
        settings.response_timeout = Duration::ZERO;
        assert_eq!(settings.check().unwrap_err().field(), "response_timeout");
    }
}
