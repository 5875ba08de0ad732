//! What a relay has in hand, and until when.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onceward_store_postgres::outbox::Held;

use crate::outbox::hold::Hold;

#[derive(Debug)]
struct Slot {
    fence: i64,
    hold: Arc<Hold>,
    /// Whether its line has said how it went: it is only kept until that is noted.
    told: bool,
}

/// The effects in hand, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Hand(HashMap<i64, Slot>);

impl Hand {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take_up(&mut self, held: Held, hold: &Arc<Hold>) {
        self.0.insert(held.seq, Slot { fence: held.fence, hold: Arc::clone(hold), told: false });
    }

    pub(super) fn told(&mut self, held: Held) {
        if let Some(it) = self.of(held) {
            it.told = true;
        }
    }

    pub(super) fn forget(&mut self, held: Held) {
        if self.of(held).is_some() {
            self.0.remove(&held.seq);
        }
    }

    pub(super) fn all(&self) -> Vec<Held> {
        self.0.iter().map(|(seq, it)| Held { seq: *seq, fence: it.fence }).collect()
    }

    /// Those that are kept last until then; the lines of others are over. Gives how many those are. What its line has told of is
    /// being noted meanwhile, and says nothing.
    pub(super) fn extended(&mut self, asked: &[Held], kept: &[i64], until: Duration) -> usize {
        let kept: std::collections::HashSet<_> = kept.iter().collect();
        let mut lost = 0;
        for held in asked {
            let Some(slot) = self.of(*held) else { continue };
            if kept.contains(&held.seq) {
                slot.hold.extend(until);
            } else if !slot.told {
                slot.hold.lose();
                lost += 1;
            }
        }
        lost
    }

    /// The same effect may be in hand anew, under a higher fence.
    fn of(&mut self, held: Held) -> Option<&mut Slot> {
        self.0.get_mut(&held.seq).filter(|it| it.fence == held.fence)
    }
}

#[cfg(test)]
mod tests {
    use onceward_core::{Clock, Timestamp};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Debug)]
    struct At(Duration);

    impl Clock for At {
        fn wall(&self) -> Timestamp {
            Timestamp::ZERO
        }
        fn boot(&self) -> Duration {
            self.0
        }
        fn sleep(&self, _pause: Duration) -> futures_util::future::BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn what_is_kept_lasts_longer_and_what_is_not_is_over() {
        let (mut hand, holds) = (Hand::default(), [(); 3].map(|()| Arc::new(Hold::until(SECOND * 10))));
        let held = |seq| Held { seq, fence: 1 };
        for (seq, hold) in (1..).zip(&holds) {
            hand.take_up(held(seq), hold);
        }
        hand.told(held(3));
        assert_eq!(hand.extended(&hand.all(), &[1], SECOND * 20), 1);
        assert_eq!(holds[0].left(&At(SECOND * 15)), SECOND * 5);
        assert_eq!(holds[1].left(&At(SECOND)), Duration::ZERO, "it is another's");
        assert_eq!(holds[2].left(&At(SECOND)), SECOND * 9, "it is being noted");
        assert_eq!(holds[0].left(&At(SECOND * 20)), Duration::ZERO);
    }

    #[test]
    fn what_is_in_hand_anew_is_not_forgotten_with_the_last_time() {
        let (mut hand, hold) = (Hand::default(), Arc::new(Hold::until(SECOND)));
        hand.take_up(Held { seq: 1, fence: 2 }, &hold);
        hand.forget(Held { seq: 1, fence: 1 });
        assert_eq!(hand.len(), 1);
        hand.forget(Held { seq: 1, fence: 2 });
        assert!(hand.is_empty());
    }
}
