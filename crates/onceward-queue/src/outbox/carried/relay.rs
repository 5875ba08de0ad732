//! What finds answers that carry effects, and has them sent.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onceward_core::store::Due;
use onceward_core::{Clock, Engine, Entropy, Record, RecordId, Result, SystemEntropy};
use tokio::task::JoinSet;

use super::deliver::Desk;
use crate::outbox::trying::Trying;
use crate::outbox::{NoRelayObserver, RelayEvent, RelayObserver, RelaySettings, Sender};

/// The longest pause before a store that is away is asked again.
const AWAY_MAX: Duration = Duration::from_secs(5);

/// How many answers that are due and not for it a relay looks behind.
const PASSED_BY_MAX: usize = 5000;

/// Sends the [`Effects`](super::Effects) that answers carry, out of whatever store has them. Any number of them share the work of a
/// shared store; one that dies is replaced by the others once its lease is over.
pub struct AnswerRelay {
    engine: Engine,
    settings: RelaySettings,
    senders: HashMap<String, Arc<dyn Sender>>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn RelayObserver>,
}

impl AnswerRelay {
    /// A relay of the answers in the store of `engine`.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            settings: RelaySettings::default(),
            senders: HashMap::new(),
            entropy: Arc::new(SystemEntropy),
            observer: Arc::new(NoRelayObserver),
        }
    }

    /// What sends effects of a kind. An answer whose next effect is of another kind is left to other relays; behind 5,000 of those a
    /// relay does not find its own. So let every kind that is used have a relay.
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

    /// Other choices than the defaults. Of them it uses `lease`, `poll`, `parallel` (so many answers at a time), `send_max`,
    /// `retries` and `drain`.
    #[must_use]
    pub fn settings(self, settings: RelaySettings) -> Self {
        Self { settings, ..self }
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observer(self, observer: Arc<dyn RelayObserver>) -> Self {
        Self { observer, ..self }
    }

    /// Sends until `stop` completes; then begins nothing more, and ends when what is on its way has arrived and is noted, or
    /// [`drain`](RelaySettings::drain) is over.
    ///
    /// # Errors
    /// `Invalid`: the settings are wrong. A store or a far side that is away is no error: it is waited for.
    ///
    /// # Cancel safety
    /// Dropping the future equals a kill of the process: what was sent and not noted goes out again once the lease is over.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        self.settings.check(self.senders.len())?;
        let clock = Arc::clone(self.engine.clock());
        let desk = Desk {
            store: Arc::clone(self.engine.store()),
            trying: Trying {
                senders: self.senders,
                retries: self.settings.retries,
                send_max: self.settings.send_max,
                clock: Arc::clone(&clock),
                entropy: self.entropy,
                observer: self.observer,
            },
            lease: self.settings.lease,
            stops: AtomicBool::new(false),
        };
        let now = clock.boot();
        let running = Running {
            desk: Arc::new(desk),
            settings: self.settings,
            clock,
            work: JoinSet::new(),
            in_hand: HashSet::new(),
            passed_by: 0,
            look_at: now,
            failures: 0,
        };
        Box::pin(running.until(stop)).await;
        Ok(())
    }
}

impl fmt::Debug for AnswerRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.senders.keys().collect();
        f.debug_struct("AnswerRelay")
            .field("kinds", &kinds)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

struct Running {
    desk: Arc<Desk>,
    settings: RelaySettings,
    clock: Arc<dyn Clock>,
    work: JoinSet<RecordId>,
    in_hand: HashSet<RecordId>,
    /// How many of those that were due last time are not for this relay: so many more are asked for.
    passed_by: usize,
    look_at: Duration,
    failures: u32,
}

impl Running {
    async fn until(mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        let clock = Arc::clone(&self.clock);
        loop {
            let has_room = self.in_hand.len() < self.settings.parallel;
            let pause = self.look_at.saturating_sub(clock.boot());
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = self.work.join_next() => {
                    self.ended(ended);
                    continue;
                }
                () = clock.sleep(pause), if has_room => {}
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.look() => {}
            }
        }
        self.desk.stops.store(true, Ordering::Release);
        let drained = async { while self.work.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = drained => {}
            () = clock.sleep(self.settings.drain) => {}
        }
    }

    fn ended(&mut self, ended: Result<RecordId, tokio::task::JoinError>) {
        match ended {
            Ok(id) => {
                self.in_hand.remove(&id);
            }
            // A sender's panic is caught where it is called; another is a defect of ours.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Takes up what is due, as far as there is room.
    async fn look(&mut self) {
        let room = self.settings.parallel - self.in_hand.len();
        let limit = room + self.in_hand.len() + self.passed_by;
        let due = tokio::select! {
            biased;
            due = self.desk.store.due(Due::Wake, limit) => due,
            () = self.clock.sleep(self.settings.lease) => {
                self.failed();
                return;
            }
        };
        let Ok(due) = due else {
            self.failed();
            return;
        };
        self.failures = 0;
        let is_full = due.len() >= limit;
        let (ours, others): (Vec<Arc<Record>>, Vec<_>) = due
            .into_iter()
            .filter(|it| !self.in_hand.contains(&it.id))
            .partition(|it| self.desk.can_send(it));
        // Where others fill the list, what is behind them is asked for at once.
        let is_crowded = is_full && others.len() > self.passed_by;
        if others.len() >= PASSED_BY_MAX && self.passed_by < PASSED_BY_MAX {
            tracing::warn!(
                answers = others.len(),
                "so many answers carry effects of kinds that this relay has no sender for that it may not find its own"
            );
        }
        self.passed_by = others.len().min(PASSED_BY_MAX);
        let taken = ours.len().min(room);
        for record in ours.into_iter().take(room) {
            self.in_hand.insert(record.id);
            let desk = Arc::clone(&self.desk);
            self.work.spawn(async move {
                let id = record.id;
                desk.deliver(record).await;
                id
            });
        }
        let at_once = taken == room || is_crowded;
        self.look_at = self.clock.boot() + if at_once { Duration::ZERO } else { self.settings.poll };
    }

    fn failed(&mut self) {
        self.desk.trying.observer.on(&RelayEvent::DatabaseFailed);
        let pause = self.settings.poll.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.look_at = self.clock.boot() + pause.clamp(self.settings.poll.min(AWAY_MAX), AWAY_MAX);
    }
}
