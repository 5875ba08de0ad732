//! Asking a durable for messages. One request is open at a time, and outlives the calls that wait for it: what arrives
//! when nobody waits is there for the next call.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Client, Message, StatusCode, Subject, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use onceward_core::{Clock as _, Error, ErrorKind, Result, SystemClock};

use super::durable::Session;
use super::settings::NatsSettings;

/// The longest that a request stays open.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// How long after its end a request is still waited for.
const GRACE: Duration = Duration::from_secs(2);

/// Requests, and what came for them.
pub(super) struct Pull {
    inbox: String,
    arriving: Subscriber,
    visible_for: Duration,
    requests: u64,
    /// The last request.
    asked_at: Duration,
    /// How many messages it may still bring.
    left: usize,
    connection: u64,
    waiting: Vec<Message>,
    /// Why there is no use in waiting.
    failed: Option<Error>,
}

impl Pull {
    pub(super) async fn new(client: &Client, settings: &NatsSettings) -> Result<Self> {
        let inbox = client.new_inbox();
        let arriving = client.subscribe(format!("{inbox}.*")).await;
        let failed = |it| Error::new(ErrorKind::Unavailable, "receive messages").caused_by(it);
        Ok(Self {
            inbox,
            arriving: arriving.map_err(failed)?,
            visible_for: settings.visible_for,
            requests: 0,
            asked_at: Duration::ZERO,
            left: 0,
            connection: 0,
            waiting: Vec::new(),
            failed: None,
        })
    }

    /// How long a request stays open: what it brings at its end is still young.
    fn open_for(&self) -> Duration {
        (self.visible_for / 4).min(OPEN_MAX)
    }

    /// Where to say that what has lain here for too long is given back. What is not ours any more is left alone.
    pub(super) fn stale(&mut self) -> Vec<Subject> {
        let age = SystemClock.boot().saturating_sub(self.asked_at);
        if age < self.visible_for / 2 {
            return Vec::new();
        }
        let waiting = self.arrived(usize::MAX);
        if age >= self.visible_for {
            return Vec::new();
        }
        waiting.into_iter().filter_map(|it| it.reply).collect()
    }

    /// What is there, and since when it may have been.
    pub(super) fn take(&mut self, max: usize) -> (Vec<Message>, Duration) {
        (self.arrived(max), self.asked_at)
    }

    fn arrived(&mut self, max: usize) -> Vec<Message> {
        let mut taken = std::mem::take(&mut self.waiting);
        while taken.len() < max {
            let Some(Some(message)) = self.arriving.next().now_or_never() else { break };
            taken.extend(self.sort(message));
        }
        taken
    }

    /// Waits until there is something, or until there is reason to look again. Asks for `max` messages unless a request is
    /// open.
    pub(super) async fn wait(&mut self, session: &Session, max: usize) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let open_until = self.asked_at + self.open_for() + GRACE;
        let is_over =
            self.left == 0 || self.connection != session.connection || SystemClock.boot() >= open_until;
        if is_over {
            self.ask(session, max).await?;
        }
        let pause = (self.asked_at + self.open_for() + GRACE).saturating_sub(SystemClock.boot());
        match tokio::time::timeout(pause.min(Duration::from_secs(1)), self.arriving.next()).await {
            Ok(Some(message)) => {
                let message = self.sort(message);
                self.waiting.extend(message);
                self.failed.take().map_or(Ok(()), Err)
            }
            Ok(None) => Err(Error::new(ErrorKind::Unavailable, "receive messages")),
            // Whether the connection is still the same is looked at by the caller.
            Err(_) => Ok(()),
        }
    }

    async fn ask(&mut self, session: &Session, max: usize) -> Result<()> {
        let config = &session.consumer.cached_info().config;
        let most = usize::try_from(config.max_batch).unwrap_or(0);
        let batch = if most > 0 { max.min(most) } else { max };
        let longest = if config.max_expires.is_zero() { OPEN_MAX } else { config.max_expires };
        let expires = Some(self.open_for().min(longest));
        self.requests += 1;
        self.asked_at = SystemClock.boot();
        self.left = batch;
        self.connection = session.connection;
        let inbox = format!("{}.{}", self.inbox, self.requests);
        let asked = session
            .consumer
            .request_batch(BatchConfig { batch, expires, ..BatchConfig::default() }, inbox.into());
        asked.await.map_err(|it| Error::new(ErrorKind::Unavailable, "receive messages").caused_by(it))
    }

    /// A message, or what the server says of the request.
    fn sort(&mut self, message: Message) -> Option<Message> {
        let Some(status) = message.status else {
            self.left = self.left.saturating_sub(1);
            return Some(message);
        };
        if !message.subject.ends_with(&format!(".{}", self.requests)) || status == StatusCode::IDLE_HEARTBEAT
        {
            return None;
        }
        self.left = 0;
        if status == StatusCode::NOT_FOUND || status == StatusCode::TIMEOUT {
            return None;
        }
        // The durable is gone, or its server goes.
        let said = message.description.unwrap_or_default();
        let failed = Error::new(ErrorKind::Unavailable, "receive messages");
        self.failed = Some(failed.caused_by(format!("{status} {said}")));
        None
    }

    /// Asks for nothing more. What was on its way, if it is still ours, and since when it may have been.
    pub(super) async fn end(mut self) -> (Vec<Message>, Duration) {
        let mut left = std::mem::take(&mut self.waiting);
        if self.arriving.drain().await.is_ok() {
            while let Some(message) = self.arriving.next().await {
                left.extend(self.sort(message));
            }
        }
        (left, self.asked_at)
    }
}
