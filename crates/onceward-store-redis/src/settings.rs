//! What can be chosen about a Redis store, and how a URL says it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::Timestamp;
use onceward_core::store::CALL_BUDGET_MAX;

mod url;

/// The choices of a Redis store. [`RedisSettings::from_url`] reads them; the fields have the same names there.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// The server, or some of the nodes of a Cluster: the others are learnt from them. With `sentinel`, the Sentinels.
    pub servers: Vec<Address>,
    /// Whether the servers are a Cluster.
    pub cluster: bool,
    /// The servers are Sentinels, which know where the primary is.
    pub sentinel: Option<Sentinel>,
    /// Whether to speak TLS: `rediss://`, `rediss-cluster://`.
    pub tls: bool,
    /// A file of certificates (PEM) to trust instead of the machine's.
    pub ca: Option<PathBuf>,
    /// The ACL user; the server's default one when there is none.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Password>,
    /// The number of the database. A Cluster has 0 alone.
    pub database: u16,
    /// What every key begins with. Default `onceward`.
    pub prefix: String,
    /// Into how many buckets records are divided; each is one hash slot. It is fixed when a store is first opened. 1 to
    /// 4096; when nothing is said: what the store has, 64 for a new one.
    pub buckets: Option<u16>,
    /// What a returned write must survive. When nothing is said, what the server is set to; a warning tells when that is
    /// less than a crash of the server.
    pub durability: Option<Durability>,
    /// How many replicas must have a write before it is told. Default 0.
    pub replicas: u32,
    /// How long to wait for them. Default 1 s; shorter than `call_timeout`.
    pub wait: Duration,
    /// How long a call may take. Default 5 s, at most 5 min.
    pub call_timeout: Duration,
    /// How many calls may be under way; more of them wait for their turn. 1 to 65 536, default 8192.
    pub max_queue: usize,
    /// Whether the server tells waiters of other processes at once when an operation ends. Default `true`; otherwise they
    /// find out by looking now and then.
    pub hints: bool,
    /// Where a test takes the time from, instead of the server.
    #[doc(hidden)]
    pub time: Option<TimeSource>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What Sentinels are asked, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinel {
    /// What they call the primary.
    pub name: String,
    /// The user that logs in to the Sentinels; their default one when there is none.
    pub user: Option<String>,
    /// The password for the Sentinels. Without it nobody logs in to them.
    pub password: Option<Password>,
}

/// A password. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// What a returned write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the server and a power cut. A server that is not set so is refused.
    Durable,
    /// Whatever the server is set to, without a warning.
    Relaxed,
}

/// Tells the time to a test's store.
#[doc(hidden)]
#[derive(Clone)]
pub struct TimeSource(pub Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimeSource")
    }
}

/// A URL that does not describe a Redis store. Its text says what to write instead, and repeats no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Another scheme.
    #[error(
        "the store URL does not begin with `redis://`, `redis-cluster://`, `redis-sentinel://` or one of them with `rediss`"
    )]
    Scheme,
    /// No host, or one that cannot be read.
    #[error("the store URL names no server that can be read; write `redis://HOST:PORT`")]
    Server,
    /// Several hosts where one is meant.
    #[error(
        "the store URL names several servers; only `redis-cluster://` and `redis-sentinel://` take more than one"
    )]
    Several,
    /// User or password are not written as a URL has them.
    #[error(
        "user and password of the store URL cannot be read; write `USER:PASSWORD@`, with other characters as %XX"
    )]
    Login,
    /// What stands behind the host is no number of a database.
    #[error("the store URL has a path that is no number of a database; write `redis://HOST:PORT/0`")]
    Database,
    /// A Cluster has one database.
    #[error("a Redis Cluster has one database: leave the path of the store URL out")]
    ClusterDatabase,
    /// Sentinels know primaries by name.
    #[error(
        "the store URL does not say what the Sentinels call the primary; write `redis-sentinel://HOST:PORT,HOST:PORT/NAME`"
    )]
    Name,
    /// A parameter that does not exist.
    #[error(
        "the store URL has an unknown parameter `{name}`; there are prefix, buckets, durability, replicas, wait, \
         call_timeout, max_queue, hints and ca; with Sentinels also sentinel_user and sentinel_password"
    )]
    Unknown {
        /// The parameter as written.
        name: String,
    },
    /// A parameter that stands there twice.
    #[error("the store URL has the parameter `{name}` twice; write it once")]
    Twice {
        /// The parameter.
        name: String,
    },
    /// A value that the parameter does not take.
    #[error("`{value}` is not a value for `{name}` in the store URL; write {remedy}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// The value as written.
        value: String,
        /// What the parameter takes.
        remedy: &'static str,
    },
    /// No time would be left for the call itself.
    #[error("`wait` of the store URL is not shorter than `call_timeout`; make it shorter")]
    Wait,
}

pub(crate) const BUCKETS: u16 = 64;
const BUCKETS_MAX: u16 = 4096;
const QUEUE_MAX: usize = 65_536;
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
/// No call that goes over a network can be told less.
const CALL_TIMEOUT_MIN: Duration = Duration::from_millis(10);

impl RedisSettings {
    /// The defaults, for one server.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            servers: vec![Address { host: host.into(), port }],
            cluster: false,
            sentinel: None,
            tls: false,
            ca: None,
            user: None,
            password: None,
            database: 0,
            prefix: "onceward".to_owned(),
            buckets: None,
            durability: None,
            replicas: 0,
            wait: Duration::from_secs(1),
            call_timeout: Duration::from_secs(5),
            max_queue: 8192,
            hints: true,
            time: None,
        }
    }

    /// Reads `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?prefix=onceward&buckets=64&durability=durable&
    /// replicas=1&wait=1s&call_timeout=5s&max_queue=8192&hints=on&ca=FILE]`, the same with `rediss://`, or
    /// `redis-cluster://HOST:PORT,HOST:PORT[?…]`, or `redis-sentinel://HOST:PORT,HOST:PORT/NAME[/DATABASE][?…]`. Every
    /// parameter may be left out.
    ///
    /// # Errors
    /// [`SettingsError`] names the parameter and what to write.
    pub fn from_url(url: &str) -> Result<Self, SettingsError> {
        url::read(url)
    }

    /// Whether another server may take the place of the one that was asked.
    pub(crate) fn may_move(&self) -> bool {
        self.cluster || self.sentinel.is_some()
    }

    /// The settings within their bounds: values that were set by hand are moved to the nearest one allowed.
    pub(crate) fn bounded(self) -> Self {
        let call_timeout = self.call_timeout.clamp(CALL_TIMEOUT_MIN, CALL_BUDGET_MAX);
        Self {
            buckets: self.buckets.map(|it| it.clamp(1, BUCKETS_MAX)),
            wait: self.wait.min(call_timeout.mul_f32(0.9)),
            call_timeout,
            max_queue: self.max_queue.clamp(1, QUEUE_MAX),
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
