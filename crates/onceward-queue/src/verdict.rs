//! The rules: what becomes of a message, by what was found, what its handler said, and the time. No broker, no store, no clock.

use std::fmt;
use std::time::Duration;

use onceward_core::{Timestamp, Unresolved};

use crate::handler::Failure;

/// How often a message is tried, and with which pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often its handler is begun, crashes included, until the message is parked. At least 1. Default 10.
    pub attempts_max: u32,
    /// The pause after the first failure; it doubles with each. Default 1 s.
    pub pause: Duration,
    /// The longest pause. Default 5 min.
    pub pause_max: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts_max: 10, pause: Duration::from_secs(1), pause_max: Duration::from_secs(300) }
    }
}

impl Retries {
    /// The pause after the n-th attempt failed: doubling, at most the longest, and up to a quarter of it off, as `jitter` says,
    /// so that what failed together does not come again together.
    #[must_use]
    pub fn pause_after(&self, attempt: u32, jitter: u8) -> Duration {
        let doubled =
            self.pause.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.pause_max).mul_f64(1.0 - f64::from(jitter) / 1024.0)
    }
}

/// Why a message is parked among the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It has no id, so nobody could tell a repeat from it.
    NoIdentity,
    /// Its id was first used for another payload.
    OtherPayload,
    /// An earlier attempt ended without saying whether its effect happened, and must not be made again by itself.
    Unresolved,
    /// Its handler failed, or took the process with it, as often as it may.
    Attempts,
    /// Its handler said so.
    Handler,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::NoIdentity, Self::OtherPayload, Self::Unresolved, Self::Attempts, Self::Handler];

    /// One word, the same in letters, metrics and the command.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoIdentity => "no-identity",
            Self::OtherPayload => "other-payload",
            Self::Unresolved => "unresolved",
            Self::Attempts => "attempts",
            Self::Handler => "handler",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of earlier attempts at a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many there were.
    pub count: u32,
    /// By the store's time: not before this is it tried again.
    pub not_before: Timestamp,
}

/// What to do about a message before anything else is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Look what is stored for its id, and run it if nothing is. This would be its n-th attempt.
    Go(u32),
    /// Its pause is not over.
    Wait(Duration),
}

/// Judges a message by its earlier attempts.
#[must_use]
pub fn judge_before(tries: Tries, now: Timestamp) -> Before {
    let left = now.until(tries.not_before);
    if left.is_zero() { Before::Go(tries.count.saturating_add(1)) } else { Before::Wait(left) }
}

/// What to do about a message whose handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Its effect did not happen, or may safely be made again: try it again after this pause.
    Again(Duration),
    /// Put it among the dead letters.
    Park(Reason),
}

/// Judges the failure of the n-th attempt. `unresolved` is the policy for effects that may have happened; where the effect was
/// rolled back, that is [`Unresolved::Rerun`].
#[must_use]
pub fn judge_failure(
    failure: &Failure,
    attempt: u32,
    retries: &Retries,
    unresolved: Unresolved,
    jitter: u8,
) -> After {
    let again = |pause: Duration| {
        if attempt >= retries.attempts_max { After::Park(Reason::Attempts) } else { After::Again(pause) }
    };
    match (failure, unresolved) {
        (Failure::Park { .. }, _) => After::Park(Reason::Handler),
        (Failure::Retry { after: Some(pause), .. }, _) => again(*pause),
        (Failure::Retry { after: None, .. }, _) | (Failure::Unknown { .. }, Unresolved::Rerun) => {
            again(retries.pause_after(attempt, jitter))
        }
        (Failure::Unknown { .. }, Unresolved::Hold) => After::Park(Reason::Unresolved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_failure_is_judged_by_what_it_says_of_the_effect() {
        let retries = Retries { attempts_max: 3, ..Retries::default() };
        let judge =
            |failure: &Failure, attempt, unresolved| judge_failure(failure, attempt, &retries, unresolved, 0);
        let (hold, rerun) = (Unresolved::Hold, Unresolved::Rerun);
        let retry = Failure::retry("busy");
        let later = Failure::Retry { reason: String::new(), after: Some(SECOND * 40) };
        let unknown = Failure::unknown("");
        let park = Failure::park("no such order");
        for (failure, attempt, unresolved, wanted) in [
            (&retry, 1, hold, After::Again(SECOND)),
            (&retry, 2, hold, After::Again(SECOND * 2)),
            (&retry, 3, hold, After::Park(Reason::Attempts)),
            (&later, 2, hold, After::Again(SECOND * 40)),
            (&later, 3, rerun, After::Park(Reason::Attempts)),
            (&unknown, 1, rerun, After::Again(SECOND)),
            (&unknown, 4, rerun, After::Park(Reason::Attempts)),
            (&unknown, 1, hold, After::Park(Reason::Unresolved)),
            (&unknown, 9, hold, After::Park(Reason::Unresolved)),
            (&park, 1, hold, After::Park(Reason::Handler)),
        ] {
            assert_eq!(judge(failure, attempt, unresolved), wanted, "{failure:?} {attempt} {unresolved:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_only_shortens_them() {
        let retries = Retries::default();
        assert_eq!(retries.pause_after(1, 0), SECOND);
        assert_eq!(retries.pause_after(4, 0), SECOND * 8);
        assert_eq!(retries.pause_after(40, 0), SECOND * 300);
        assert_eq!(retries.pause_after(u32::MAX, 0), SECOND * 300);
        assert!(retries.pause_after(1, 255) > SECOND.mul_f64(0.75));
        assert!(retries.pause_after(1, 255) < SECOND);
    }

    #[test]
    fn a_pause_that_is_not_over_is_waited_for() {
        let tries = Tries { count: 2, not_before: Timestamp::from_millis(5000) };
        assert_eq!(judge_before(tries, Timestamp::from_millis(4000)), Before::Wait(SECOND));
        assert_eq!(judge_before(tries, Timestamp::from_millis(5000)), Before::Go(3));
        assert_eq!(judge_before(Tries::default(), Timestamp::ZERO), Before::Go(1));
    }
}
