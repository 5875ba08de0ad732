//! Connections, and what is looked at when one is opened.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{BasicQosOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::{AMQPUriTcpExt as _, RustlsConnector, TLSConfig};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use onceward_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use super::settings::RabbitSettings;
use crate::source::tls;

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a peer that is gone without a word is looked for.
const HEARTBEAT_S: u16 = 10;
/// More often than anybody gives a message back. Brokers from 4.0 on drop what comes back 20 times, unless told otherwise.
const DELIVERY_LIMIT: i32 = 1_000_000;

/// A channel by which messages come. Its delivery tags mean nothing on another.
pub(super) struct Session {
    pub(super) number: u64,
    connection: Connection,
    pub(super) channel: Channel,
    /// Whether the queue remembers deliveries also when its broker is killed.
    pub(super) quorum: bool,
    pub(super) subscription: Mutex<Option<Consumer>>,
    /// What the broker was told nothing of. To tell it twice ends the channel.
    unsettled: StdMutex<HashSet<u64>>,
    ended: AtomicBool,
}

impl Session {
    pub(super) async fn open(settings: &RabbitSettings, number: u64) -> Result<Self> {
        let doing = "read a queue";
        let unavailable = |it| translate(doing, it, ErrorKind::Unavailable);
        let connection = connect(settings, doing).await?;
        let quorum = queue(&connection, settings).await?;
        let channel = connection.create_channel().await.map_err(unavailable)?;
        channel.basic_qos(settings.prefetch, BasicQosOptions::default()).await.map_err(unavailable)?;
        Ok(Self {
            number,
            connection,
            channel,
            quorum,
            subscription: Mutex::default(),
            unsettled: StdMutex::default(),
            ended: AtomicBool::new(false),
        })
    }

    pub(super) fn lives(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
            && self.connection.status().connected()
            && self.channel.status().connected()
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn unsettled(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn close(&self) {
        let _ = self.connection.close(200, "the consumer stops".into()).await;
    }

    /// How many messages of the queue are ready. Those in hand are not counted.
    pub(super) async fn waiting(&self, queue: &str) -> Result<u64> {
        let failed =
            |it: lapin::Error| Error::new(ErrorKind::Unavailable, "ask how many messages wait").caused_by(it);
        // A refusal ends the channel.
        let channel = self.connection.create_channel().await.map_err(failed)?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let told =
            channel.queue_declare(queue.into(), options, FieldTable::default()).await.map_err(failed)?;
        let _ = channel.close(200, "".into()).await;
        Ok(u64::from(told.message_count()))
    }
}

/// Looks whether the queue is there, and makes it if it may. Whether it is a quorum queue as it would be made.
async fn queue(connection: &Connection, settings: &RabbitSettings) -> Result<bool> {
    let doing = "read a queue";
    let unavailable = |it| translate(doing, it, ErrorKind::Unavailable);
    let name = short(&settings.queue)?;
    if settings.make {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
        if settings.single_active {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        // A refusal ends the channel.
        let channel = connection.create_channel().await.map_err(unavailable)?;
        match channel.queue_declare(name.clone(), options, arguments).await {
            Ok(_) => return Ok(true),
            // It is another, or who has rights for it is somebody else.
            Err(error) if is_refusal(&error) => {
                // It says what is not as it was asked for.
                if error.to_string().contains("'durable'") {
                    tracing::warn!(
                        queue = settings.queue,
                        "the queue is not durable: a restart of the server loses messages that nobody has seen yet"
                    );
                }
            }
            Err(error) => return Err(unavailable(error)),
        }
    }
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = connection.create_channel().await.map_err(unavailable)?;
    match channel.queue_declare(name, options, FieldTable::default()).await {
        Ok(_) => Ok(false),
        Err(error) if is_refusal(&error) => {
            let what =
                "read a queue that is not there, or that this user must not read: make it, or allow it";
            Err(Error::new(ErrorKind::Invalid, what).caused_by(error))
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// A connection.
pub(super) async fn connect(settings: &RabbitSettings, doing: &'static str) -> Result<Connection> {
    let wrong =
        |cause: String| Error::new(ErrorKind::Invalid, "read the URL of a RabbitMQ server").caused_by(cause);
    let mut uri: AMQPUri = settings.url.parse().map_err(wrong)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    let tls = match uri.scheme {
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => Some(RustlsConnector::from(tls::client(settings.ca.as_deref())?)),
    };
    let unavailable = |it| translate(doing, it, ErrorKind::Unavailable);
    let runtime = lapin::runtime::default_runtime().map_err(unavailable)?;
    let reach = async move |mut uri: AMQPUri, runtime| {
        uri.scheme = AMQPScheme::AMQP;
        let stream = uri.connect_with_config_async(TLSConfig::default(), &runtime).await?;
        match &tls {
            Some(tls) => Ok(stream.into_rustls(tls, &uri.authority.host).await?),
            None => Ok(stream),
        }
    };
    let properties = ConnectionProperties::default().with_connection_name("onceward".into());
    let connecting = Connection::connector(uri, runtime, reach, properties);
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(connected) => connected.map_err(unavailable),
        Err(late) => Err(Error::new(ErrorKind::Unavailable, doing).caused_by(late)),
    }
}

/// A name.
///
/// # Errors
/// `Invalid`: it is too long.
pub(super) fn short(name: &str) -> Result<ShortString> {
    let what = "use a name of more than 255 bytes";
    ShortString::try_new(name).map_err(|it| Error::new(ErrorKind::Invalid, what).caused_by(it))
}

/// An error of the client's, which is `otherwise` unless the broker refuses.
pub(super) fn translate(doing: &'static str, error: lapin::Error, otherwise: ErrorKind) -> Error {
    let kind = if is_refusal(&error) { ErrorKind::Invalid } else { otherwise };
    Error::new(kind, doing).caused_by(error)
}

/// Whether the broker would say the same again.
fn is_refusal(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => matches!(
            error.kind(),
            AMQPErrorKind::Soft(
                AMQPSoftError::ACCESSREFUSED | AMQPSoftError::NOTFOUND | AMQPSoftError::PRECONDITIONFAILED
            ) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
        ),
        lapin::ErrorKind::AuthProviderError(_) | lapin::ErrorKind::InvalidProtocolVersion(_) => true,
        _ => false,
    }
}
