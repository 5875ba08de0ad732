//! What finds answers that carry effects, and has them sent.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onceward_core::store::{Due, DueCursor, DuePage};
use onceward_core::{Clock, Engine, Entropy, Record, RecordId, Result, SystemEntropy, Timestamp};
use tokio::task::JoinSet;

use super::cargo::Cargo;
use super::deliver::{Desk, Found};
use super::unread::Told;
use crate::outbox::trying::Trying;
use crate::outbox::{NoRelayObserver, RelayEvent, RelayObserver, RelaySettings, Sender};

/// The longest pause before a store that is away is asked again.
const AWAY_MAX: Duration = Duration::from_secs(5);

/// How many records it asks for at once where many are not for it. Elsewhere it asks for as many as it can take up.
const PAGE: usize = 256;

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

    /// What sends effects of a kind. An answer whose next effect is of another kind is left to other relays. However many of those there
    /// are, a relay finds its own behind them; but it reads them all to do so, again and again. So let every kind that is used have a
    /// relay.
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
            walk: Walk::begin(),
            told: Told::default(),
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
    walk: Walk,
    /// What was told of answers that cannot be read.
    told: Told,
    look_at: Duration,
    failures: u32,
}

/// Once through all that is due, page after page: each record is read once, and none hides what is behind it.
struct Walk {
    at: DueCursor,
    /// The store's time when it began. What has become due since is left to the next walk, so that this one comes to an end, and
    /// what was left behind has its turn.
    began: Option<Timestamp>,
    /// Whether the last page had records that are not for this relay, so that the next one may be longer than there is room.
    is_crowded: bool,
    /// How long the store has taken for pages with such records.
    passing: Duration,
}

impl Walk {
    fn begin() -> Self {
        Self { at: Due::Wake.start(), began: None, is_crowded: false, passing: Duration::ZERO }
    }

    /// Whether it is over where it would go on from `next`.
    fn is_over(&self, next: Option<DueCursor>) -> bool {
        let is_new = |(time, _): (Timestamp, RecordId)| self.began.is_some_and(|began| time > began);
        next.is_none_or(|it| it.behind().is_some_and(is_new))
    }
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

    /// Takes up what is due, as far as there is room, and says when to look again.
    async fn look(&mut self) {
        let room = self.settings.parallel - self.in_hand.len();
        let limit = if self.walk.is_crowded { room.max(PAGE) } else { room };
        let asked = self.clock.boot();
        let page = tokio::select! {
            biased;
            page = self.desk.store.due(self.walk.at, limit) => page,
            () = self.clock.sleep(self.settings.lease) => {
                self.failed();
                return;
            }
        };
        let Ok(page) = page else {
            self.failed();
            return;
        };
        self.failures = 0;
        let took = self.clock.boot().saturating_sub(asked);
        self.walk.began.get_or_insert(page.now);
        let next = self.take_up(page, room);
        if self.walk.is_crowded {
            self.walk.passing += took;
        }
        if let Some(at) = next.filter(|_| !self.walk.is_over(next)) {
            self.walk.at = at;
            self.look_at = self.clock.boot();
            return;
        }
        let walked = std::mem::replace(&mut self.walk, Walk::begin());
        // However many are due that are not for it, the store has as long a rest from them.
        let rest = walked.passing.min(AWAY_MAX);
        let pause = if next.is_some() { rest } else { rest.max(self.settings.poll) };
        self.look_at = self.clock.boot() + pause;
    }

    /// Begins with what is for this relay, and gives where to go on.
    fn take_up(&mut self, page: DuePage, mut room: usize) -> Option<DueCursor> {
        self.walk.is_crowded = false;
        let mut at = self.walk.at;
        for record in page.records {
            let passed = at.pass_record(&record);
            if !self.in_hand.contains(&record.id) {
                match self.desk.found(&record) {
                    // This one and what is behind it is asked for again, as much of it as there is room for then.
                    Found::Ours(_) if room == 0 => {
                        self.walk.is_crowded = false;
                        return Some(at);
                    }
                    Found::Ours(cargo) => {
                        room -= 1;
                        self.begin(record, cargo);
                    }
                    Found::Others => self.walk.is_crowded = true,
                    Found::Unread(why) => {
                        self.walk.is_crowded = true;
                        self.told.tell(&record, &why, &*self.desk.trying.observer);
                    }
                }
            }
            at = passed;
        }
        page.next
    }

    fn begin(&mut self, record: Arc<Record>, cargo: Cargo) {
        self.in_hand.insert(record.id);
        let desk = Arc::clone(&self.desk);
        self.work.spawn(async move {
            let id = record.id;
            desk.deliver(record, cargo).await;
            id
        });
    }

    fn failed(&mut self) {
        self.desk.trying.observer.on(&RelayEvent::DatabaseFailed);
        let pause = self.settings.poll.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.look_at = self.clock.boot() + pause.clamp(self.settings.poll.min(AWAY_MAX), AWAY_MAX);
    }
}
