//! The far side: where effects happen, and where nobody of ours can look.

use onceward_core::Fence;

use crate::promise::{DECLINED, Promise};
use crate::setup::Setup;
use crate::state::{Attempt, Effect, Who, World};

/// What the far side does about repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FarSide {
    /// Nothing.
    Ignores,
    /// It refuses a fence below the highest it saw.
    Fences,
    /// It returns its first answer for a key that it has done.
    Dedups,
    /// Both.
    Both,
}

impl FarSide {
    fn fences(self) -> bool {
        matches!(self, Self::Fences | Self::Both)
    }

    fn dedups(self) -> bool {
        matches!(self, Self::Dedups | Self::Both)
    }
}

impl Setup {
    /// An effect arrives, however late. It is heard of only while its sender still waits.
    pub(crate) fn arrive(&self, world: &mut World, who: Who, fence: Fence, accepts: bool) {
        world.effects.remove(&(who, fence));
        let far = &mut world.far;
        let effect = if self.far_side.fences() && far.highest.is_some_and(|it| fence < it) {
            Effect::Refused
        } else {
            // Also a call that is declined shows its fence.
            far.highest = far.highest.max(Some(fence)).filter(|_| self.far_side.fences());
            match far.first {
                Some(first) if self.far_side.dedups() => Effect::Answered(first),
                _ if !accepts => Effect::Answered(DECLINED),
                _ => {
                    far.accepted += 1;
                    far.first = far.first.or(Some(far.accepted));
                    Effect::Answered(far.accepted)
                }
            }
        };
        if far.accepted > world.history.effects_allowed {
            world.broke(self.one_effect());
        }
        self.compare_with_far_side(world);
        if let Attempt::Holding(mut holding) = *world.attempt(who)
            && holding.held.fence == fence
            && holding.effect == Effect::Sent
        {
            holding.effect = effect;
            world.put_attempt(who, Attempt::Holding(holding));
        }
    }

    /// The promise about effects that this setup is about.
    fn one_effect(&self) -> Promise {
        let hold = self.attempts.iter().any(|it| it.hold);
        if hold { Promise::OneEffectUnderHold } else { Promise::OneEffectUnderRerun }
    }

    /// In the first life of a record, and without an operator, its answer and the far side must agree.
    pub(crate) fn compare_with_far_side(&self, world: &mut World) {
        let declined = world.record.is_some_and(|it| it.state == crate::compact::Was::Done(DECLINED));
        if declined && world.far.accepted > 0 && world.history.effects_allowed == 1 {
            world.broke(Promise::AnswerIsTrue);
        }
    }
}
