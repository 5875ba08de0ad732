//! NATS JetStream: a durable pull consumer of one stream, NATS 2.9 or later.
//!
//! The subject is the topic. The header `key` is what is ordered by, if it is there; every other header is a header.

mod durable;
mod headers;
mod pull;
mod settings;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config as PullConfig;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::{AckKind, PublishMessage};
use async_nats::jetstream::stream::RetentionPolicy;
use async_nats::{Request, RequestErrorKind};
use async_trait::async_trait;
use futures_util::future::join_all;
use onceward_core::{Clock as _, Error, ErrorKind, Result, SystemClock};
use tokio::sync::Mutex;

use self::durable::{Door, Session};
use self::pull::Pull;
pub use self::settings::NatsSettings;
use super::{Arrival, Capabilities, Source};
use crate::message::{Delivery, Lane, Message, Receipt, Seen};
use crate::windows::{Kept, Windows};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long leaving may take in all.
const LEAVING: Duration = Duration::from_secs(5);

/// A consumer that shares a durable with others.
pub struct Nats {
    settings: NatsSettings,
    door: Door,
    pull: Mutex<Option<Pull>>,
    lane: Lane,
    next: AtomicU64,
    /// Until when each delivery that is in hand is this consumer's. The server does not say, and would let anybody keep it or
    /// give it back.
    until: StdMutex<HashMap<Arc<str>, Duration>>,
}

impl Nats {
    /// A consumer. Asks nobody yet.
    ///
    /// # Errors
    /// `Invalid`: the settings cannot be.
    pub fn new(settings: NatsSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            lane: Lane(format!("{}/{}", settings.stream, settings.durable).into()),
            door: Door::new(settings.clone()),
            pull: Mutex::default(),
            next: AtomicU64::new(0),
            until: StdMutex::default(),
            settings,
        })
    }

    fn until(&self) -> MutexGuard<'_, HashMap<Arc<str>, Duration>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the server the same of all of these, and waits until it has heard. Which were told; the first error.
    async fn tell(
        &self,
        session: &Session,
        doing: &'static str,
        receipts: &[Receipt],
        kind: AckKind,
    ) -> (Vec<Receipt>, Result<()>) {
        let told = join_all(receipts.iter().map(async |it| {
            let request = Request::new().payload(kind.into()).timeout(Some(PATIENCE));
            session.client.send_request(it.token.to_string(), request).await
        }));
        let (mut heard, mut outcome) = (Vec::new(), Ok(()));
        for (receipt, told) in receipts.iter().zip(told.await) {
            match told {
                Ok(_) => heard.push(receipt.clone()),
                Err(error) => {
                    let kind = match error.kind() {
                        // Nobody listens: the durable is gone.
                        RequestErrorKind::NoResponders => {
                            self.door.forget(session);
                            ErrorKind::Unavailable
                        }
                        _ => ErrorKind::Uncertain,
                    };
                    outcome = Err(Error::new(kind, doing).caused_by(error));
                }
            }
        }
        (heard, outcome)
    }

    /// Those that are the session's and whose time is not over.
    fn mine(&self, session: &Session, receipts: &[Receipt]) -> Vec<Receipt> {
        let (now, until) = (SystemClock.boot(), self.until());
        let is_mine = |it: &&Receipt| {
            it.session == session.number && until.get(&it.token).is_some_and(|until| now < *until)
        };
        receipts.iter().filter(is_mine).cloned().collect()
    }

    fn forget(&self, receipts: &[Receipt]) {
        let mut until = self.until();
        for receipt in receipts {
            until.remove(&receipt.token);
        }
    }

    fn arrival(&self, session: &Session, message: async_nats::Message, since: Duration) -> Option<Arrival> {
        let token: Arc<str> = message.reply.as_deref()?.into();
        let message = async_nats::jetstream::Message { message, context: session.context.clone() };
        let info = message.info().ok()?;
        let (sequence, delivered) = (info.stream_sequence, info.delivered);
        let seen = match delivered {
            // How often it came is forgotten with a server that is killed.
            ..=1 if session.is_new(sequence) => Seen::First,
            ..=1 => Seen::Perhaps,
            count => Seen::Before(u32::try_from(count).ok()),
        };
        let message = message.message;
        let (key, headers) = headers::read(message.headers.as_ref());
        self.until().insert(Arc::clone(&token), since + self.settings.visible_for);
        Some(Arrival::Delivered(Delivery {
            message: Arc::new(Message {
                topic: message.subject.as_str().into(),
                key,
                headers,
                body: message.payload,
            }),
            receipt: Receipt {
                lane: self.lane.clone(),
                session: session.number,
                number: self.next.fetch_add(1, Ordering::Relaxed),
                token,
            },
            position: Some(format!("{}/{sequence}", self.settings.stream).into()),
            seen,
        }))
    }
}

#[async_trait]
impl Source for Nats {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "nats",
            // What one consumer has does not hold up what another gets.
            ordered: false,
            visible_for: Some(self.settings.visible_for),
            delays: Duration::from_secs(3600),
            tells_redelivery: true,
            stable_position: true,
        }
    }

    async fn receive(&self, max: usize) -> Result<Vec<Arrival>> {
        let mut pull = self.pull.lock().await;
        loop {
            let session = self.door.session("receive messages").await?;
            let pull = match &mut *pull {
                Some(pull) => pull,
                none => none.insert(Pull::new(&session.client, &self.settings).await?),
            };
            let stale = pull.stale();
            if !stale.is_empty() {
                // They lay there while nobody received. Those that are still ours come again at once.
                join_all(stale.into_iter().map(|it| session.client.publish(it, AckKind::Nak(None).into())))
                    .await;
            }
            let (taken, since) = pull.take(max);
            let arrivals: Vec<_> =
                taken.into_iter().filter_map(|it| self.arrival(&session, it, since)).collect();
            if !arrivals.is_empty() {
                return Ok(arrivals);
            }
            if let Err(error) = pull.wait(&session, max).await {
                self.door.forget(&session);
                return Err(error);
            }
        }
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        let doing = "extend deliveries";
        let session = self.door.session(doing).await?;
        let (mine, now) = (self.mine(&session, receipts), SystemClock.boot());
        let (heard, outcome) = self.tell(&session, doing, &mine, AckKind::Progress).await;
        for receipt in &heard {
            if let Some(until) = self.until().get_mut(&receipt.token) {
                *until = now + self.settings.visible_for;
            }
        }
        outcome?;
        let lost: Vec<_> = receipts.iter().filter(|it| !mine.contains(it)).cloned().collect();
        self.forget(&lost);
        Ok(lost)
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        let doing = "acknowledge deliveries";
        self.forget(receipts);
        let session = self.door.session(doing).await?;
        // Whoever has them by now finds them done: to acknowledge for another is right. In another session the same place in
        // the stream may be another message.
        let told: Vec<_> = receipts.iter().filter(|it| it.session == session.number).cloned().collect();
        self.tell(&session, doing, &told, AckKind::Ack).await.1
    }

    async fn give_back(&self, receipts: &[Receipt], pause: Duration) -> Result<()> {
        let doing = "give deliveries back";
        let session = self.door.session(doing).await?;
        let mine = self.mine(&session, receipts);
        self.forget(receipts);
        let pause = (!pause.is_zero()).then(|| pause.min(self.capabilities().delays));
        self.tell(&session, doing, &mine, AckKind::Nak(pause)).await.1
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        let doing = "publish a message";
        if message.topic.is_empty()
            || message.topic.contains(|it: char| it.is_whitespace() || "*>".contains(it))
        {
            let what = "publish a message: its topic must be a subject without white space, * and >";
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        let client = self.door.client(doing).await?;
        let headers = headers::write(message, self.settings.id_header.as_deref())?;
        let mut publish = PublishMessage::build().payload(message.body.clone());
        if !headers.is_empty() {
            publish = publish.headers(headers);
        }
        let context = durable::context(client);
        let refused = |it: PublishError| {
            let kind = match it.kind() {
                PublishErrorKind::StreamNotFound | PublishErrorKind::MaxPayloadExceeded => ErrorKind::Invalid,
                PublishErrorKind::MaxAckPending => ErrorKind::Unavailable,
                _ => ErrorKind::Uncertain,
            };
            Error::new(kind, doing).caused_by(it)
        };
        // A duplicate of what the stream has already is kept, too.
        context
            .send_publish(message.topic.to_string(), publish)
            .await
            .map_err(refused)?
            .await
            .map_err(refused)
            .map(drop)
    }

    async fn windows(&self) -> Result<Windows> {
        let doing = "ask for how long a stream keeps messages";
        let session = self.door.session(doing).await?;
        let stream = session.context.get_stream(&self.settings.stream).await;
        let stream = stream.map_err(|it| Error::new(ErrorKind::Unavailable, doing).caused_by(it))?;
        let config = &stream.cached_info().config;
        let kept = match (config.max_age, config.retention) {
            (Duration::ZERO, RetentionPolicy::Limits) => Some(Kept::WithoutEnd),
            // What was acknowledged is gone; for how long what was not stays, nobody says.
            (Duration::ZERO, _) => None,
            (age, _) => Some(Kept::For(age)),
        };
        Ok(Windows { kept, ..Windows::default() })
    }

    async fn lag(&self) -> Result<Option<u64>> {
        let doing = "ask how many messages wait";
        let session = self.door.session(doing).await?;
        let asked = session
            .context
            .get_consumer_from_stream::<PullConfig, _, _>(&*self.settings.durable, &*self.settings.stream)
            .await;
        let consumer = asked.map_err(|it| Error::new(ErrorKind::Unavailable, doing).caused_by(it))?;
        let info = consumer.cached_info();
        Ok(Some(info.num_pending + info.num_ack_pending as u64))
    }

    async fn close(&self) {
        // What cannot be told now comes to others once its time is over.
        let _ = tokio::time::timeout(LEAVING, self.leave()).await;
    }
}

impl Nats {
    /// Asks for nothing more, and gives back what it has.
    async fn leave(&self) {
        let Some(session) = self.door.kept().await else { return };
        if let Some(pull) = self.pull.lock().await.take() {
            let (left, since) = pull.end().await;
            for message in left {
                self.arrival(&session, message, since);
            }
        }
        let now = SystemClock.boot();
        let left: Vec<_> = self.until().drain().filter(|it| now < it.1).collect();
        let receipt = |token| Receipt { lane: self.lane.clone(), session: session.number, number: 0, token };
        let left: Vec<_> = left.into_iter().map(|it| receipt(it.0)).collect();
        let _ = self.tell(&session, "leave", &left, AckKind::Nak(None)).await;
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("settings", &self.settings).finish_non_exhaustive()
    }
}
