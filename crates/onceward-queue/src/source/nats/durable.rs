//! The connection, and the durable consumer behind it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info, PullConsumer, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, Context, ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::stream::{ConsumerErrorKind, StorageType, Stream};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use onceward_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use tokio::sync::Mutex;

use super::PATIENCE;
use super::settings::NatsSettings;
use crate::source::tls;

/// The durable, as it was found on a connection.
pub(super) struct Session {
    /// Another one when the durable is not the one that it was: then the same place in it is another message.
    pub(super) number: u64,
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) consumer: PullConsumer,
    /// Which connection of the client's.
    pub(super) connection: u64,
    /// Which of all that were found.
    look: u64,
    /// The last message of the stream when the session began, if one server alone keeps count of deliveries.
    counted_from: Option<u64>,
}

impl Session {
    /// Whether a message came into the stream after the session began: then the server has counted all its deliveries.
    pub(super) fn is_new(&self, sequence: u64) -> bool {
        self.counted_from.is_some_and(|it| sequence > it)
    }
}

/// Keeps one connection and what was found behind it.
pub(super) struct Door {
    settings: NatsSettings,
    client: Mutex<Option<Client>>,
    session: Mutex<Option<Arc<Session>>>,
    looks: AtomicU64,
    /// The session that is not to be used any more without looking again.
    forgotten: AtomicU64,
}

impl Door {
    pub(super) fn new(settings: NatsSettings) -> Self {
        Self {
            settings,
            client: Mutex::default(),
            session: Mutex::default(),
            looks: AtomicU64::new(1),
            forgotten: AtomicU64::new(0),
        }
    }

    /// A client that is connected.
    pub(super) async fn client(&self, doing: &'static str) -> Result<Client> {
        let mut kept = self.client.lock().await;
        let client = match &*kept {
            Some(client) => client,
            None => kept.insert(self.connect(doing).await?),
        };
        match client.connection_state() {
            State::Connected => Ok(client.clone()),
            // It connects again by itself.
            State::Pending | State::Disconnected => Err(Error::new(ErrorKind::Unavailable, doing)),
        }
    }

    /// The durable on this connection. It is looked for, and made if there is none, whenever the client has connected again.
    pub(super) async fn session(&self, doing: &'static str) -> Result<Arc<Session>> {
        let mut kept = self.session.lock().await;
        let client = self.client(doing).await?;
        let connection = client.statistics().connects.load(Ordering::Acquire);
        if let Some(session) = &*kept
            && session.connection == connection
            && self.forgotten.load(Ordering::Acquire) != session.look
        {
            return Ok(Arc::clone(session));
        }
        let mut session = self.look(client, connection, doing).await?;
        if let Some(before) = &*kept {
            let same = before.consumer.cached_info().created == session.consumer.cached_info().created;
            session.number = before.number + u64::from(!same);
        }
        Ok(Arc::clone(kept.insert(Arc::new(session))))
    }

    /// The session, if there is one.
    pub(super) async fn kept(&self) -> Option<Arc<Session>> {
        self.session.lock().await.clone()
    }

    /// Has the durable looked for again before it is used.
    pub(super) fn forget(&self, session: &Session) {
        self.forgotten.store(session.look, Ordering::Release);
    }

    async fn connect(&self, doing: &'static str) -> Result<Client> {
        let settings = &self.settings;
        let mut options = ConnectOptions::new()
            .name("onceward")
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            // A server that is gone without a word is noticed after two of them.
            .ping_interval(PATIENCE * 2)
            .require_tls(settings.tls);
        if settings.tls || settings.ca.is_some() {
            options = options.tls_client_config(tls::client(settings.ca.as_deref())?);
        }
        if let Some(file) = &settings.credentials {
            let wrong = "read the credentials of a user of NATS";
            options = options
                .credentials_file(file)
                .await
                .map_err(|it| Error::new(ErrorKind::Invalid, wrong).caused_by(it))?;
        }
        let servers: Vec<&str> = settings.url.split(',').collect();
        // The client leaves out who the URL names.
        let address: async_nats::ServerAddr = servers[0].parse().map_err(|it: std::io::Error| {
            Error::new(ErrorKind::Invalid, "read the URL of a NATS server").caused_by(it)
        })?;
        let plain = |it: &str| percent_decode_str(it).decode_utf8_lossy().into_owned();
        options = match (address.username(), address.password()) {
            (Some(user), Some(password)) => options.user_and_password(plain(user), plain(password)),
            (Some(token), None) => options.token(plain(token)),
            (None, _) => options,
        };
        options.connect(servers).await.map_err(|it| {
            let kind = match it.kind() {
                ConnectErrorKind::ServerParse
                | ConnectErrorKind::Authentication
                | ConnectErrorKind::AuthorizationViolation => ErrorKind::Invalid,
                ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Tls
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => ErrorKind::Unavailable,
            };
            Error::new(kind, doing).caused_by(it)
        })
    }

    async fn look(&self, client: Client, connection: u64, doing: &'static str) -> Result<Session> {
        let context = context(client.clone());
        let stream = context.get_stream(&self.settings.stream).await.map_err(|it| {
            let (kind, doing) = match it.kind() {
                GetStreamErrorKind::JetStream(error) if error.code() == 404 => {
                    (ErrorKind::Invalid, "read a stream that is not there: make it first")
                }
                GetStreamErrorKind::JetStream(error) if error.code() < 500 => (ErrorKind::Invalid, doing),
                _ => (ErrorKind::Unavailable, doing),
            };
            Error::new(kind, doing).caused_by(it)
        })?;
        let info = self.durable(&stream, doing).await?;
        check(&self.settings, &info.config)?;
        let found = stream.cached_info();
        if found.config.storage == StorageType::Memory && self.looks.load(Ordering::Relaxed) == 1 {
            tracing::warn!(
                stream = self.settings.stream,
                "the storage of the stream is memory: a restart of the server loses messages that nobody has seen yet"
            );
        }
        // In a cluster, the count of deliveries may go with the server that leads, and nobody is told.
        let alone = found.cluster.as_ref().is_none_or(|it| it.name.is_none());
        let counted_from = alone.then_some(found.state.last_sequence);
        let config = pull::Config { durable_name: Some(info.name.clone()), ..pull::Config::default() };
        let consumer = PullConsumer::new(config, info, context.clone());
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        Ok(Session { number: 0, client, context, consumer, connection, look, counted_from })
    }

    /// The durable, made if there is none.
    async fn durable(&self, stream: &Stream, doing: &'static str) -> Result<Info> {
        let settings = &self.settings;
        match stream.consumer_info(&settings.durable).await {
            Ok(info) => return Ok(info),
            Err(error) => match error.kind() {
                ConsumerInfoErrorKind::NotFound => {}
                ConsumerInfoErrorKind::JetStream(it) if it.code() < 500 => {
                    return Err(Error::new(ErrorKind::Invalid, doing).caused_by(error));
                }
                _ => return Err(Error::new(ErrorKind::Unavailable, doing).caused_by(error)),
            },
        }
        let config = pull::Config {
            durable_name: Some(settings.durable.clone()),
            filter_subject: settings.subject.clone().unwrap_or_default(),
            deliver_policy: if settings.from_first { DeliverPolicy::All } else { DeliverPolicy::New },
            ack_policy: AckPolicy::Explicit,
            ack_wait: settings.visible_for,
            max_deliver: -1,
            max_ack_pending: settings.max_ack_pending,
            ..pull::Config::default()
        };
        match stream.create_consumer(config).await {
            Ok(made) => Ok(made.cached_info().clone()),
            Err(error) => {
                let kind = match error.kind() {
                    ConsumerErrorKind::JetStream(it) if it.code() < 500 => ErrorKind::Invalid,
                    _ => ErrorKind::Unavailable,
                };
                Err(Error::new(kind, "make a durable consumer").caused_by(error))
            }
        }
    }
}

/// JetStream over a client.
pub(super) fn context(client: Client) -> Context {
    ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).build(client)
}

/// Whether a durable that was there keeps what is promised.
fn check(settings: &NatsSettings, found: &Config) -> Result<()> {
    let wrong = |what| Err(Error::new(ErrorKind::Invalid, what));
    if found.deliver_subject.is_some() {
        return wrong("use a durable that pushes: make one that is pulled");
    }
    if found.ack_policy != AckPolicy::Explicit {
        return wrong(
            "use a durable with another ack_policy than explicit: it would count messages as done that are not",
        );
    }
    if found.max_deliver > 0 {
        return wrong("use a durable with max_deliver: it would drop messages unseen; set it to -1");
    }
    let waits = found.backoff.iter().min().unwrap_or(&found.ack_wait);
    if *waits < settings.visible_for {
        return wrong("use a durable whose ack_wait or backoff is shorter than visible_for: make them equal");
    }
    if found.headers_only {
        return wrong("use a durable that delivers headers only");
    }
    if settings.subject.as_ref().is_some_and(|it| found.filter_subject != *it) {
        return wrong("use a durable that reads other subjects: name another durable, or change this one");
    }
    Ok(())
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}
