//! Which message is begun next: in order where order is wanted, side by side where it is not, and never one whose pause is not
//! over. It knows numbers and times only.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

/// The messages that a consumer has in hand.
#[derive(Debug)]
pub(crate) struct Schedule {
    parallel: usize,
    running: usize,
    items: HashMap<u64, Item>,
    /// Those of one order key, in the order in which they came. The first is the only one that may run.
    lines: HashMap<Bytes, VecDeque<u64>>,
    /// Those that may be begun, and when: each that does not run and is the first of its line, or has none.
    ready: BTreeSet<(Duration, u64)>,
}

#[derive(Debug)]
struct Item {
    line: Option<Bytes>,
    at: Duration,
    runs: bool,
}

impl Schedule {
    /// At most `parallel` run at a time.
    pub(crate) fn new(parallel: usize) -> Self {
        Self { parallel, running: 0, items: HashMap::new(), lines: HashMap::new(), ready: BTreeSet::new() }
    }

    /// Takes up a message that came `now`, behind those of the same `line`.
    pub(crate) fn offer(&mut self, number: u64, line: Option<Bytes>, now: Duration) {
        let first = match &line {
            None => true,
            Some(line) => {
                let line = self.lines.entry(line.clone()).or_default();
                line.push_back(number);
                line.len() == 1
            }
        };
        if first {
            self.ready.insert((now, number));
        }
        self.items.insert(number, Item { line, at: now, runs: false });
    }

    /// The message to begin now, if any. It runs from then on.
    pub(crate) fn next(&mut self, now: Duration) -> Option<u64> {
        if self.running >= self.parallel {
            return None;
        }
        let (at, number) = *self.ready.first()?;
        if at > now {
            return None;
        }
        self.ready.pop_first();
        self.running += 1;
        self.items.get_mut(&number).expect("what is ready is in hand").runs = true;
        Some(number)
    }

    /// When something that waits for its time may be begun, should there be room.
    pub(crate) fn wakes_at(&self) -> Option<Duration> {
        (self.running < self.parallel).then(|| self.ready.first().map(|it| it.0)).flatten()
    }

    /// A message that ran is to be begun again `at` that time. Those behind it wait.
    pub(crate) fn again(&mut self, number: u64, at: Duration) {
        let Some(item) = self.items.get_mut(&number) else { return };
        if std::mem::take(&mut item.runs) {
            self.running -= 1;
        } else {
            self.ready.remove(&(item.at, number));
        }
        item.at = at;
        self.ready.insert((at, number));
    }

    /// A message is no longer in hand.
    pub(crate) fn remove(&mut self, number: u64) {
        let Some(item) = self.items.remove(&number) else { return };
        self.ready.remove(&(item.at, number));
        if item.runs {
            self.running -= 1;
        }
        let Some(key) = item.line else { return };
        let Some(line) = self.lines.get_mut(&key) else { return };
        line.retain(|it| *it != number);
        match line.front() {
            None => {
                self.lines.remove(&key);
            }
            Some(first) => {
                let next = &self.items[first];
                if !next.runs {
                    self.ready.insert((next.at, *first));
                }
            }
        }
    }

    pub(crate) fn is_in_line(&self, number: u64) -> bool {
        self.items.get(&number).is_some_and(|it| it.line.is_some())
    }

    pub(crate) fn runs(&self, number: u64) -> bool {
        self.items.get(&number).is_some_and(|it| it.runs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn one_line_keeps_its_order_and_blocks_no_other() {
        let mut schedule = Schedule::new(10);
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        for (number, line) in [(1, &a), (2, &a), (3, &b)] {
            schedule.offer(number, Some(line.clone()), NOW);
        }
        assert_eq!((schedule.next(NOW), schedule.next(NOW), schedule.next(NOW)), (Some(1), Some(3), None));
        schedule.again(1, NOW * 5);
        assert_eq!(schedule.next(NOW), None, "2 waits behind 1");
        assert_eq!(schedule.wakes_at(), Some(NOW * 5));
        assert_eq!(schedule.next(NOW * 5), Some(1));
        schedule.remove(1);
        assert_eq!(schedule.next(NOW * 5), Some(2));
    }

    #[test]
    fn what_waits_for_its_time_lets_others_pass_and_is_not_starved_by_them() {
        let mut schedule = Schedule::new(1);
        schedule.offer(1, None, NOW);
        assert_eq!(schedule.next(NOW), Some(1));
        schedule.again(1, NOW * 2);
        schedule.offer(2, None, NOW);
        assert_eq!(schedule.next(NOW), Some(2));
        schedule.remove(2);
        schedule.offer(3, None, NOW * 3);
        assert_eq!(schedule.next(NOW * 3), Some(1), "it has waited for longer");
    }

    proptest! {
        #[test]
        fn every_message_runs_in_the_order_of_its_line(
            lines in prop::collection::vec(prop::option::of(0..3_u8), 1..40),
            steps in prop::collection::vec(0..4_u8, 0..200),
            parallel in 1..5_usize,
        ) {
            let mut schedule = Schedule::new(parallel);
            let mut now = Duration::ZERO;
            let line_of = |number: u64| lines[usize::try_from(number).unwrap()];
            for (number, line) in (0..).zip(&lines) {
                schedule.offer(number, line.map(|it| Bytes::from(vec![it])), now);
            }
            let (mut running, mut done) = (Vec::<u64>::new(), Vec::<u64>::new());
            for step in steps {
                match (step, running.first().copied()) {
                    (0, _) => running.extend(schedule.next(now)),
                    (1, Some(first)) => {
                        schedule.again(first, now + NOW);
                        running.remove(0);
                    }
                    (2, Some(first)) => {
                        schedule.remove(first);
                        done.push(running.remove(0));
                    }
                    _ => now += NOW,
                }
                prop_assert!(running.len() <= parallel);
                prop_assert_eq!(running.len(), schedule.running);
                for line in 0..3 {
                    prop_assert!(running.iter().filter(|it| line_of(**it) == Some(line)).count() <= 1);
                }
            }
            // Whatever was left ends, too.
            for _ in 0..1000 {
                if let Some(first) = running.pop() {
                    schedule.remove(first);
                    done.push(first);
                }
                now += NOW;
                running.extend(schedule.next(now));
            }
            prop_assert_eq!(done.len(), lines.len());
            for line in 0..3 {
                let of_line: Vec<_> = done.iter().filter(|it| line_of(**it) == Some(line)).collect();
                prop_assert!(of_line.is_sorted());
            }
        }
    }
}
