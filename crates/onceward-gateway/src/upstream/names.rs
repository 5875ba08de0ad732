//! Names into addresses.
//!
//! Names are resolved as the system is told to: the hosts file, then the name servers of its configuration
//! with their search domains. Addresses and `localhost` need no server.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;

/// How long an answer counts at least and at most, whatever its time to live.
const LIFE_MIN: Duration = Duration::from_secs(1);
const LIFE_MAX: Duration = Duration::from_mins(5);

/// How long an answer counts whose time to live nobody told.
const LIFE_UNTOLD: Duration = Duration::from_secs(30);

/// Resolves the names of upstreams. Clones share their sockets.
#[derive(Clone)]
pub struct Names(Kind);

#[derive(Clone)]
enum Kind {
    Servers(Arc<TokioResolver>),
    /// The system's own resolver, which tells no time to live.
    System,
}

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// IPv6 and IPv4 in turn, at least one.
    pub(super) addresses: Vec<IpAddr>,
    /// How long they count; None: for ever.
    pub(super) life: Option<Duration>,
}

impl Names {
    /// As the system is told to. Where its configuration (`/etc/resolv.conf`) cannot be read or names no server, its own resolver
    /// is asked instead, which tells no time to live: its answers count for 30 s.
    #[must_use]
    pub fn system() -> Self {
        Self::or_system(read_system_conf().and_then(|(config, options)| {
            if config.name_servers().is_empty() {
                return Err(NetError::from("no name server is configured"));
            }
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            *builder.options_mut() = options;
            configure(builder.options_mut());
            builder.build()
        }))
    }

    fn or_system(built: Result<TokioResolver, NetError>) -> Self {
        match built {
            Ok(resolver) => Self(Kind::Servers(Arc::new(resolver))),
            Err(error) => {
                tracing::info!(
                    %error,
                    "the configuration of name resolution cannot be read: the system's resolver is used"
                );
                Self(Kind::System)
            }
        }
    }

    /// Asks this one name server, and reads no hosts file.
    ///
    /// # Panics
    /// Never: such a resolver needs nothing that could be missing.
    #[must_use]
    pub fn server(address: SocketAddr) -> Self {
        let mut udp = ConnectionConfig::udp();
        udp.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        configure(builder.options_mut());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        let built = builder.build().expect("a resolver without TLS needs nothing");
        Self(Kind::Servers(Arc::new(built)))
    }

    /// The addresses of `host`, which may be an address itself.
    ///
    /// # Errors
    /// There is no such name, or nobody could be asked.
    pub(super) async fn resolve(&self, host: &str) -> io::Result<Resolved> {
        if let Ok(address) = host.parse() {
            return Ok(Resolved { addresses: vec![address], life: None });
        }
        if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(Resolved { addresses, life: None });
        }
        let (found, life) = match &self.0 {
            Kind::Servers(resolver) => {
                let found = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
                let lives = found.as_lookup().answers().iter().map(|it| it.ttl);
                let life = Duration::from_secs(lives.min().unwrap_or(0).into());
                (found.iter().collect(), life.clamp(LIFE_MIN, LIFE_MAX))
            }
            Kind::System => {
                let found = tokio::net::lookup_host((host, 0)).await?;
                (found.map(|it| it.ip()).collect(), LIFE_UNTOLD)
            }
        };
        match interleaved(found) {
            none if none.is_empty() => Err(io::Error::new(io::ErrorKind::NotFound, "no address")),
            addresses => Ok(Resolved { addresses, life: Some(life) }),
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Servers(_) => "Names(servers)",
            Kind::System => "Names(system)",
        })
    }
}

fn configure(options: &mut hickory_resolver::config::ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Each upstream remembers its own addresses, on the clock that its connections live by.
    options.cache_size = 0;
}

/// Both families in turn, so that one that does not work delays the other only once; IPv6 first.
fn interleaved(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut seen = Vec::with_capacity(found.len());
    for address in found {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    let (v6, v4): (Vec<_>, Vec<_>) = seen.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut addresses = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            return addresses;
        }
        addresses.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_take_turns() {
        for (found, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1 10.0.0.2 ::1", "::1 10.0.0.1 10.0.0.2"),
            ("::1 ::2 10.0.0.1 ::3", "::1 10.0.0.1 ::2 ::3"),
            ("10.0.0.1 10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(interleaved(ips(found)), ips(expected), "{found}");
        }
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_server() {
        // Nobody answers at this address.
        let names = Names::server("127.0.0.1:1".parse().unwrap());
        for (host, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::1", "::1"),
            ("localhost", "127.0.0.1 ::1"),
            ("LOCALHOST.", "127.0.0.1 ::1"),
        ] {
            let resolved = names.resolve(host).await.unwrap();
            assert_eq!(resolved, Resolved { addresses: ips(expected), life: None });
        }
    }

    #[tokio::test]
    async fn without_a_configuration_the_systems_resolver_is_asked() {
        let names = Names::or_system(Err(NetError::from("no such file")));
        assert!(matches!(names.0, Kind::System));
        // Every system resolves what looks like an address to its own resolver, and no system this name.
        assert_eq!(names.resolve("127.1").await.unwrap().life, Some(LIFE_UNTOLD));
        assert!(names.resolve("no-such-name.invalid").await.is_err());
    }
}
