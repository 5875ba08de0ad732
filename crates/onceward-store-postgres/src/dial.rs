//! Connecting: to one host after the other, and none of them has the time of all.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::fault::Cause;
use crate::link::Link;
use crate::replicas::Doubts;
use crate::settings::{CONNECT_TIMEOUT, PostgresSettings};
use crate::store::OpenError;
use crate::tls;

/// Makes connections: where to, and how they are encrypted.
pub(crate) struct Dialer {
    /// One host each, in the order of the URL.
    hosts: Vec<Config>,
    tls: Option<MakeRustlsConnect>,
    doubts: Doubts,
    /// The longest that one address may take until it is ready for statements.
    timeout: Duration,
}

impl Dialer {
    /// Reads the certificates that may sign the server's.
    pub(crate) fn new(settings: &PostgresSettings) -> Result<Self, OpenError> {
        let (mode, tls) = tls::encryption(settings)?;
        let mut driver = settings.driver.clone();
        driver.ssl_mode(mode);
        let timeout = driver.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        Ok(Self { hosts: apart(&driver), tls, doubts: Doubts::default(), timeout })
    }

    /// Where to begin: with the first host, or with any where the URL says so.
    pub(crate) fn first(&self) -> usize {
        match self.hosts.first().map(Config::get_load_balance_hosts) {
            Some(LoadBalanceHosts::Random) => fastrand::usize(0..self.hosts.len()),
            Some(_) | None => 0,
        }
    }

    /// Connects to the first host from `first` on that takes writes. A host that is silent does not keep it from the next
    /// one. Gives up at `deadline`, if there is one.
    pub(crate) async fn dial(&self, first: usize, deadline: Option<Instant>) -> Result<Link, Cause> {
        let mut causes = Vec::new();
        for turn in 0..self.hosts.len() {
            let number = (first + turn) % self.hosts.len();
            match self.dial_host(number, deadline).await {
                Ok(link) => return Ok(link),
                Err(cause) => causes.push((number, cause)),
            }
        }
        let said = |(number, cause): &(usize, Cause)| match self.hosts.len() {
            1 => cause.to_string(),
            _ => format!("host {} of the URL: {cause}", number + 1),
        };
        Err(Cause(causes.iter().map(said).collect::<Vec<_>>().join("; ")))
    }

    /// Tries all addresses of one host.
    async fn dial_host(&self, number: usize, deadline: Option<Instant>) -> Result<Link, Cause> {
        let silent = || Cause("the server did not answer in time".to_owned());
        let end = || {
            let end = Instant::now() + self.timeout;
            deadline.map_or(end, |it| it.min(end))
        };
        let found = tokio::time::timeout_at(end(), addresses(&self.hosts[number])).await;
        let mut cause = silent();
        for address in found.map_err(|_| silent())?? {
            match tokio::time::timeout_at(end(), self.dial_address(&address, number)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(it)) => cause = it,
                Err(_) => cause = silent(),
            }
        }
        Err(cause)
    }

    async fn dial_address(&self, config: &Config, number: usize) -> Result<Link, Cause> {
        match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(|it| Cause::of(&it))?;
                Ok(Link::over(client, connection, number, self.doubts.clone()))
            }
            Some(tls) => {
                let connected = config.connect(tls.clone()).await;
                let (client, connection) = connected.map_err(|it| Cause::of(&it))?;
                Ok(Link::over(client, connection, number, self.doubts.clone()))
            }
        }
    }
}

/// The same settings for each host by itself.
fn apart(all: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (all.get_hosts(), all.get_hostaddrs(), all.get_ports());
    let count = hosts.len().max(addresses.len());
    // What does not fit together is left to the driver, which says so.
    let fits = |len: usize| len <= 1 || len == count;
    if count <= 1
        || !fits(ports.len())
        || !(addresses.is_empty() || hosts.is_empty() || hosts.len() == addresses.len())
    {
        return vec![all.clone()];
    }
    (0..count)
        .map(|nth| {
            let mut one = without_host(all);
            match hosts.get(nth) {
                Some(Host::Tcp(name)) => drop(one.host(name)),
                #[cfg(unix)]
                Some(Host::Unix(path)) => drop(one.host_path(path)),
                None => {}
            }
            if let Some(address) = addresses.get(nth) {
                one.hostaddr(*address);
            }
            if let Some(port) = ports.get(nth).or_else(|| ports.first()) {
                one.port(*port);
            }
            one
        })
        .collect()
}

/// Everything but the hosts: the driver lets nobody take them away.
fn without_host(all: &Config) -> Config {
    let mut one = Config::new();
    one.ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .target_session_attrs(all.get_target_session_attrs())
        .channel_binding(all.get_channel_binding())
        .load_balance_hosts(all.get_load_balance_hosts());
    if let Some(it) = all.get_user() {
        one.user(it);
    }
    if let Some(it) = all.get_dbname() {
        one.dbname(it);
    }
    if let Some(it) = all.get_options() {
        one.options(it);
    }
    if let Some(it) = all.get_application_name() {
        one.application_name(it);
    }
    if let Some(it) = all.get_password() {
        one.password(it);
    }
    if let Some(it) = all.get_connect_timeout() {
        one.connect_timeout(*it);
    }
    if let Some(it) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*it);
    }
    if let Some(it) = all.get_keepalives_interval() {
        one.keepalives_interval(it);
    }
    if let Some(it) = all.get_keepalives_retries() {
        one.keepalives_retries(it);
    }
    one
}

/// One host, with each of its addresses by itself.
async fn addresses(host: &Config) -> Result<Vec<Config>, Cause> {
    let ([Host::Tcp(name)], []) = (host.get_hosts(), host.get_hostaddrs()) else {
        return Ok(vec![host.clone()]);
    };
    let port = host.get_ports().first().copied().unwrap_or(5432);
    let found = tokio::net::lookup_host((name.as_str(), port)).await;
    let found = found.map_err(|it| Cause(format!("the host's name leads nowhere: {it}")))?;
    let at = |address: std::net::SocketAddr| {
        let mut config = host.clone();
        config.hostaddr(address.ip());
        config
    };
    Ok(found.map(at).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_keeps_every_setting() {
        let text = "postgres://pay:s3cret@a:1,b:2/shop?application_name=till&options=-cx%3D1&connect_timeout=7&\
                    tcp_user_timeout=8&keepalives_idle=9&channel_binding=disable&load_balance_hosts=random";
        let settings = PostgresSettings::from_url(text).unwrap();
        let hosts = apart(&settings.driver);
        for (host, at) in hosts.iter().zip(["a:1", "b:2"]) {
            let alone = text.replace("a:1,b:2", at);
            assert_eq!(*host, PostgresSettings::from_url(&alone).unwrap().driver, "{at}");
        }
        assert_eq!(hosts.len(), 2);
    }
}
