//! The thread that talks to Kafka: it polls all the time, so that the group keeps this consumer however busy its hands are,
//! takes partitions up, and lets them go once nothing of them runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onceward_core::{Clock as _, Error, ErrorKind, Result, SystemClock};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::context::{Context, Turn, assign, let_go};
use super::error::{self, Trouble};
use super::group::{End, Group, lane};
use crate::message::Lane;
use crate::source::Arrival;

/// How long one poll waits: so late does the thread see what it was asked for.
const TICK: Duration = Duration::from_millis(25);
/// How long the last commit may take.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// How long Kafka is waited for where a new group begins with what comes.
const ASK_MAX: Duration = Duration::from_secs(5);
/// The pause before another client is made in place of one that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs until the source ends.
pub(super) fn run(group: &Arc<Group>) {
    loop {
        match Worker::new(Arc::clone(group)) {
            Ok(worker) => worker.serve(),
            Err(error) => tell(group, error),
        }
        // Another client may do better.
        let until = SystemClock.boot() + AGAIN;
        while SystemClock.boot() < until {
            if group.state().ends.is_some() {
                return;
            }
            std::thread::sleep(TICK);
        }
    }
}

fn tell(group: &Group, error: Error) {
    group.state().trouble = Some(error);
    group.arrived.notify_one();
}

struct Worker {
    group: Arc<Group>,
    consumer: Arc<BaseConsumer<Context>>,
    /// Assigned, and not taken up yet.
    coming: Option<TopicPartitionList>,
    leaving: Option<Leaving>,
}

/// Partitions that are taken away, while what runs of them ends.
struct Leaving {
    list: TopicPartitionList,
    lanes: Vec<Lane>,
    until: Duration,
}

impl Worker {
    fn new(group: Arc<Group>) -> Result<Self> {
        let config = group.settings.consumer();
        let consumer: BaseConsumer<Context> =
            config.create_with_context(Context::default()).map_err(error::of_client)?;
        let topics: Vec<&str> = group.settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(error::of_client)?;
        let consumer = Arc::new(consumer);
        Ok(Self { group, consumer, coming: None, leaving: None })
    }

    fn serve(mut self) {
        let mut closes_at = None;
        let mut is_of_use = true;
        while is_of_use {
            match self.consumer.poll(TICK) {
                None => {}
                Some(Ok(_)) => {
                    // Every partition has a queue of its own before it is taken up. Were one read past it, there would be a gap.
                    tell(
                        &self.group,
                        Error::new(ErrorKind::Unavailable, "read a partition from its own queue"),
                    );
                    is_of_use = false;
                }
                Some(Err(error)) => is_of_use = self.failed(error),
            }
            while let Some(turn) = self.consumer.context().turn() {
                match turn {
                    Turn::Assigned(list) => self.coming = Some(list),
                    Turn::Revoked(list) => self.revoked(list),
                }
            }
            self.take_up();
            let ends = self.group.state().ends;
            self.commit(ends.is_some() || self.leaving.is_some());
            self.let_go();
            match ends {
                None => {}
                Some(End::Drop) => break,
                Some(End::Close) => {
                    let now = SystemClock.boot();
                    if self.group.state().is_committed() || *closes_at.get_or_insert(now + CLOSE_MAX) <= now {
                        break;
                    }
                }
            }
        }
        self.end();
    }

    /// Commits what may be. Waits for the answer, for as long as the session may last at most: whoever receives, does not.
    fn commit(&self, urgent: bool) {
        let lists = self.group.state().due_commits(&self.group.settings, urgent);
        for list in lists {
            let result = self.consumer.commit(&list, CommitMode::Sync);
            self.group.state().committed(result, &list);
            // What was too far ahead may be near enough.
            self.group.arrived.notify_one();
        }
    }

    /// Leaves the group.
    fn end(self) {
        let mut state = self.group.state();
        for lane in state.lanes.keys().cloned().collect::<Vec<_>>() {
            state.told.push_back(Arrival::Revoked { lane, lost: true });
        }
        state.lanes.clear();
        drop(state);
        self.group.arrived.notify_one();
        self.consumer.context().ends.store(true, Ordering::SeqCst);
        while let Some(turn) = self.consumer.context().turn() {
            if let Turn::Revoked(list) = turn {
                let _ = let_go(&self.consumer, &list);
            }
        }
        if let Some(leaving) = self.leaving {
            let _ = let_go(&self.consumer, &leaving.list);
        }
        // The last of them: to drop it says so to the group, and waits for a moment.
        drop(self.consumer);
    }

    /// Whether the consumer is of use any more.
    fn failed(&self, error: KafkaError) -> bool {
        let began = self.group.state().began;
        match error::of_consumer(error, began) {
            Trouble::Passing => true,
            Trouble::Told(error) => {
                tell(&self.group, error);
                true
            }
            Trouble::Fatal(error) => {
                tell(&self.group, error);
                false
            }
        }
    }

    fn revoked(&mut self, list: TopicPartitionList) {
        self.coming = None;
        let lost = self.consumer.assignment_lost();
        let lanes: Vec<Lane> = list.elements().iter().map(|it| lane(it.topic(), it.partition())).collect();
        let mut state = self.group.state();
        for lane in &lanes {
            let Some(held) = state.lanes.get_mut(lane) else { continue };
            held.leaves = true;
            state.told.push_back(Arrival::Revoked { lane: lane.clone(), lost });
        }
        drop(state);
        self.group.arrived.notify_one();
        let now = SystemClock.boot();
        let until = if lost { now } else { now + self.group.settings.revoke_max };
        // Others may be taken away before the first are let go when the second time all is lost.
        if let Some(before) = self.leaving.take() {
            self.leave(&before);
        }
        self.leaving = Some(Leaving { list, lanes, until });
    }

    /// Lets go what nobody works on, or what has had its time.
    fn let_go(&mut self) {
        let Some(leaving) = &self.leaving else { return };
        let state = self.group.state();
        let may = leaving.lanes.iter().all(|it| state.may_leave(it));
        drop(state);
        if may || leaving.until <= SystemClock.boot() {
            let leaving = self.leaving.take().expect("it was looked at");
            self.leave(&leaving);
        }
    }

    fn leave(&self, leaving: &Leaving) {
        let mut state = self.group.state();
        for lane in &leaving.lanes {
            state.lanes.remove(lane);
        }
        drop(state);
        if let Err(error) = let_go(&self.consumer, &leaving.list) {
            tracing::warn!(%error, "partitions could not be let go");
        }
    }

    /// Takes up what was assigned.
    fn take_up(&mut self) {
        let Some(mut list) = self.coming.take() else { return };
        if !self.group.settings.from_first
            && let Err(error) = self.begin_at_end(&mut list)
        {
            let what = "find out where a new group begins";
            tell(&self.group, Error::new(ErrorKind::Unavailable, what).caused_by(error));
            // It is asked again; the group waits.
            self.coming = Some(list);
            return;
        }
        let mut state = self.group.state();
        for it in list.elements() {
            let queue = self.consumer.split_partition_queue(it.topic(), it.partition());
            let mut queue = queue.expect("a topic that was assigned has a name");
            let group = Arc::downgrade(&self.group);
            queue.set_nonempty_callback(move || {
                if let Some(group) = group.upgrade() {
                    group.arrived.notify_one();
                }
            });
            state.hold(it.topic(), it.partition(), queue, &self.group.settings);
        }
        drop(state);
        if let Err(error) = assign(&self.consumer, &list) {
            tracing::warn!(%error, "partitions could not be taken up");
        }
        // A queue that has something left of an earlier assignment tells nobody that more came, until it was looked at.
        self.group.arrived.notify_one();
    }

    /// Commits the ends of partitions of which nothing was ever committed: should this consumer die before it has done
    /// anything, the next one must not begin later.
    fn begin_at_end(&self, list: &mut TopicPartitionList) -> std::result::Result<(), KafkaError> {
        let committed = self.consumer.committed_offsets(list.clone(), ASK_MAX)?;
        let mut ends = TopicPartitionList::new();
        for it in committed.elements() {
            it.error()?;
            if it.offset() == Offset::Invalid {
                let (_, end) = self.consumer.fetch_watermarks(it.topic(), it.partition(), ASK_MAX)?;
                ends.add_partition_offset(it.topic(), it.partition(), Offset::Offset(end))?;
                list.set_partition_offset(it.topic(), it.partition(), Offset::Offset(end))?;
            }
        }
        if ends.count() > 0 {
            self.consumer.commit(&ends, CommitMode::Sync)?;
        }
        Ok(())
    }
}
