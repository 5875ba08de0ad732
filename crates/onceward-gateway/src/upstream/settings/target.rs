//! The URL of an upstream, parsed once.

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use rustls_pki_types::ServerName;

use super::{HostMode, InvalidSetting};

/// One upstream, as its URL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The URL in one spelling: lower case host, port always, no slash at its end. Two URLs of the same
    /// upstream have the same label; it names the upstream in metrics and is what keys are hashed with.
    pub(crate) label: String,
    /// Name or address to connect to, an IPv6 address without its brackets.
    pub(crate) connect_host: String,
    pub(crate) port: u16,
    /// The authority as it was written, for the `Host` header.
    pub(crate) authority: HeaderValue,
    /// Path in front of every request path, without a slash at its end; mostly empty.
    pub(crate) prefix: String,
    /// The name in the upstream's certificate; None: no TLS.
    pub(crate) certified: Option<ServerName<'static>>,
}

impl Target {
    pub(crate) fn parse(url: &Uri) -> Result<Self, InvalidSetting> {
        let bad = |remedy| InvalidSetting::new("url", remedy);
        let tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) | None => return Err(bad("write it as http://host:port or https://host:port")),
        };
        let authority = url.authority().map(Authority::as_str).ok_or_else(|| bad("the host is missing"))?;
        let host = url.host().filter(|it| !it.is_empty()).ok_or_else(|| bad("the host name is missing"))?;
        if authority.contains('@') {
            return Err(bad("user name and password are not sent: remove them"));
        }
        if url.query().is_some() {
            return Err(bad("a query cannot be put in front of requests: remove it"));
        }
        let connect_host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let certified = tls.then(|| ServerName::try_from(connect_host.clone())).transpose();
        let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let prefix = url.path().trim_end_matches('/').to_owned();
        let scheme = if tls { "https" } else { "http" };
        Ok(Self {
            label: format!("{scheme}://{}:{port}{prefix}", host.to_ascii_lowercase()),
            connect_host,
            port,
            authority: HeaderValue::from_str(authority)
                .map_err(|_| bad("the host name has characters that cannot be sent"))?,
            prefix,
            certified: certified.map_err(|_| bad("no certificate can be for this host name"))?,
        })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.certified.is_some()
    }

    /// What `asked` means here: behind TLS an upstream is mostly one of many hosts at its address, and knows
    /// only its own name.
    pub(crate) fn host_mode(&self, asked: Option<HostMode>) -> HostMode {
        asked.unwrap_or(if self.is_tls() { HostMode::Upstream } else { HostMode::Preserve })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Result<(&str, &str, u16, &str), &str>) {
        let found = Target::parse(&url.parse().unwrap());
        let found =
            found.as_ref().map(|it| (&*it.label, it.connect_host.as_str(), it.port, it.prefix.as_str()));
        assert_eq!(found.map_err(|it| it.to_string()), expected.map_err(str::to_owned), "{url}");
    }

    #[test]
    fn a_url_gives_an_address_and_a_prefix_or_a_remedy() {
        check("http://127.0.0.1:9000", Ok(("http://127.0.0.1:9000", "127.0.0.1", 9000, "")));
        check("http://API.internal", Ok(("http://api.internal:80", "API.internal", 80, "")));
        check("https://api.internal/", Ok(("https://api.internal:443", "api.internal", 443, "")));
        check("http://[::1]:9000/", Ok(("http://[::1]:9000", "::1", 9000, "")));
        check("http://a/base/v1/", Ok(("http://a:80/base/v1", "a", 80, "/base/v1")));
        check("ftp://a", Err("url: write it as http://host:port or https://host:port"));
        check("a:9000", Err("url: write it as http://host:port or https://host:port"));
        check("http://a/?x=1", Err("url: a query cannot be put in front of requests: remove it"));
        check("http://me:pw@a/", Err("url: user name and password are not sent: remove them"));
        check("https://a_b!", Err("url: no certificate can be for this host name"));
    }

    #[test]
    fn the_clients_host_is_kept_without_tls_and_not_with_it_unless_told() {
        for (url, asked, expected) in [
            ("http://a", None, HostMode::Preserve),
            ("https://a", None, HostMode::Upstream),
            ("http://a", Some(HostMode::Upstream), HostMode::Upstream),
            ("https://a", Some(HostMode::Preserve), HostMode::Preserve),
        ] {
            assert_eq!(Target::parse(&url.parse().unwrap()).unwrap().host_mode(asked), expected, "{url}");
        }
    }
}
