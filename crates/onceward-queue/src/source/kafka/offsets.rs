//! What of one assignment of a partition was handed over, what of it is done, and what may be committed: arithmetic only.

use std::collections::BTreeSet;

use crate::message::Seen;

/// The offsets of one assignment of a partition.
///
/// Never commits over a gap: all below what is committed is done. Never hands over anything as far as a whole window beyond
/// what is known to be committed: so the next owner, who begins at what is committed, knows which messages this one may have
/// had.
#[derive(Debug, Clone)]
pub(super) struct Offsets {
    window: i64,
    /// The first offset that was handed over; others may have had it, and a window of those behind it.
    start: Option<i64>,
    /// One more than the last that was handed over.
    next: i64,
    /// Those that were handed over and are not done.
    open: BTreeSet<i64>,
    /// What the broker said that it keeps.
    committed: i64,
}

impl Offsets {
    pub(super) fn new(window: u32) -> Self {
        Self { window: window.into(), start: None, next: 0, open: BTreeSet::new(), committed: 0 }
    }

    /// Whether this offset may be handed over now.
    pub(super) fn may_hand_over(&self, offset: i64) -> bool {
        self.start.is_none() || offset < self.committed.saturating_add(self.window)
    }

    /// Notes that this offset is handed over, and tells whether somebody may have had it before.
    pub(super) fn hand_over(&mut self, offset: i64) -> Seen {
        let start = *self.start.get_or_insert_with(|| {
            // All below was done by others.
            self.committed = offset;
            offset
        });
        self.next = self.next.max(offset.saturating_add(1));
        self.open.insert(offset);
        if offset < start.saturating_add(self.window) { Seen::Perhaps } else { Seen::First }
    }

    /// Notes that this offset is done; `false` when it was not open.
    pub(super) fn done(&mut self, offset: i64) -> bool {
        self.open.remove(&offset)
    }

    /// Whether this offset was handed over and is not done.
    pub(super) fn is_open(&self, offset: i64) -> bool {
        self.open.contains(&offset)
    }

    /// Whether all that was handed over is done.
    pub(super) fn all_done(&self) -> bool {
        self.open.is_empty()
    }

    /// What to commit, if it is more than was: the first offset that is not done.
    pub(super) fn to_commit(&self) -> Option<i64> {
        let first = self.open.first().copied().unwrap_or(self.next);
        (self.start.is_some() && first > self.committed).then_some(first)
    }

    /// Notes that the broker keeps this.
    pub(super) fn committed(&mut self, offset: i64) {
        self.committed = self.committed.max(offset);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_done_out_of_order_is_committed_without_a_gap() {
        let mut it = Offsets::new(100);
        for offset in [40, 41, 45] {
            it.hand_over(offset);
        }
        assert!(it.done(41));
        assert_eq!(it.to_commit(), None);
        assert!(it.done(40));
        assert_eq!(it.to_commit(), Some(45), "there is nothing between 41 and 45");
        assert_eq!(it.to_commit(), Some(45), "until the broker has it");
        it.committed(45);
        assert_eq!(it.to_commit(), None);
        assert!(it.done(45) && !it.done(45));
        assert_eq!(it.to_commit(), Some(46));
    }

    #[test]
    fn the_first_window_may_have_been_seen_and_what_is_behind_it_was_not() {
        let mut it = Offsets::new(3);
        assert_eq!(it.hand_over(7), Seen::Perhaps);
        assert_eq!(it.hand_over(9), Seen::Perhaps);
        assert!(!it.may_hand_over(10), "before 7 is committed");
        it.committed(8);
        assert!(it.may_hand_over(10) && !it.may_hand_over(11));
        assert_eq!(it.hand_over(10), Seen::First);
    }

    /// A step of one owner of the partition.
    #[derive(Debug, Clone)]
    enum Step {
        HandOver,
        Done(prop::sample::Index),
        Commit,
        Confirm,
        Refuse,
        /// The owner dies, and another begins at what the broker has.
        NewOwner,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::HandOver),
            6 => any::<prop::sample::Index>().prop_map(Step::Done),
            3 => Just(Step::Commit),
            3 => Just(Step::Confirm),
            1 => Just(Step::Refuse),
            1 => Just(Step::NewOwner),
        ]
    }

    proptest! {
        #[test]
        fn no_owner_commits_over_a_gap_or_calls_first_what_another_had(
            steps in prop::collection::vec(step(), 0..200),
            window in 1_u32..12,
            gaps in prop::collection::vec(1_i64..4, 200),
        ) {
            let log: Vec<i64> = gaps.iter().scan(100, |at, gap| { *at += gap; Some(*at) }).collect();
            let (mut had, mut done) = (BTreeSet::new(), BTreeSet::new());
            let mut kept = 0;
            let (mut owner, mut open, mut on_the_way) = (Offsets::new(window), Vec::new(), None::<i64>);
            let mut position = 0;
            for step in steps {
                match step {
                    Step::HandOver => {
                        let Some(offset) = log.get(position).copied() else { continue };
                        if !owner.may_hand_over(offset) { continue }
                        position += 1;
                        let seen = owner.hand_over(offset);
                        prop_assert!(seen == Seen::Perhaps || !had.contains(&offset), "{offset} was had");
                        had.insert(offset);
                        open.push(offset);
                    }
                    Step::Done(index) if !open.is_empty() => {
                        let offset = open.swap_remove(index.index(open.len()));
                        prop_assert!(owner.done(offset));
                        done.insert(offset);
                    }
                    Step::Done(_) => {}
                    Step::Commit if on_the_way.is_none() => {
                        let Some(commit) = owner.to_commit() else { continue };
                        prop_assert!(log.iter().filter(|it| **it < commit).all(|it| done.contains(it)));
                        on_the_way = Some(commit);
                        // The broker may keep it before anybody hears so.
                        kept = kept.max(commit);
                    }
                    Step::Commit => {}
                    Step::Confirm => if let Some(commit) = on_the_way.take() { owner.committed(commit) },
                    Step::Refuse => on_the_way = None,
                    Step::NewOwner => {
                        (owner, on_the_way) = (Offsets::new(window), None);
                        open.clear();
                        position = log.iter().position(|it| *it >= kept).unwrap_or(log.len());
                    }
                }
            }
        }
    }
}
