//! One connection to a server: made, logged in, looked at, and known to have the scripts.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use redis::aio::AsyncPushSender;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::fault;
use crate::inspect::{Facts, inspect};
use crate::open::OpenError;
use crate::script::Scripts;
use crate::settings::{Address, Password, RedisSettings};
use crate::tls::Tls;

/// How many calls may lie between their callers and the socket.
const PIPELINE: usize = 1024;

/// How long one server is asked for the map of its Cluster: others know it, too.
const ASK_MAX: Duration = Duration::from_secs(1);

/// What carries a connection: it runs until the connection ends.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that is ready for calls.
pub(crate) struct Fresh {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) driver: Driver,
    pub(crate) facts: Facts,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a connection is made with.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) settings: RedisSettings,
    pub(crate) scripts: Scripts,
    tls: Option<Tls>,
}

impl Dialer {
    pub(crate) fn new(settings: RedisSettings) -> Result<Self, OpenError> {
        let tls = settings.tls.then(|| Tls::new(settings.ca.as_deref())).transpose()?;
        let scripts = Scripts::new(&settings);
        Ok(Self { settings, scripts, tls })
    }

    /// Connects within the time of a call.
    pub(crate) async fn dial(self: &Arc<Self>, address: &Address) -> Result<Fresh, OpenError> {
        let limit = self.settings.call_timeout;
        match tokio::time::timeout(limit, self.connect(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(unreachable(address, &format!("it does not answer within {}", seconds(limit)))),
        }
    }

    /// Asks one thing over a connection of its own, of whatever server is there; of a Sentinel where the settings name
    /// Sentinels.
    pub(crate) async fn ask(&self, address: &Address, command: &Cmd) -> Result<Value, OpenError> {
        let settings = &self.settings;
        let login = match &settings.sentinel {
            None => self.login(),
            Some(it) => login(it.user.as_deref(), it.password.as_ref()),
        };
        let asking = async {
            let (mut connection, driver) = self.log_in(address, login, config()).await?;
            match select(connection.req_packed_command(command), driver).await {
                Either::Left((told, _)) => {
                    told.and_then(Value::extract_error).map_err(|it| refused(address, &it))
                }
                Either::Right(((), _)) => Err(unreachable(address, "it closed the connection")),
            }
        };
        match tokio::time::timeout(self.settings.call_timeout.min(ASK_MAX), asking).await {
            Ok(told) => told,
            Err(_) => Err(unreachable(address, "it does not answer in time")),
        }
    }

    /// Connects for messages that the server sends by itself, within the time of a call. Nothing is asked of the server.
    pub(crate) async fn hear(
        &self,
        address: &Address,
        heard: impl AsyncPushSender,
    ) -> Result<(MultiplexedConnection, Driver), OpenError> {
        let login = self.login().set_protocol(ProtocolVersion::RESP3);
        let connecting = self.log_in(address, login, config().set_push_sender(heard));
        match tokio::time::timeout(self.settings.call_timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(unreachable(address, "it does not answer in time")),
        }
    }

    fn login(&self) -> RedisConnectionInfo {
        let settings = &self.settings;
        login(settings.user.as_deref(), settings.password.as_ref()).set_db(settings.database.into())
    }

    async fn connect(&self, address: &Address) -> Result<Fresh, OpenError> {
        let (connection, driver) = self.log_in(address, self.login(), config()).await?;
        let ready = Box::pin(self.ready(connection.clone()));
        match select(ready, driver).await {
            Either::Left((facts, driver)) => {
                let facts = facts?;
                Ok(Fresh { connection, driver, facts })
            }
            Either::Right(((), _)) => Err(unreachable(address, "it closed the connection")),
        }
    }

    async fn log_in(
        &self,
        address: &Address,
        login: RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<(MultiplexedConnection, Driver), OpenError> {
        let met = |it: io::Error| unreachable(address, &it.to_string());
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(met)?;
        stream.set_nodelay(true).map_err(met)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(&address.host, stream).await.map_err(met)?),
        };
        let connected = MultiplexedConnection::new_with_config(&login, stream, config).await;
        let (connection, driver) = connected.map_err(|it| refused(address, &it))?;
        Ok((connection, Box::pin(driver)))
    }

    /// Looks at the server and hands it the scripts.
    async fn ready(&self, mut connection: MultiplexedConnection) -> Result<Facts, OpenError> {
        let facts = inspect(&mut connection, &self.settings).await?;
        let mut load = redis::pipe();
        for script in self.scripts.all() {
            load.cmd("SCRIPT").arg("LOAD").arg(&script.source);
        }
        // Where it is forbidden, the first call of each script brings it along.
        let _ = connection.req_packed_commands(&load, 0, self.scripts.all().len()).await;
        Ok(facts)
    }
}

/// Calls have their own limits of time.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE)
}

fn login(user: Option<&str>, password: Option<&Password>) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default();
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(password) = password {
        login = login.set_password(Password::reveal(password));
    }
    login
}

fn refused(address: &Address, error: &RedisError) -> OpenError {
    let is_login = error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
    let (address, cause) = (address.to_string(), fault::describe(error));
    if is_login { OpenError::Login { address, cause } } else { OpenError::Unreachable { address, cause } }
}

fn unreachable(address: &Address, cause: &str) -> OpenError {
    OpenError::Unreachable { address: address.to_string(), cause: cause.to_owned() }
}

fn seconds(pause: Duration) -> String {
    humantime::format_duration(pause).to_string()
}
