//! The rules: what becomes of an effect, by what its sender said. No database, no network, no clock.

use std::time::Duration;

use super::SendFailure;
use crate::verdict::Retries;

/// The longest that a far side may ask to be left alone.
const AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// How much of a reason is kept.
const REASON_CHARS_MAX: usize = 1000;

/// What becomes of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is sent; the next one of its line goes out.
    Sent,
    /// It is tried again after this pause, and its line waits.
    Again {
        /// How long.
        pause: Duration,
        /// Why.
        reason: String,
    },
    /// It is parked, and its line waits until somebody has looked.
    Park {
        /// Why.
        reason: String,
    },
}

/// Judges an effect that was claimed, by how many tries before failed or ended with their relay: why it is parked untried, if it is.
#[must_use]
pub fn judge_claimed(attempts: u32, retries: &Retries) -> Option<Next> {
    let reason = || format!("relays ended with it in their hands, or it failed, {attempts} times");
    (attempts >= retries.attempts_max).then(|| Next::Park { reason: reason() })
}

/// Judges what the n-th try led to.
#[must_use]
pub fn judge_try(told: Result<(), SendFailure>, attempt: u32, retries: &Retries, jitter: u8) -> Next {
    let short = |it: String| it.chars().take(REASON_CHARS_MAX).collect();
    match told {
        Ok(()) => Next::Sent,
        Err(SendFailure::Park { reason }) => Next::Park { reason: short(reason) },
        Err(SendFailure::Retry { reason, .. }) if attempt >= retries.attempts_max => {
            Next::Park { reason: short(format!("failed {attempt} times: {reason}")) }
        }
        Err(SendFailure::Retry { reason, after }) => {
            let pause = after.map_or_else(|| retries.pause_after(attempt, jitter), |it| it.min(AFTER_MAX));
            Next::Again { pause, reason: short(reason) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_try_is_judged_by_what_its_sender_said_and_how_many_there_were() {
        let retries = Retries { attempts_max: 3, ..Retries::default() };
        let again = |pause| Next::Again { pause, reason: "busy".into() };
        let park = |reason: &str| Next::Park { reason: reason.into() };
        let later = |after| Err(SendFailure::Retry { reason: "busy".into(), after: Some(after) });
        for (told, attempt, wanted) in [
            (Ok(()), 1, Next::Sent),
            (Ok(()), 9, Next::Sent),
            (Err(SendFailure::retry("busy")), 1, again(SECOND)),
            (Err(SendFailure::retry("busy")), 2, again(SECOND * 2)),
            (Err(SendFailure::retry("busy")), 3, park("failed 3 times: busy")),
            (later(SECOND * 40), 1, again(SECOND * 40)),
            (later(Duration::MAX), 2, again(AFTER_MAX)),
            (later(SECOND), 3, park("failed 3 times: busy")),
            (Err(SendFailure::park("no such topic")), 1, park("no such topic")),
        ] {
            assert_eq!(judge_try(told.clone(), attempt, &retries, 0), wanted, "{told:?} {attempt}");
        }
        let long = judge_try(Err(SendFailure::park("ä".repeat(5000))), 1, &retries, 0);
        assert_eq!(long, park(&"ä".repeat(REASON_CHARS_MAX)));
    }

    #[test]
    fn what_relays_end_with_is_not_claimed_for_ever() {
        let retries = Retries { attempts_max: 3, ..Retries::default() };
        assert_eq!(judge_claimed(2, &retries), None);
        assert!(matches!(judge_claimed(3, &retries), Some(Next::Park { .. })));
    }
}
