//! What takes effects out of an outbox and has them sent.

mod hand;
mod line;
mod run;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::{Clock, Entropy, Fence, Result, SystemClock, SystemEntropy};
use onceward_store_postgres::outbox::Row;
use sqlx::PgPool;

use self::run::Running;
use super::{EffectId, Outbox, Outgoing, Sender, wrong};
use crate::verdict::Retries;

/// Sends the effects of an outbox. Any number of them share the work, in however many processes; one that dies is replaced by the
/// others once its lease is over.
pub struct Relay {
    pool: PgPool,
    outbox: Outbox,
    settings: RelaySettings,
    senders: HashMap<String, Arc<dyn Sender>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn RelayObserver>,
}

/// The choices of a [`Relay`].
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// For how long an effect is a relay's before it must say that it still is; it does so every third of that. Of what a relay had
    /// that died, nothing goes out before. At least 1 s, default 30 s.
    pub lease: Duration,
    /// How often it looks when there was nothing to do. While there is, it looks at once. Default 200 ms.
    pub poll: Duration,
    /// Whether it listens for what an outbox with `notify` says at each commit; for that it holds one connection of its pool.
    /// Default: it does not. It looks every `poll` all the same.
    pub listen: bool,
    /// How many effects it sends at a time, each of another line. Default 64.
    pub parallel: usize,
    /// How many effects it has in hand at a time: so many at most go out twice when it dies. Default 1000.
    pub in_hand_max: usize,
    /// How many of one line it has in hand at a time. Default 100.
    pub line_max: usize,
    /// How many bytes of bodies it takes at a time; one may be longer. Default 16 MiB.
    pub bytes_max: usize,
    /// The longest that a try may take. Default 30 s.
    pub send_max: Duration,
    /// How often an effect is tried, and with which pauses, until it is parked. Default: 30 times within about 5 hours.
    pub retries: Retries,
    /// How long sent effects are kept. Default 24 h. `None` keeps them for ever.
    pub keep: Option<Duration>,
    /// How long what is on its way may take when the relay stops. Default 25 s: less than service managers wait before they kill.
    pub drain: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(200),
            listen: false,
            parallel: 64,
            in_hand_max: 1000,
            line_max: 100,
            bytes_max: 16 << 20,
            send_max: Duration::from_secs(30),
            retries: Retries {
                attempts_max: 30,
                pause: Duration::from_secs(1),
                pause_max: Duration::from_secs(900),
            },
            keep: Some(Duration::from_secs(24 * 3600)),
            drain: Duration::from_secs(25),
        }
    }
}

/// Something happened in a relay. No event carries an id, a destination or a body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayEvent {
    /// So many effects were taken up.
    Claimed(usize),
    /// A try ended, however, after this long.
    Tried(Duration),
    /// So many effects are noted as sent.
    Sent(usize),
    /// An effect is to be tried again after this pause.
    Retried(Duration),
    /// An effect was parked.
    Parked,
    /// So many effects had another owner by the time that this relay said how they went, or kept them.
    Fenced(usize),
    /// The lease of an effect was over before it was sent.
    LeaseLost,
    /// So many effects that were sent long ago were removed.
    Removed(u64),
    /// The database could not be asked.
    DatabaseFailed,
}

/// Takes note of events. Called inline: it must be quick and must not block.
pub trait RelayObserver: fmt::Debug + Send + Sync + 'static {
    /// Takes note of `event`.
    fn on(&self, event: &RelayEvent);
}

/// Takes note of nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRelayObserver;

impl RelayObserver for NoRelayObserver {
    fn on(&self, _event: &RelayEvent) {}
}

impl Relay {
    /// A relay of `outbox`, in the database that `pool` leads to. It uses up to four of its connections at a time, one more where it
    /// listens.
    #[must_use]
    pub fn new(pool: PgPool, outbox: Outbox) -> Self {
        Self {
            pool,
            outbox,
            settings: RelaySettings::default(),
            senders: HashMap::new(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            observer: Arc::new(NoRelayObserver),
        }
    }

    /// What sends effects of a kind. Those of kinds that it has no sender for are left to other relays.
    #[must_use]
    pub fn sender(self, kind: &str, sender: impl Sender) -> Self {
        self.shared_sender(kind, Arc::new(sender))
    }

    /// The same, where it is not known before the program runs what sends.
    #[must_use]
    pub fn shared_sender(mut self, kind: &str, sender: Arc<dyn Sender>) -> Self {
        self.senders.insert(kind.to_owned(), sender);
        self
    }

    /// Other choices than the defaults.
    #[must_use]
    pub fn settings(self, settings: RelaySettings) -> Self {
        Self { settings, ..self }
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observer(self, observer: Arc<dyn RelayObserver>) -> Self {
        Self { observer, ..self }
    }

    /// Another clock for leases and pauses than the machine's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Sends until `stop` completes; then takes up nothing more, gives back what was not begun, and ends when what is on its way
    /// has arrived and is noted, or [`drain`](RelaySettings::drain) is over.
    ///
    /// # Errors
    /// `Invalid`: the settings are wrong. A database or a far side that is away is no error: it is waited for.
    ///
    /// # Cancel safety
    /// Dropping the future equals a kill of the process: what was sent and not noted goes out again once the lease is over.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let settings = &self.settings;
        if self.senders.is_empty() {
            return Err(wrong("relay: say with `sender` what sends the effects of a kind"));
        }
        if settings.lease < Duration::from_secs(1) {
            return Err(wrong("relay: the lease must be at least 1 s"));
        }
        let counts = [settings.parallel, settings.in_hand_max, settings.line_max, settings.bytes_max];
        if counts.contains(&0) || settings.retries.attempts_max == 0 {
            return Err(wrong("relay: what is a number must be at least 1"));
        }
        if settings.poll.is_zero() || settings.send_max.is_zero() {
            return Err(wrong("relay: poll and send_max must be longer than nothing"));
        }
        Box::pin(Running::new(self)?.until(stop)).await
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.senders.keys().collect();
        f.debug_struct("Relay")
            .field("kinds", &kinds)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A row as its sender gets it, `more` tries after those that ended.
pub(super) fn outgoing(row: Row, more: u32) -> Outgoing {
    Outgoing {
        id: EffectId::from_bytes(row.id),
        kind: row.kind,
        destination: row.destination,
        key: row.key,
        headers: row.headers,
        body: row.body,
        attempt: row.attempts.saturating_add(more),
        fence: Fence(row.held.fence.unsigned_abs()),
        created: row.created,
    }
}
