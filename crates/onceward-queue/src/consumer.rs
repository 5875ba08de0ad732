//! The loop: takes messages up, begins them in order, keeps them while they run, and tells the broker what became of them.

mod hands;
mod run;
mod schedule;
mod watch;
mod work;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use onceward_core::{Engine, Entropy, Error, ErrorKind, Key, Policy, Result, SystemEntropy};

use self::run::Running;
use self::watch::Watch;
use self::work::Worker;
use crate::desk::Desk;
use crate::event::{NoObserver, Observer};
use crate::handler::{Failure, Handling, boxed};
use crate::identity::Identity;
use crate::source::Source;
use crate::strength::Strength;
use crate::strength::lease::Leased;
use crate::verdict::Retries;

/// Runs a handler once for each message of a source.
pub struct Consumer {
    name: Arc<str>,
    source: Arc<dyn Source>,
    engine: Engine,
    key: Option<Identity>,
    strength: Option<Arc<dyn Strength>>,
    settings: ConsumerSettings,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
}

/// The choices of a [`Consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    /// What the claims of messages store. The outcome must be kept for longer than a message can come again, and a handler that
    /// takes longer than `run_max` is dropped. Default: lease 30 s, run 10 min, retention 7 days, tombstone 7 days, hold.
    pub policy: Policy,
    /// Which messages wait for which. Default: [`Order::Key`].
    pub order: Order,
    /// How many handlers run at a time. Default 16.
    pub parallel: usize,
    /// How many messages are in hand at a time: those that run, wait for their turn, or wait for another try. While so many
    /// are, none is received. Default 256.
    pub in_hand_max: usize,
    /// How often a failing message is tried.
    pub retries: Retries,
    /// How long dead letters are kept. Default 30 days.
    pub letters_keep: Duration,
    /// How long handlers that run may take to end when the consumer stops, or when their lane is taken away. Default 25 s: less
    /// than service managers wait before they kill.
    pub drain: Duration,
    /// Whether a consumer starts although what was done is forgotten before it can come again, or a message is lost before its
    /// attempts are over ([`Windows::misfits`](crate::Windows::misfits)). Default: no.
    pub short_windows: bool,
    /// Where ids are unique only within a topic: then the topic belongs to the id. A message that is moved to another topic is
    /// another message from then on. Default: ids are unique among all that a consumer reads.
    pub per_topic: bool,
}

/// Which messages wait for which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// None does.
    Free,
    /// Those with one [`key`](crate::Message::key) of the broker's: one that fails holds up those behind it, and no others.
    /// Messages without a key wait for none.
    Key,
    /// Those of one lane: one that fails holds up its lane.
    Lane,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        let week = Duration::from_secs(7 * 24 * 3600);
        Self {
            policy: Policy { retention: week, tombstone: week, ..Policy::default() },
            order: Order::Key,
            parallel: 16,
            in_hand_max: 256,
            retries: Retries::default(),
            letters_keep: Duration::from_secs(30 * 24 * 3600),
            drain: Duration::from_secs(25),
            short_windows: false,
            per_topic: false,
        }
    }
}

impl Consumer {
    /// A consumer called `name`. All processes that share its work have the same name; another name sees every message for
    /// itself.
    #[must_use]
    pub fn new(name: &str, source: impl Source, engine: Engine) -> Self {
        Self {
            name: name.into(),
            source: Arc::new(source),
            engine,
            key: None,
            strength: None,
            settings: ConsumerSettings::default(),
            entropy: Arc::new(SystemEntropy),
            observer: Arc::new(NoObserver),
        }
    }

    /// Where the id of a message stands.
    #[must_use]
    pub fn key(self, key: Identity) -> Self {
        Self { key: Some(key), ..self }
    }

    /// What to do with a message. It runs under a lease: claimed before, its end stored after. A crash in between leaves the
    /// message unresolved, and the policy says what becomes of it.
    #[must_use]
    pub fn handler<F>(self, handler: impl Fn(Handling) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        Self { strength: Some(Arc::new(Leased { handler: boxed(handler) })), ..self }
    }

    /// What to do with a message, in one transaction of PostgreSQL with the note that it was done: whatever the handler writes
    /// through the connection commits with it or not at all, so nothing is ever unresolved. A message that was not committed is
    /// tried again; a handler may be called several times for one attempt, each time in a fresh transaction. What it does
    /// elsewhere is not in the transaction.
    ///
    /// The engine of the consumer keeps attempts and dead letters; its store is best the same database.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn in_transaction(
        self,
        pool: sqlx::PgPool,
        operations: onceward_store_postgres::operations::Operations,
        handler: impl for<'c> Fn(
            Handling,
            &'c mut sqlx::PgConnection,
        ) -> futures_util::future::BoxFuture<'c, Result<(), Failure>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let strength =
            crate::strength::transaction::Transactional { pool, operations, handler: Box::new(handler) };
        Self { strength: Some(Arc::new(strength)), ..self }
    }

    /// Other choices than the defaults.
    #[must_use]
    pub fn settings(self, settings: ConsumerSettings) -> Self {
        Self { settings, ..self }
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Consumes until `stop` completes; then takes up nothing more, gives back what was not begun, and ends when the handlers
    /// that run have ended or [`drain`](ConsumerSettings::drain) is over.
    ///
    /// # Errors
    /// `Invalid`: the settings are wrong, the windows of the broker are too long for them
    /// ([`short_windows`](ConsumerSettings::short_windows)), or the broker refuses what it is asked for. A store or a broker that is away is no
    /// error: it is waited for.
    ///
    /// # Cancel safety
    /// Dropping the future equals a kill of the process: what runs is dropped where it stands.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let wrong = |what| Error::new(ErrorKind::Invalid, what);
        let settings = self.settings;
        settings.policy.check()?;
        if settings.parallel == 0 || settings.in_hand_max < settings.parallel {
            return Err(wrong("consume: parallel must be at least 1 and in_hand_max at least parallel"));
        }
        if settings.retries.attempts_max == 0 {
            return Err(wrong("consume: attempts_max must be at least 1"));
        }
        if Key::parse(&self.name).is_err() {
            return Err(wrong("consume: the name must be 1 to 255 visible ASCII characters"));
        }
        let key =
            self.key.ok_or_else(|| wrong("consume: say with `key` where the id of a message stands"))?;
        let strength =
            self.strength.ok_or_else(|| wrong("consume: say with `handler` what to do with a message"))?;
        let desk = Desk {
            engine: self.engine,
            consumer: self.name,
            policy: settings.policy,
            retries: settings.retries,
            letters_keep: settings.letters_keep,
            entropy: self.entropy,
            observer: self.observer,
        };
        let watch = Watch {
            source: Arc::clone(&self.source),
            clock: Arc::clone(desk.engine.clock()),
            observer: Arc::clone(&desk.observer),
        };
        let mut stop = pin!(stop);
        // Who starts all the same does not wait for the answer.
        if !settings.short_windows {
            match select(pin!(watch.check(&settings)), stop.as_mut()).await {
                Either::Left((checked, _)) => checked?,
                Either::Right(((), _)) => return Ok(()),
            }
        }
        let late = settings.short_windows.then(|| settings.clone());
        let worker = Worker { desk, source: self.source, key, strength, per_topic: settings.per_topic };
        let running = Box::pin(Running::new(worker, settings).until(stop));
        let lagging = pin!(watch.lag(late.as_ref()));
        match select(running, lagging).await {
            Either::Left((ended, _)) => ended,
            Either::Right((never, _)) => match never {},
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("name", &self.name)
            .field("source", &self.source)
            .field("key", &self.key)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
