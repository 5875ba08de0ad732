//! What takes effects out of an outbox and has them sent.

mod hand;
mod line;
mod run;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use onceward_core::{Clock, Entropy, Fence, Result, SystemClock, SystemEntropy};
use onceward_store_postgres::outbox::Row;
use sqlx::PgPool;

use self::run::Running;
use super::{EffectId, NoRelayObserver, Outbox, Outgoing, RelayObserver, RelaySettings, Sender};

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
        self.settings.check(self.senders.len())?;
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
