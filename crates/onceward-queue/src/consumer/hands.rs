//! The deliveries that a consumer has in hand.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::schedule::Schedule;
use super::work::seen_again;
use super::{ConsumerSettings, Order};
use crate::message::{Delivery, Lane, Receipt};

/// Each delivery, under a number of our own, and when it is its turn.
#[derive(Debug)]
pub(super) struct Hands {
    order: Order,
    max: usize,
    next: u64,
    deliveries: HashMap<u64, Delivery>,
    schedule: Schedule,
}

impl Hands {
    pub(super) fn new(settings: &ConsumerSettings) -> Self {
        Self {
            order: settings.order,
            max: settings.in_hand_max,
            next: 0,
            deliveries: HashMap::new(),
            schedule: Schedule::new(settings.parallel),
        }
    }

    /// How many more may be received.
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.deliveries.len())
    }

    pub(super) fn take_up(&mut self, delivery: Delivery, now: Duration) {
        let line = match self.order {
            Order::Free => None,
            Order::Key => delivery.message.key.clone(),
            Order::Lane => Some(Bytes::copy_from_slice(delivery.receipt.lane.0.as_bytes())),
        };
        let number = self.next;
        self.next += 1;
        self.schedule.offer(number, line, now);
        self.deliveries.insert(number, delivery);
    }

    /// The next delivery to work on.
    pub(super) fn begin(&mut self, now: Duration) -> Option<(u64, Delivery)> {
        let number = self.schedule.next(now)?;
        let delivery = self.deliveries.get_mut(&number).expect("what is scheduled is in hand");
        let begun = delivery.clone();
        seen_again(delivery);
        Some((number, begun))
    }

    pub(super) fn wakes_at(&self) -> Option<Duration> {
        self.schedule.wakes_at()
    }

    pub(super) fn again(&mut self, number: u64, at: Duration) {
        self.schedule.again(number, at);
    }

    pub(super) fn forget(&mut self, number: u64) -> Option<Delivery> {
        self.schedule.remove(number);
        self.deliveries.remove(&number)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Delivery> {
        self.deliveries.get(&number)
    }

    /// Whether others may have to wait for it.
    pub(super) fn is_in_line(&self, number: u64) -> bool {
        self.schedule.is_in_line(number)
    }

    pub(super) fn has_of(&self, lane: &Lane) -> bool {
        self.deliveries.values().any(|it| it.receipt.lane == *lane)
    }

    /// Forgets all of a lane, also what runs.
    pub(super) fn forget_all(&mut self, lane: &Lane) {
        let of_lane = self.deliveries.iter().filter(|it| it.1.receipt.lane == *lane);
        let numbers: Vec<_> = of_lane.map(|it| *it.0).collect();
        for number in numbers {
            self.forget(number);
        }
    }

    pub(super) fn receipts(&self) -> Vec<Receipt> {
        self.deliveries.values().map(|it| it.receipt.clone()).collect()
    }

    /// Forgets those that do not run and match; gives back what they were known by, in the order in which they came.
    pub(super) fn forget_waiting(&mut self, matches: impl Fn(&Receipt) -> bool) -> Vec<Receipt> {
        let waiting =
            self.deliveries.iter().filter(|it| !self.schedule.runs(*it.0) && matches(&it.1.receipt));
        let mut numbers: Vec<_> = waiting.map(|it| *it.0).collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|it| self.forget(it)).map(|it| it.receipt).collect()
    }
}
