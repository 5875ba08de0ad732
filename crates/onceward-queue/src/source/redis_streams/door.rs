//! Connections to the server that has the stream: found by Sentinels, or by what the nodes of a Cluster say.

use std::io;
use std::sync::{Arc, OnceLock};

use onceward_core::{Error, ErrorKind, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisConnectionInfo, RedisError, Value};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::settings::{Place, RedisStreamsSettings};
use super::{BLOCK, PATIENCE, translate};
use crate::source::tls;

/// How often a node of a Cluster may name another.
const MOVES_MAX: usize = 5;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, and the task that carries it: it ends with this.
#[derive(Debug)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    _driver: JoinSet<()>,
}

impl Link {
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> std::result::Result<T, RedisError> {
        let mut command = Cmd::new();
        command.arg(words);
        command.query_async(&mut self.connection()).await
    }
}

/// Opens connections.
pub(super) struct Door {
    settings: RedisStreamsSettings,
    place: Place,
    tls: Option<TlsConnector>,
    /// What a crash of the server costs is told once.
    told: OnceLock<()>,
}

impl Door {
    /// # Errors
    /// `Invalid`: the settings cannot be, or there is no certificate to trust.
    pub(super) fn new(settings: &RedisStreamsSettings) -> Result<Self> {
        let place = settings.place()?;
        let tls = place.tls.then(|| tls::client(settings.ca.as_deref())).transpose()?;
        let tls = tls.map(|it| TlsConnector::from(Arc::new(it)));
        Ok(Self { settings: settings.clone(), place, tls, told: OnceLock::new() })
    }

    /// A connection to the server, or to one node of a Cluster. No group is made.
    pub(super) async fn open(&self, doing: &'static str) -> Result<Arc<Link>> {
        in_time(doing, async { self.looked(self.reach(doing).await?).await }).await
    }

    /// A connection to the node that another one named.
    pub(super) async fn follow(
        &self,
        (host, port): &(String, u16),
        doing: &'static str,
    ) -> Result<Arc<Link>> {
        in_time(doing, async { self.looked(self.dial(host, *port, true, doing).await?).await }).await
    }

    /// A connection to the server that has the stream, with its group, which is made if there is none.
    pub(super) async fn join(&self, doing: &'static str) -> Result<Arc<Link>> {
        in_time(doing, async { self.looked(self.with_group(doing).await?).await }).await
    }

    async fn reach(&self, doing: &'static str) -> Result<Link> {
        match &self.settings.sentinel {
            Some(name) => self.primary(name, doing).await,
            None => self.any(doing).await,
        }
    }

    /// A connection to the first host that answers.
    async fn any(&self, doing: &'static str) -> Result<Link> {
        let mut failed = None;
        for (host, port) in &self.place.hosts {
            match self.dial(host, *port, true, doing).await {
                Ok(link) => return Ok(link),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, doing)))
    }

    /// A connection to the primary that Sentinels name.
    async fn primary(&self, name: &str, doing: &'static str) -> Result<Link> {
        let mut failed = Error::new(ErrorKind::Unavailable, doing);
        for (host, port) in &self.place.hosts {
            let found = async {
                let sentinel = self.dial(host, *port, false, doing).await?;
                let at: Option<(String, u16)> = sentinel
                    .ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name])
                    .await
                    .map_err(|it| translate(doing, it))?;
                let unknown = || {
                    Error::new(ErrorKind::Unavailable, "find a primary: a Sentinel knows none of that name")
                };
                let (host, port) = at.ok_or_else(unknown)?;
                let link = self.dial(&host, port, true, doing).await?;
                let role: Vec<Value> = link.ask(&["ROLE"]).await.map_err(|it| translate(doing, it))?;
                match role.first().map(String::from_redis_value_ref) {
                    Some(Ok(role)) if role == "master" => Ok(link),
                    _ => Err(Error::new(
                        ErrorKind::Unavailable,
                        "find a primary: the one that was is none any more",
                    )),
                }
            };
            match found.await {
                Ok(link) => return Ok(link),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// A connection to the server, or to the node of a Cluster that has the stream, once the group is there.
    async fn with_group(&self, doing: &'static str) -> Result<Link> {
        let RedisStreamsSettings { stream, group, from_first, .. } = &self.settings;
        let start = if *from_first { "0" } else { "$" };
        let make = ["XGROUP", "CREATE", stream, group, start, "MKSTREAM"];
        let mut link = self.reach(doing).await?;
        for _ in 0..MOVES_MAX {
            let error = match link.ask::<()>(&make).await {
                Ok(()) => break,
                Err(error) if error.code() == Some("BUSYGROUP") => break,
                Err(error) => error,
            };
            let Some((host, port)) = moved(&error) else { return Err(translate(doing, error)) };
            link = self.dial(&host, port, true, doing).await?;
        }
        Ok(link)
    }

    /// The same connection, unless the server may forget the stream.
    async fn looked(&self, link: Link) -> Result<Link> {
        // Where it must not be asked, nothing is known.
        let memory: String = link.ask(&["INFO", "memory"]).await.unwrap_or_default();
        let persistence: String = link.ask(&["INFO", "persistence"]).await.unwrap_or_default();
        let said = |info: &str, name: &str| {
            let found =
                info.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':').map(str::to_owned));
            found.unwrap_or_default()
        };
        // The others drop what has a time to live, which no stream has by itself.
        if said(&memory, "maxmemory_policy").starts_with("allkeys") {
            let what = "read a stream: the server's maxmemory-policy may drop it, with messages that nobody has seen; set \
                `maxmemory-policy noeviction`";
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        if said(&persistence, "aof_enabled") == "0" && self.told.set(()).is_ok() {
            tracing::warn!(
                "appendonly of the Redis server is no: a crash or a restart may lose messages that nobody has seen yet"
            );
        }
        Ok(link)
    }

    /// Connects. Where messages are, one logs in.
    async fn dial(&self, host: &str, port: u16, logs_in: bool, doing: &'static str) -> Result<Link> {
        let place = &self.place;
        let away = |it: io::Error| Error::new(ErrorKind::Unavailable, doing).caused_by(it);
        let reach = async {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Stream> = match &self.tls {
                None => Box::new(stream),
                Some(tls) => {
                    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                    Box::new(tls.connect(name, stream).await?)
                }
            };
            Ok(stream)
        };
        let late = |it| away(io::Error::other(it));
        let stream = tokio::time::timeout(PATIENCE, reach).await.map_err(late)?.map_err(away)?;
        let mut login = RedisConnectionInfo::default();
        if logs_in {
            login = login.set_db(place.database);
            if let Some(password) = &place.password {
                login = login.set_password(password);
            }
            if let Some(user) = &place.user {
                login = login.set_username(user);
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE + BLOCK));
        let (connection, driver) =
            connected(&login, stream, config).await.map_err(|it| translate(doing, it))?;
        Ok(Link { connection, _driver: driver })
    }
}

/// Waits no longer than for a few connections.
async fn in_time(doing: &'static str, opening: impl Future<Output = Result<Link>>) -> Result<Arc<Link>> {
    match tokio::time::timeout(PATIENCE * 2, opening).await {
        Ok(link) => link.map(Arc::new),
        Err(late) => Err(Error::new(ErrorKind::Unavailable, doing).caused_by(late)),
    }
}

/// Logs in, while a task of its own carries the connection.
async fn connected(
    login: &RedisConnectionInfo,
    stream: Box<dyn Stream>,
    config: AsyncConnectionConfig,
) -> std::result::Result<(MultiplexedConnection, JoinSet<()>), RedisError> {
    let (connection, driver) = MultiplexedConnection::new_with_config(login, stream, config).await?;
    let mut task = JoinSet::new();
    task.spawn(driver);
    Ok((connection, task))
}

/// Where a node of a Cluster says that the stream is: `MOVED SLOT HOST:PORT`.
pub(super) fn moved(error: &RedisError) -> Option<(String, u16)> {
    if error.code() != Some("MOVED") {
        return None;
    }
    let (host, port) = error.detail()?.split_whitespace().last()?.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    // A node that does not know its own name says none.
    (!host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
}
