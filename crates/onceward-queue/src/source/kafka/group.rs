//! What the thread that talks to Kafka and the callers of the source share: the partitions that are held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use onceward_core::{Clock as _, Error, ErrorKind, Result, SystemClock};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::Notify;

use super::context::Context;
use super::error::{self, Trouble};
use super::hope::Hope;
use super::offsets::Offsets;
use super::settings::KafkaSettings;
use crate::message::{Delivery, Lane, Message, Receipt, Seen};
use crate::source::Arrival;

/// How long a commit that was refused waits for the next.
const COMMIT_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Group {
    pub(super) settings: KafkaSettings,
    state: Mutex<State>,
    /// Something arrived, or may be handed over by now.
    pub(super) arrived: Notify,
}

#[derive(Default)]
pub(super) struct State {
    /// The partitions that are held. They are gone before the thread lets go of their consumer.
    pub(super) lanes: BTreeMap<Lane, Held>,
    /// The lane that was served last: the next is another.
    turn: Option<Lane>,
    /// Lanes that are taken away, for the next receiver.
    pub(super) told: VecDeque<Arrival>,
    /// For the next receiver.
    pub(super) trouble: Option<Error>,
    /// For whoever acknowledges next.
    refused: Option<Error>,
    /// Whether commits may be kept yet.
    hope: Hope,
    /// When to commit next, at the earliest.
    commit_at: Duration,
    sessions: u64,
    /// Whether any partition was ever held.
    pub(super) began: bool,
    pub(super) ends: Option<End>,
}

/// How a consumer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// What is done is committed first.
    Close,
    /// As if it were killed.
    Drop,
}

/// A partition that is held.
pub(super) struct Held {
    topic: Arc<str>,
    partition: i32,
    session: u64,
    queue: PartitionQueue<Context>,
    offsets: Offsets,
    /// What is in hand.
    open: BTreeMap<i64, Arc<Message>>,
    given_back: BTreeSet<i64>,
    /// Taken off the queue, and too far ahead to be handed over.
    waits: Option<(i64, Arc<Message>)>,
    /// It is taken away: nothing more of it is handed over.
    pub(super) leaves: bool,
    /// Nothing of it is worked on any more.
    pub(super) drained: bool,
}

impl Group {
    pub(super) fn new(settings: KafkaSettings) -> Self {
        Self { settings, state: Mutex::default(), arrived: Notify::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be handed over now.
    pub(super) fn take(&self, max: usize) -> Result<Vec<Arrival>> {
        let mut state = self.state();
        if !state.told.is_empty() {
            return Ok(state.told.drain(..).collect());
        }
        if let Some(trouble) = state.trouble.take() {
            return Err(trouble);
        }
        let began = state.began;
        let mut lanes: Vec<Lane> = state.lanes.keys().cloned().collect();
        // Whoever comes after the one that was served last goes first.
        let after = lanes.iter().position(|it| state.turn.as_ref().is_some_and(|turn| it > turn));
        lanes.rotate_left(after.unwrap_or(0));
        let mut taken = Vec::new();
        for lane in lanes {
            let held = state.lanes.get_mut(&lane).expect("it was listed under the same lock");
            let before = taken.len();
            while taken.len() < max {
                match held.next(&lane) {
                    Some(Ok(delivery)) => taken.push(Arrival::Delivered(delivery)),
                    Some(Err(error)) => match error::of_consumer(error, began) {
                        Trouble::Passing => {}
                        Trouble::Told(error) | Trouble::Fatal(error) => {
                            state.trouble = Some(error);
                            break;
                        }
                    },
                    None => break,
                }
            }
            if taken.len() > before {
                state.turn = Some(lane);
            }
            if taken.len() == max {
                break;
            }
        }
        Ok(taken)
    }

    /// Notes what is done. The thread commits it within a moment.
    pub(super) fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        let mut state = self.state();
        for receipt in receipts {
            if let Some((held, offset)) = state.held(receipt)
                && held.offsets.done(offset)
            {
                held.open.remove(&offset);
                held.given_back.remove(&offset);
            }
        }
        match state.refused.take() {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// Lets these be handed over again, here: the place of the group in a partition is one, so nobody else can have them.
    pub(super) fn give_back(&self, receipts: &[Receipt]) {
        let mut state = self.state();
        for receipt in receipts {
            if let Some((held, offset)) = state.held(receipt)
                && held.offsets.is_open(offset)
            {
                held.given_back.insert(offset);
            }
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Those that belong to a session that is over.
    pub(super) fn lost(&self, receipts: &[Receipt]) -> Vec<Receipt> {
        let mut state = self.state();
        let is_lost = |it: &&Receipt| state.held(it).is_none();
        receipts.iter().filter(is_lost).cloned().collect()
    }
}

impl State {
    /// The partition that a receipt belongs to, in the same session.
    fn held(&mut self, receipt: &Receipt) -> Option<(&mut Held, i64)> {
        let held = self.lanes.get_mut(&receipt.lane).filter(|it| it.session == receipt.session)?;
        Some((held, i64::try_from(receipt.number).ok()?))
    }

    /// Holds a partition from now on, in a session of its own.
    pub(super) fn hold(
        &mut self,
        topic: &str,
        partition: i32,
        queue: PartitionQueue<Context>,
        settings: &KafkaSettings,
    ) {
        self.sessions += 1;
        self.began = true;
        self.hope = Hope::default();
        let held = Held {
            topic: topic.into(),
            partition,
            session: self.sessions,
            queue,
            offsets: Offsets::new(settings.window),
            open: BTreeMap::new(),
            given_back: BTreeSet::new(),
            waits: None,
            leaves: false,
            drained: false,
        };
        self.lanes.insert(lane(topic, partition), held);
    }

    /// Whether a lane that leaves may be let go: nothing of it is worked on, and all that is done is committed, or will not be:
    /// then it comes again, and is known.
    pub(super) fn may_leave(&self, lane: &Lane) -> bool {
        let Some(held) = self.lanes.get(lane) else { return true };
        let is_hopeless = self.hope.is_lost(SystemClock.boot());
        (held.drained || held.offsets.all_done()) && (is_hopeless || held.offsets.to_commit().is_none())
    }

    /// Whether all that may be committed is.
    pub(super) fn is_committed(&self) -> bool {
        self.lanes.values().all(|it| it.offsets.to_commit().is_none())
    }

    /// What to commit now, one list for each topic: what is refused for one is not taken for kept by the others. Nothing while
    /// the last commit was a moment ago and it is not `urgent`, or was refused.
    pub(super) fn due_commits(&mut self, settings: &KafkaSettings, urgent: bool) -> Vec<TopicPartitionList> {
        let now = SystemClock.boot();
        if now < self.commit_at && !(urgent && self.refused.is_none()) {
            return Vec::new();
        }
        let mut lists = BTreeMap::<Arc<str>, TopicPartitionList>::new();
        for held in self.lanes.values() {
            if let Some(offset) = held.offsets.to_commit() {
                let list = lists.entry(Arc::clone(&held.topic)).or_default();
                let added = list.add_partition_offset(&held.topic, held.partition, Offset::Offset(offset));
                added.expect("an offset that was read can be written");
            }
        }
        if !lists.is_empty() {
            self.commit_at = now + settings.commit_every;
        }
        lists.into_values().collect()
    }

    /// Takes note of what became of a commit.
    pub(super) fn committed(&mut self, result: KafkaResult<()>, list: &TopicPartitionList) {
        match result {
            Ok(()) => {
                self.refused = None;
                self.hope = Hope::default();
                for it in list.elements() {
                    if let (Some(held), Offset::Offset(offset)) =
                        (self.lanes.get_mut(&lane(it.topic(), it.partition())), it.offset())
                    {
                        held.offsets.committed(offset);
                    }
                }
            }
            Err(error) => {
                let now = SystemClock.boot();
                self.commit_at = now + COMMIT_AGAIN;
                self.hope.refused(error.rdkafka_error_code(), now);
                self.refused = Some(Error::new(ErrorKind::Unavailable, "commit offsets").caused_by(error));
            }
        }
    }
}

impl Held {
    /// The next that may be handed over, if there is one.
    fn next(&mut self, lane: &Lane) -> Option<KafkaResult<Delivery>> {
        if self.leaves {
            return None;
        }
        if let Some(offset) = self.given_back.pop_first() {
            let message = Arc::clone(self.open.get(&offset).expect("what is given back is open"));
            return Some(Ok(self.delivery(lane, offset, message, Seen::Before(None))));
        }
        let (offset, message) = match self.waits.take() {
            Some(waits) => waits,
            None => match self.queue.poll(Duration::ZERO)? {
                Ok(message) => (message.offset(), Arc::new(read(&self.topic, &message))),
                Err(error) => return Some(Err(error)),
            },
        };
        if !self.offsets.may_hand_over(offset) {
            self.waits = Some((offset, message));
            return None;
        }
        let seen = self.offsets.hand_over(offset);
        self.open.insert(offset, Arc::clone(&message));
        Some(Ok(self.delivery(lane, offset, message, seen)))
    }

    fn delivery(&self, lane: &Lane, offset: i64, message: Arc<Message>, seen: Seen) -> Delivery {
        Delivery {
            message,
            position: Some(format!("{}/{offset}", lane.0).into()),
            receipt: Receipt {
                lane: lane.clone(),
                session: self.session,
                number: offset.unsigned_abs(),
                token: "".into(),
            },
            seen,
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("lanes", &self.lanes.keys().collect::<Vec<_>>())
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

pub(super) fn lane(topic: &str, partition: i32) -> Lane {
    Lane(format!("{topic}/{partition}").into())
}

fn read(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Message {
    let bytes = |it: Option<&[u8]>| it.map(Bytes::copy_from_slice);
    let headers = message.headers().into_iter().flat_map(|it| it.iter());
    Message {
        topic: Arc::clone(topic),
        key: bytes(message.key()),
        headers: headers.map(|it| (it.key.to_owned(), bytes(it.value).unwrap_or_default())).collect(),
        body: bytes(message.payload()).unwrap_or_default(),
    }
}
