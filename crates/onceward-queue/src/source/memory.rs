//! A broker in memory, on a clock of the caller's: for tests of handlers, and of consumers.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use onceward_core::{Clock, Error, ErrorKind, Result};
use tokio::sync::Notify;

use super::{Arrival, Capabilities, Source};
use crate::message::{Delivery, Lane, Message, Receipt, Seen};
use crate::windows::Windows;

/// Topics in memory. Clones share them.
#[derive(Clone)]
pub struct MemoryBroker {
    inner: Arc<Inner>,
}

/// What a [`MemoryBroker`] can do.
#[derive(Debug, Clone, Copy)]
pub struct MemorySettings {
    /// For how long a delivery is its consumer's. Default 30 s.
    pub visible_for: Duration,
    /// The longest that it waits with what was given back. Default 15 min.
    pub delays: Duration,
    /// Whether messages with one key come one after the other, each once the one before is acknowledged. Default: they do not.
    pub ordered: bool,
    /// Whether it says that a message was delivered before. Default: it does.
    pub tells_redelivery: bool,
    /// For how long it says that messages can come again. Default: it says nothing.
    pub windows: Windows,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            visible_for: Duration::from_secs(30),
            delays: Duration::from_secs(900),
            ordered: false,
            tells_redelivery: true,
            windows: Windows::default(),
        }
    }
}

struct Inner {
    clock: Arc<dyn Clock>,
    settings: MemorySettings,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    away: bool,
    next: u64,
    sessions: u64,
    topics: HashMap<Arc<str>, BTreeMap<u64, Slot>>,
}

struct Slot {
    message: Arc<Message>,
    deliveries: u32,
    visible_at: Duration,
    /// Who has it, if anybody.
    session: Option<u64>,
}

impl MemoryBroker {
    /// A broker without messages.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, settings: MemorySettings) -> Self {
        Self { inner: Arc::new(Inner { clock, settings, state: Mutex::default(), changed: Notify::new() }) }
    }

    /// Keeps a message.
    pub fn publish(&self, message: Message) {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let slot = Slot {
            deliveries: 0,
            visible_at: self.inner.clock.boot(),
            session: None,
            message: Arc::new(message),
        };
        state.topics.entry(Arc::clone(&slot.message.topic)).or_default().insert(number, slot);
        drop(state);
        self.inner.changed.notify_waiters();
    }

    /// A consumer of a topic. Dropped without [`close`](Source::close) it is one that was killed.
    #[must_use]
    pub fn source(&self, topic: &str) -> MemorySource {
        let mut state = self.state();
        state.sessions += 1;
        MemorySource { broker: self.clone(), topic: topic.into(), session: state.sessions }
    }

    /// The messages of a topic that nobody acknowledged, in their order.
    #[must_use]
    pub fn kept(&self, topic: &str) -> Vec<Arc<Message>> {
        let state = self.state();
        state
            .topics
            .get(topic)
            .into_iter()
            .flat_map(|it| it.values())
            .map(|it| Arc::clone(&it.message))
            .collect()
    }

    /// How often messages of a topic that nobody acknowledged were delivered, in their order.
    #[must_use]
    pub fn deliveries(&self, topic: &str) -> Vec<u32> {
        let state = self.state();
        state.topics.get(topic).into_iter().flat_map(|it| it.values()).map(|it| it.deliveries).collect()
    }

    /// Lets every call fail until it is back. What is delivered stays delivered.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
        self.inner.changed.notify_waiters();
    }

    /// Ends the time of every delivery: each comes again, whoever works on it.
    pub fn deliver_again(&self) {
        let now = self.inner.clock.boot();
        for slot in self.state().topics.values_mut().flat_map(BTreeMap::values_mut) {
            slot.visible_at = now;
            slot.session = None;
        }
        self.inner.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self, doing: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.away { Err(Error::new(ErrorKind::Unavailable, doing)) } else { Ok(state) }
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

/// A consumer of one topic of a [`MemoryBroker`].
#[derive(Debug)]
pub struct MemorySource {
    broker: MemoryBroker,
    topic: Arc<str>,
    session: u64,
}

impl MemorySource {
    /// What is to be delivered now, or when there may be something.
    fn take(&self, max: usize) -> Result<(Vec<Arrival>, Option<Duration>)> {
        let now = self.broker.inner.clock.boot();
        let settings = self.broker.inner.settings;
        let mut state = self.broker.here("receive messages")?;
        let Some(topic) = state.topics.get_mut(&self.topic) else { return Ok((Vec::new(), None)) };
        let (mut taken, mut next, mut busy) = (Vec::new(), None, Vec::new());
        for (number, slot) in topic.iter_mut() {
            let waits = settings.ordered && slot.message.key.as_ref().is_some_and(|it| busy.contains(it));
            if settings.ordered {
                busy.extend(slot.message.key.clone());
            }
            if slot.visible_at > now {
                next = Some(next.map_or(slot.visible_at, |it: Duration| it.min(slot.visible_at)));
                continue;
            }
            if waits || taken.len() == max {
                continue;
            }
            slot.deliveries += 1;
            slot.visible_at = now + settings.visible_for;
            slot.session = Some(self.session);
            let seen = match slot.deliveries {
                _ if !settings.tells_redelivery => Seen::Perhaps,
                1 => Seen::First,
                count => Seen::Before(Some(count)),
            };
            taken.push(Arrival::Delivered(Delivery {
                message: Arc::clone(&slot.message),
                receipt: Receipt {
                    lane: Lane(Arc::clone(&self.topic)),
                    session: self.session,
                    number: *number,
                    token: slot.deliveries.to_string().into(),
                },
                position: Some(format!("{}/{number}", self.topic).into()),
                seen,
            }));
        }
        Ok((taken, next))
    }

    /// Calls `change` with each delivery that is still this consumer's; gives back those that are not.
    fn change(
        &self,
        doing: &'static str,
        receipts: &[Receipt],
        mut change: impl FnMut(&mut BTreeMap<u64, Slot>, u64),
    ) -> Result<Vec<Receipt>> {
        let mut state = self.broker.here(doing)?;
        let topic = state.topics.entry(Arc::clone(&self.topic)).or_default();
        let mut lost = Vec::new();
        for receipt in receipts {
            let mine = topic.get(&receipt.number).is_some_and(|it| {
                it.session == Some(self.session) && it.deliveries.to_string() == *receipt.token
            });
            if mine {
                change(topic, receipt.number);
            } else {
                lost.push(receipt.clone());
            }
        }
        drop(state);
        self.broker.inner.changed.notify_waiters();
        Ok(lost)
    }
}

#[async_trait]
impl Source for MemorySource {
    fn capabilities(&self) -> Capabilities {
        let settings = self.broker.inner.settings;
        Capabilities {
            name: "memory",
            ordered: settings.ordered,
            visible_for: Some(settings.visible_for),
            delays: settings.delays,
            tells_redelivery: settings.tells_redelivery,
            stable_position: true,
        }
    }

    async fn receive(&self, max: usize) -> Result<Vec<Arrival>> {
        loop {
            let changed = self.broker.inner.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let (taken, next) = self.take(max)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            let clock = &self.broker.inner.clock;
            let pause = next.map(|it| it.saturating_sub(clock.boot()));
            tokio::select! {
                () = changed => {}
                () = async { clock.sleep(pause.unwrap_or_default()).await }, if pause.is_some() => {}
            }
        }
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        let until = self.broker.inner.clock.boot() + self.broker.inner.settings.visible_for;
        self.change("extend deliveries", receipts, |topic, number| {
            topic.entry(number).and_modify(|it| it.visible_at = until);
        })
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        self.change("acknowledge deliveries", receipts, |topic, number| {
            topic.remove(&number);
        })
        .map(drop)
    }

    async fn give_back(&self, receipts: &[Receipt], pause: Duration) -> Result<()> {
        let inner = &self.broker.inner;
        let until = inner.clock.boot() + pause.min(inner.settings.delays);
        self.change("give deliveries back", receipts, |topic, number| {
            topic.entry(number).and_modify(|it| {
                it.visible_at = until;
                it.session = None;
            });
        })
        .map(drop)
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        drop(self.broker.here("publish a message")?);
        self.broker.publish(message.clone());
        Ok(())
    }

    async fn windows(&self) -> Result<Windows> {
        drop(self.broker.here("ask for how long messages are kept")?);
        Ok(self.broker.inner.settings.windows)
    }

    async fn lag(&self) -> Result<Option<u64>> {
        let state = self.broker.here("count messages")?;
        Ok(Some(state.topics.get(&self.topic).map_or(0, BTreeMap::len) as u64))
    }

    async fn close(&self) {
        let now = self.broker.inner.clock.boot();
        for slot in self.broker.state().topics.values_mut().flat_map(BTreeMap::values_mut) {
            if slot.session == Some(self.session) {
                slot.session = None;
                slot.visible_at = now;
            }
        }
        self.broker.inner.changed.notify_waiters();
    }
}
