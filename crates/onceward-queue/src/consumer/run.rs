//! A consumer that runs: one task that waits for whatever happens next, and a task for each handler.

use std::collections::{HashMap, HashSet};
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use onceward_core::{Clock, Error, ErrorKind, Result};
use tokio::task::JoinSet;

use super::ConsumerSettings;
use super::hands::Hands;
use super::work::{Next, Worker};
use crate::event::Event;
use crate::message::{Lane, Receipt};
use crate::source::Arrival;

/// From this pause on a message is given back to a broker that can wait, so that it takes no room meanwhile.
const GIVE_BACK_FROM: Duration = Duration::from_secs(2);

/// The longest pause before a store or a broker that is away is asked again.
const AWAY_MAX: Duration = Duration::from_secs(5);

type Asking<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

pub(super) struct Running {
    worker: Arc<Worker>,
    clock: Arc<dyn Clock>,
    drain: Duration,
    /// Whether the broker can wait with what is given back.
    can_wait: bool,
    /// Why the consumer stops by itself.
    failed: Option<Error>,
    hands: Hands,
    tasks: JoinSet<(u64, Next)>,
    receiving: Option<Asking<Vec<Arrival>>>,
    /// Whoever receives nothing still hears which lanes are taken away.
    listening: Option<Asking<Vec<Arrival>>>,
    broker: Away,
    store: Away,
    probing: Option<Asking<()>>,
    extending: Option<Asking<Vec<Receipt>>>,
    /// When deliveries are extended next.
    extend_at: Option<Duration>,
    /// Lanes that are taken away, and until when what runs may end.
    revoked: HashMap<Lane, Duration>,
    /// Until when what runs may end, once the consumer stops.
    stops_at: Option<Duration>,
}

/// Somebody who may be away, and when to ask again.
#[derive(Debug, Default)]
struct Away {
    failures: u32,
    until: Option<Duration>,
}

impl Away {
    fn failed(&mut self, now: Duration) {
        let pause = Duration::from_millis(10 << self.failures.min(10)).min(AWAY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
    }

    fn is_back(&mut self) {
        *self = Self::default();
    }
}

/// What happened next.
enum Happened {
    Ended(u64, Next),
    Arrived(Result<Vec<Arrival>>),
    Revoked(Result<Vec<Arrival>>),
    Probed(Result<()>),
    Extended(Result<Vec<Receipt>>),
    Stop,
    Time,
}

impl Running {
    pub(super) fn new(worker: Worker, settings: ConsumerSettings) -> Self {
        let clock = Arc::clone(worker.desk.engine.clock());
        let capabilities = worker.source.capabilities();
        let extend_every = capabilities.visible_for.map(|it| it / 3);
        Self {
            extend_at: extend_every.map(|it| clock.boot() + it),
            can_wait: capabilities.delays >= GIVE_BACK_FROM,
            failed: None,
            hands: Hands::new(&settings),
            worker: Arc::new(worker),
            clock,
            drain: settings.drain,
            tasks: JoinSet::new(),
            receiving: None,
            listening: None,
            broker: Away::default(),
            store: Away::default(),
            probing: None,
            extending: None,
            revoked: HashMap::new(),
            stops_at: None,
        }
    }

    pub(super) async fn until(mut self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let mut stop = pin!(stop);
        loop {
            let now = self.clock.boot();
            self.settle_revoked(now).await;
            if self.stops_at.is_some_and(|it| it <= now || self.tasks.is_empty()) {
                break;
            }
            self.begin_what_may(now);
            self.ask_what_is_due(now);
            let until_time = self.next_time().map(|it| it.saturating_sub(now));
            let stopping = self.stops_at.is_some();
            let happened = tokio::select! {
                biased;
                // Before anything that could begin more.
                () = &mut stop, if !stopping => Happened::Stop,
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok((number, next)) => Happened::Ended(number, next),
                    // A handler's panic is caught where it is called; another is a defect of ours.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                extended = asked(&mut self.extending) => Happened::Extended(extended),
                probed = asked(&mut self.probing) => Happened::Probed(probed),
                arrived = asked(&mut self.receiving) => Happened::Arrived(arrived),
                revoked = asked(&mut self.listening) => Happened::Revoked(revoked),
                () = sleep(&*self.clock, until_time) => Happened::Time,
            };
            let now = self.clock.boot();
            match happened {
                Happened::Ended(number, next) => self.ended(number, next, now).await,
                Happened::Arrived(arrived) => {
                    self.receiving = None;
                    match arrived {
                        Ok(arrivals) => self.take_up(arrivals, now),
                        Err(error) if error.kind() == ErrorKind::Invalid => {
                            self.failed = Some(error);
                            self.stop(now).await;
                        }
                        Err(error) => {
                            self.worker.broker_failed(&error);
                            self.broker.failed(now);
                        }
                    }
                }
                Happened::Revoked(revoked) => {
                    self.listening = None;
                    for arrival in revoked.unwrap_or_default() {
                        self.take_up_one(arrival, now);
                    }
                }
                Happened::Probed(probed) => {
                    self.probing = None;
                    match probed {
                        Ok(()) => {
                            self.store.is_back();
                            self.worker.desk.observer.on(&Event::Resumed);
                        }
                        Err(_) => self.store.failed(now),
                    }
                }
                Happened::Extended(extended) => {
                    self.extending = None;
                    self.extended(extended);
                }
                Happened::Stop => self.stop(now).await,
                Happened::Time => {}
            }
        }
        // What still runs is dropped here, as if the process were killed.
        self.tasks.shutdown().await;
        self.worker.source.close().await;
        self.failed.map_or(Ok(()), Err)
    }

    fn begin_what_may(&mut self, now: Duration) {
        if self.store.until.is_some() || self.stops_at.is_some() {
            return;
        }
        while let Some((number, delivery)) = self.hands.begin(now) {
            let worker = Arc::clone(&self.worker);
            self.tasks.spawn(async move { (number, worker.work(delivery).await) });
        }
    }

    fn ask_what_is_due(&mut self, now: Duration) {
        let room = self.hands.room();
        let is_over = |until: Option<Duration>| until.is_none_or(|it| it <= now);
        let may_receive = room > 0 && self.store.until.is_none() && self.stops_at.is_none();
        if self.receiving.is_none() && may_receive && is_over(self.broker.until) {
            let source = Arc::clone(&self.worker.source);
            self.listening = None;
            self.receiving = Some(Box::pin(async move { source.receive(room).await }));
        }
        if self.receiving.is_none() && self.listening.is_none() {
            let source = Arc::clone(&self.worker.source);
            self.listening = Some(Box::pin(async move { Ok(source.revoked().await) }));
        }
        if self.probing.is_none() && self.store.until.is_some_and(|it| it <= now) {
            let store = Arc::clone(self.worker.desk.engine.store());
            self.probing = Some(Box::pin(async move { store.check().await }));
        }
        if self.extending.is_none() && self.extend_at.is_some_and(|it| it <= now) {
            let every = self.worker.source.capabilities().visible_for.unwrap_or_default() / 3;
            self.extend_at = Some(now + every);
            let receipts = self.hands.receipts();
            if !receipts.is_empty() {
                let source = Arc::clone(&self.worker.source);
                self.extending = Some(Box::pin(async move { source.extend(&receipts).await }));
            }
        }
    }

    /// When something is to be done next though nothing happens.
    fn next_time(&self) -> Option<Duration> {
        let begins = self.hands.wakes_at().filter(|_| self.store.until.is_none() && self.stops_at.is_none());
        let probes = self.store.until.filter(|_| self.probing.is_none());
        let receives = self.broker.until.filter(|_| self.receiving.is_none() && self.stops_at.is_none());
        let extends = self.extend_at.filter(|_| self.extending.is_none());
        let revoked = self.revoked.values().min().copied();
        [begins, probes, receives, extends, revoked, self.stops_at].into_iter().flatten().min()
    }

    fn take_up(&mut self, arrivals: Vec<Arrival>, now: Duration) {
        self.broker.is_back();
        for arrival in arrivals {
            self.take_up_one(arrival, now);
        }
    }

    fn take_up_one(&mut self, arrival: Arrival, now: Duration) {
        match arrival {
            Arrival::Delivered(delivery) => {
                let redelivered = matches!(delivery.seen, crate::message::Seen::Before(_));
                self.worker.desk.observer.on(&Event::Received { redelivered });
                if self.revoked.remove(&delivery.receipt.lane).is_some() {
                    // It was let go without waiting for us, and is ours again: what is left of before is not.
                    self.hands.forget_all(&delivery.receipt.lane);
                }
                self.hands.take_up(delivery, now);
            }
            Arrival::Revoked { lane, lost } => {
                self.worker.desk.observer.on(&Event::Revoked);
                self.hands.forget_waiting(|it| it.lane == lane);
                self.revoked.insert(lane, if lost { now } else { now + self.drain });
            }
        }
    }

    async fn ended(&mut self, number: u64, next: Next, now: Duration) {
        let Some(delivery) = self.hands.get(number) else { return };
        let receipt = delivery.receipt.clone();
        if self.revoked.contains_key(&receipt.lane) {
            self.hands.forget(number);
            return;
        }
        match next {
            Next::Forget => drop(self.hands.forget(number)),
            // Nobody waits behind it.
            Next::Again(pause)
                if self.can_wait && pause >= GIVE_BACK_FROM && !self.hands.is_in_line(number) =>
            {
                self.hands.forget(number);
                self.give_back(&[receipt], pause).await;
            }
            Next::Again(pause) => self.hands.again(number, now + pause),
            Next::StoreAway => {
                if self.store.until.is_none() {
                    self.store.failed(now);
                    self.worker.desk.observer.on(&Event::Paused);
                }
                self.hands.again(number, now);
            }
        }
        if self.stops_at.is_some() {
            let waiting = self.hands.forget_waiting(|_| true);
            self.give_back(&waiting, Duration::ZERO).await;
        }
    }

    fn extended(&mut self, extended: Result<Vec<Receipt>>) {
        match extended {
            Ok(lost) => {
                let lost: HashSet<_> = lost.into_iter().collect();
                for _ in &lost {
                    self.worker.desk.observer.on(&Event::LeaseLost);
                }
                // What runs goes on: whoever gets the message now finds it running.
                self.hands.forget_waiting(|it| lost.contains(it));
            }
            Err(error) => self.worker.broker_failed(&error),
        }
    }

    async fn stop(&mut self, now: Duration) {
        self.stops_at = Some(now + self.drain);
        // Whatever arrives in it comes again.
        self.receiving = None;
        let waiting = self.hands.forget_waiting(|_| true);
        self.give_back(&waiting, Duration::ZERO).await;
    }

    async fn give_back(&mut self, receipts: &[Receipt], pause: Duration) {
        if receipts.is_empty() {
            return;
        }
        if let Err(error) = self.worker.source.give_back(receipts, pause).await {
            self.worker.broker_failed(&error);
        }
    }

    /// Lets lanes go of which nothing runs any more, or whose time is over.
    async fn settle_revoked(&mut self, now: Duration) {
        let over = self.revoked.iter().filter(|it| *it.1 <= now || !self.hands.has_of(it.0));
        let over: Vec<_> = over.map(|it| it.0.clone()).collect();
        for lane in over {
            self.revoked.remove(&lane);
            // What still runs goes on. Whoever has the lane next finds it running.
            self.hands.forget_all(&lane);
            self.worker.source.drained(&lane).await;
        }
    }
}

/// The answer to what was asked, if anything was. What was asked goes on when this is dropped.
async fn asked<T>(asking: &mut Option<Asking<T>>) -> Result<T> {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}

async fn sleep(clock: &dyn Clock, pause: Option<Duration>) {
    match pause {
        Some(pause) => clock.sleep(pause).await,
        None => pending().await,
    }
}
