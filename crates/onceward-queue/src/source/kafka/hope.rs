//! For how long commits that are refused are worth waiting for.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

/// For how long a group that takes no commits while it shares out its partitions is waited for: it may itself wait for this
/// consumer to let go. Kafka takes them until all members have joined again; others do not.
const REBALANCE_MAX: Duration = Duration::from_secs(1);

/// Whether what is done may be committed yet.
#[derive(Debug, Default)]
pub(super) struct Hope {
    ends_at: Option<Duration>,
}

impl Hope {
    /// Takes note of a refusal.
    pub(super) fn refused(&mut self, code: Option<Code>, now: Duration) {
        self.ends_at = match code {
            Some(Code::RebalanceInProgress) => self.ends_at.or(Some(now + REBALANCE_MAX)),
            // It is no member any more.
            Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::FencedInstanceId) => Some(now),
            _ => None,
        };
    }

    /// Whether there is none: what was done comes again, and is known.
    pub(super) fn is_lost(&self, now: Duration) -> bool {
        self.ends_at.is_some_and(|it| it <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn a_group_that_waits_for_us_is_not_waited_for() {
        let mut hope = Hope::default();
        assert!(!hope.is_lost(NOW));
        for _ in 0..3 {
            hope.refused(Some(Code::RebalanceInProgress), NOW);
        }
        hope.refused(Some(Code::RebalanceInProgress), NOW + REBALANCE_MAX / 2);
        assert!(!hope.is_lost(NOW + REBALANCE_MAX / 2));
        assert!(hope.is_lost(NOW + REBALANCE_MAX), "counted from the first refusal");
    }

    #[test]
    fn who_is_no_member_waits_for_nothing_and_other_refusals_are_waited_out() {
        let mut hope = Hope::default();
        hope.refused(Some(Code::UnknownMemberId), NOW);
        assert!(hope.is_lost(NOW));
        hope.refused(Some(Code::GroupAuthorizationFailed), NOW);
        assert!(!hope.is_lost(NOW * 9));
        hope.refused(None, NOW);
        assert!(!hope.is_lost(NOW * 9));
    }
}
