//! Where the upstreams are, how they share the work and how long they may take.

mod invalid;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

pub use self::invalid::InvalidSetting;
pub(crate) use self::target::Target;

/// The protocol spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1 to `http://`. To `https://` the better one of HTTP/2 and HTTP/1.1 that the upstream offers (by
    /// ALPN), found out for each connection.
    #[default]
    Auto,
    /// HTTP/1.1, one request at a time on each pooled connection.
    Http1,
    /// HTTP/2 with prior knowledge, without TLS: for `http://` only.
    H2c,
    /// HTTP/2 over TLS: for `https://` only. An upstream that does not agree to it is unreachable.
    H2,
}

/// Which host name the upstream is told. The certificate is checked against the URL's host either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostMode {
    /// The one that the client sent.
    Preserve,
    /// The authority of the upstream's own URL.
    Upstream,
}

/// Which of several upstreams gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Balance {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight; among equals each in turn.
    LeastBusy,
    /// Operations with the same record go to the same upstream, as long as it is there, for the sake of its
    /// caches. Requests that are no operation are given to each in turn.
    KeyHash,
}

/// The upstreams of a gateway: their addresses, their protocol, how they share the work, and every limit of
/// talking to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// `http[s]://host[:port][/prefix]`, at least one; the prefix is put in front of every path.
    pub urls: Vec<Uri>,
    /// Which of them gets a request. Default: each in turn.
    pub balance: Balance,
    /// The protocol spoken to them. Default: [`Protocol::Auto`].
    pub protocol: Protocol,
    /// Which host name they are told. Default (None): the client's for `http://`, their own for `https://`.
    pub host: Option<HostMode>,
    /// PEM file with the certificates that vouch for `https://` upstreams, instead of the system's. Read by
    /// [`Upstream::new`](super::Upstream::new) and [`Upstream::replace`](super::Upstream::replace).
    pub ca_file: Option<PathBuf>,
    /// Limit for name resolution, connecting and TLS together, at each upstream. Default: 5 s.
    pub connect_timeout: Duration,
    /// Limit from the last byte of the request that was handed over to the head of the response. Default: 60 s.
    pub response_timeout: Duration,
    /// Limit for the silence between two pieces of a response body. `text/event-stream` and tunnels may be
    /// silent for as long as they like. Default: 60 s.
    pub body_idle_timeout: Duration,
    /// A connection idle for this long is not used again; the upstream can only make it shorter. Default: 4 s.
    pub idle_max: Duration,
    /// How many idle HTTP/1.1 connections are kept for each upstream; zero keeps none. Default: 1024.
    pub idle_connections_max: usize,
    /// How often an HTTP/2 connection with requests under way is asked whether it is still there; when no
    /// answer comes within the same time again, it is closed. Default: 10 s.
    pub ping_every: Duration,
    /// Whether an HTTP/2 upstream that refuses a stream (`REFUSED_STREAM`) is believed not to have processed its
    /// request, as RFC 9113 section 8.7 says. Some proxies refuse streams that their server has processed; behind
    /// one of those a request would run twice. Not believed, the outcome is unknown. Default: no.
    pub trust_refused_stream: bool,
    /// How many requests may be in flight at one upstream, from their choice to the end of their response;
    /// event streams and tunnels count for as long as they are open. Zero is no limit. Default: 1024.
    pub in_flight_max: usize,
    /// After how many failures in a row an upstream is ejected; zero is never. A failure is no connection, no
    /// TLS, no response head in time or a broken connection. The last one is never ejected. Default: 5.
    pub eject_after: u32,
    /// How long the first ejection lasts; each further one in a row twice as long. After that one request
    /// tries the upstream. Default: 10 s.
    pub eject: Duration,
    /// The longest ejection. Default: 5 min.
    pub eject_max: Duration,
    /// Path that is asked by `GET` to learn whether an upstream is well: 2xx and 3xx are. An ejected upstream
    /// then returns by a good check, not by a trial request. Default: none.
    pub check: Option<String>,
    /// How often [`check`](Self::check) is asked. Default: 5 s.
    pub check_every: Duration,
    /// Limit for one check. Default: 2 s.
    pub check_timeout: Duration,
    /// After how many bad checks in a row an upstream is ejected; the next good one returns it. Default: 3.
    pub check_failures: u32,
    /// Whether `X-Forwarded-Proto` and `X-Forwarded-Host` of clients are passed on. Set it only behind a
    /// proxy that writes them itself; otherwise anybody could pretend another host or scheme. Default: no.
    pub trust_forwarded: bool,
}

impl UpstreamSettings {
    /// The defaults for one upstream.
    #[must_use]
    pub fn new(url: Uri) -> Self {
        Self::several(vec![url])
    }

    /// The defaults for several upstreams.
    #[must_use]
    pub fn several(urls: Vec<Uri>) -> Self {
        Self {
            urls,
            balance: Balance::default(),
            protocol: Protocol::default(),
            host: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            idle_max: Duration::from_secs(4),
            idle_connections_max: 1024,
            ping_every: Duration::from_secs(10),
            trust_refused_stream: false,
            in_flight_max: 1024,
            eject_after: 5,
            eject: Duration::from_secs(10),
            eject_max: Duration::from_mins(5),
            check: None,
            check_every: Duration::from_secs(5),
            check_timeout: Duration::from_secs(2),
            check_failures: 3,
            trust_forwarded: false,
        }
    }

    /// Checks every field without reading files or connecting anywhere.
    ///
    /// # Errors
    /// The first field that cannot be used, and what to write instead.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        self.targets()?;
        let limits = [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("body_idle_timeout", self.body_idle_timeout),
            ("ping_every", self.ping_every),
            ("eject", self.eject),
            ("check_every", self.check_every),
            ("check_timeout", self.check_timeout),
        ];
        if let Some((field, _)) = limits.into_iter().find(|(_, limit)| limit.is_zero()) {
            return Err(InvalidSetting::new(field, "must be longer than zero, for example 5s"));
        }
        if self.eject_max < self.eject {
            return Err(InvalidSetting::new("eject_max", "must be at least as long as `eject`"));
        }
        if self.check_failures == 0 {
            return Err(InvalidSetting::new("check_failures", "must be at least 1"));
        }
        let is_path = |it: &String| {
            it.starts_with('/') && !it.contains('#') && it.parse::<http::uri::PathAndQuery>().is_ok()
        };
        if self.check.as_ref().is_some_and(|it| !is_path(it)) {
            return Err(InvalidSetting::new("check", "must be a path, for example /health"));
        }
        Ok(())
    }

    /// The upstreams, parsed.
    ///
    /// # Errors
    /// The first URL that cannot be used, or not with this protocol, or that is there twice.
    pub(super) fn targets(&self) -> Result<Vec<Target>, InvalidSetting> {
        let bad = |remedy| Err(InvalidSetting::new("url", remedy));
        let mut targets: Vec<Target> = Vec::with_capacity(self.urls.len());
        for url in &self.urls {
            let target = Target::parse(url)?;
            match self.protocol {
                Protocol::H2c if target.is_tls() => {
                    return bad("protocol h2c is without TLS: use an http:// URL, or protocol h2");
                }
                Protocol::H2 if !target.is_tls() => {
                    return bad("protocol h2 is over TLS: use an https:// URL, or protocol h2c");
                }
                Protocol::Auto | Protocol::Http1 | Protocol::H2c | Protocol::H2 => {}
            }
            if targets.iter().any(|it| it.label == target.label) {
                return bad("the same upstream is there twice: name each once");
            }
            targets.push(target);
        }
        if targets.is_empty() { bad("at least one upstream is needed") } else { Ok(targets) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut UpstreamSettings), expected: Option<&str>) {
        let mut settings = UpstreamSettings::new("http://a".parse().unwrap());
        change(&mut settings);
        assert_eq!(settings.check().err().map(|it| it.to_string()).as_deref(), expected);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        check(|_| {}, None);
        check(
            |it| it.response_timeout = Duration::ZERO,
            Some("response_timeout: must be longer than zero, for example 5s"),
        );
        check(
            |it| it.eject_max = Duration::from_secs(1),
            Some("eject_max: must be at least as long as `eject`"),
        );
        check(|it| it.check = Some("health".into()), Some("check: must be a path, for example /health"));
        check(|it| it.check = Some("/health?deep=1".into()), None);
        check(|it| it.check_failures = 0, Some("check_failures: must be at least 1"));
        check(|it| it.urls.clear(), Some("url: at least one upstream is needed"));
        check(
            |it| it.urls.push("http://A:80/".parse().unwrap()),
            Some("url: the same upstream is there twice: name each once"),
        );
        check(|it| it.urls.push("https://a".parse().unwrap()), None);
    }

    #[test]
    fn h2c_is_for_http_and_h2_for_https() {
        let set = |protocol, url: &str| {
            let url: Uri = url.parse().unwrap();
            move |it: &mut UpstreamSettings| {
                it.protocol = protocol;
                it.urls = vec![url.clone()];
            }
        };
        for protocol in [Protocol::Auto, Protocol::Http1] {
            check(set(protocol, "http://a"), None);
            check(set(protocol, "https://a"), None);
        }
        check(set(Protocol::H2c, "http://a"), None);
        check(set(Protocol::H2, "https://a"), None);
        check(
            set(Protocol::H2c, "https://a"),
            Some("url: protocol h2c is without TLS: use an http:// URL, or protocol h2"),
        );
        check(
            set(Protocol::H2, "http://a"),
            Some("url: protocol h2 is over TLS: use an https:// URL, or protocol h2c"),
        );
    }
}
