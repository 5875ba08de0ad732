//! Whether what is remembered outlasts what can come again: the windows of the broker beside those of the consumer. Pure.

use std::fmt;
use std::time::Duration;

use onceward_core::Policy;

use crate::verdict::Retries;

/// For how long a broker keeps something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// For so long.
    For(Duration),
    /// Until it is consumed, trimmed or deleted by somebody: no time bounds it.
    WithoutEnd,
}

/// The windows of a source, as far as its broker says; what it does not say is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Windows {
    /// For how long a message is kept for consumers, and so can come again.
    pub kept: Option<Kept>,
    /// For how long a dead-letter queue of the broker's own keeps it after that. From there people send it again.
    pub dead_letters_kept: Option<Kept>,
    /// How often the broker delivers a message before it takes it away by itself.
    pub deliveries_max: Option<u32>,
    /// For how long a delivery is a consumer's at most, all extensions included.
    pub held_max: Option<Duration>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A message can have its effect twice, or be lost: a consumer does not start like this unless it is told to.
    Error,
    /// It depends on what people do.
    Warning,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// How bad it is.
    pub level: Level,
    /// What it is about, in a stable word: `memory`, `attempts`, `deliveries` or `handler`.
    pub about: &'static str,
    /// What is so, and what comes of it.
    pub says: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.says, self.remedy)
    }
}

impl Windows {
    /// For how long a message can come again; `None` when no time bounds it, or nothing is known.
    #[must_use]
    pub fn horizon(&self) -> Option<Duration> {
        match (self.kept?, self.dead_letters_kept) {
            (Kept::WithoutEnd, _) | (_, Some(Kept::WithoutEnd)) => None,
            (Kept::For(kept), None) => Some(kept),
            (Kept::For(kept), Some(Kept::For(then))) => Some(kept.saturating_add(then)),
        }
    }

    /// How much longer a consumer remembers what was done than it can come again, in seconds; below 0 it forgets too early.
    #[must_use]
    pub fn headroom(&self, policy: &Policy) -> Option<i64> {
        let seconds = |it: Duration| i64::try_from(it.as_secs()).unwrap_or(i64::MAX);
        Some(seconds(remembered(policy)).saturating_sub(seconds(self.horizon()?)))
    }

    /// What does not fit a consumer with this policy and these retries.
    #[must_use]
    pub fn misfits(&self, policy: &Policy, retries: &Retries) -> Vec<Misfit> {
        let checks =
            [self.forgotten(policy), self.dropped(retries), self.taken_away(retries), self.outrun(policy)];
        checks.into_iter().flatten().collect()
    }

    fn forgotten(&self, policy: &Policy) -> Option<Misfit> {
        let known = remembered(policy);
        match self.horizon() {
            Some(horizon) if horizon > known => Some(Misfit {
                level: Level::Error,
                about: "memory",
                says: format!(
                    "messages can come again for {}, and what was done is remembered for {}: after that it is done twice",
                    shown(horizon),
                    shown(known)
                ),
                remedy: format!(
                    "set retention to at least {}, or have the broker keep messages for less",
                    shown(horizon)
                ),
            }),
            Some(_) => None,
            None if self.kept.is_some() => Some(Misfit {
                level: Level::Warning,
                about: "memory",
                says: format!(
                    "no time bounds for how long messages can come again, and what was done is remembered for {}",
                    shown(known)
                ),
                remedy:
                    "let nobody read again what is older, or bound for how long the broker keeps messages"
                        .to_owned(),
            }),
            None => None,
        }
    }

    fn dropped(&self, retries: &Retries) -> Option<Misfit> {
        let Some(Kept::For(kept)) = self.kept else { return None };
        let tried: Duration = (1..retries.attempts_max)
            .map(|it| retries.pause_after(it, 0))
            .fold(Duration::ZERO, Duration::saturating_add);
        (tried >= kept).then(|| Misfit {
            level: Level::Error,
            about: "attempts",
            says: format!(
                "a message that fails is tried for {}, and the broker drops it after {}: it is lost without a dead letter",
                shown(tried),
                shown(kept)
            ),
            remedy: "have fewer attempts or shorter pauses, or have the broker keep messages for longer".to_owned(),
        })
    }

    fn taken_away(&self, retries: &Retries) -> Option<Misfit> {
        let most = self.deliveries_max.filter(|it| *it <= retries.attempts_max)?;
        Some(Misfit {
            level: Level::Warning,
            about: "deliveries",
            says: format!(
                "the broker takes a message away after {most} deliveries, and there are {} attempts: it ends in the broker's \
                 dead letters, if there are any, not in these",
                retries.attempts_max
            ),
            remedy: "let the broker deliver several times as often as there are attempts, or without end"
                .to_owned(),
        })
    }

    fn outrun(&self, policy: &Policy) -> Option<Misfit> {
        let held = self.held_max.filter(|it| *it < policy.run_max)?;
        Some(Misfit {
            level: Level::Error,
            about: "handler",
            says: format!(
                "a handler may run for {}, and the broker gives its message to another after {}, whatever is said",
                shown(policy.run_max),
                shown(held)
            ),
            remedy: format!("set run_max to less than {}", shown(held)),
        })
    }
}

/// For how long a repeat is known as one: with its outcome, and then as gone.
fn remembered(policy: &Policy) -> Duration {
    policy.retention.saturating_add(policy.tombstone)
}

fn shown(it: Duration) -> String {
    // Windows are not chosen by the millisecond.
    humantime::format_duration(Duration::from_secs(it.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn policy(retention: Duration, tombstone: Duration) -> Policy {
        Policy { retention, tombstone, ..Policy::default() }
    }

    fn told(windows: Windows, policy: &Policy) -> Vec<(Level, String)> {
        windows
            .misfits(policy, &Retries::default())
            .into_iter()
            .map(|it| (it.level, it.to_string()))
            .collect()
    }

    #[test]
    fn what_can_come_again_for_longer_than_it_is_remembered_is_an_error() {
        let known = policy(HOUR * 24, HOUR * 24);
        let kept = |it| Windows { kept: Some(Kept::For(it)), ..Windows::default() };
        assert_eq!(told(kept(HOUR * 48), &known), []);
        assert_eq!(kept(HOUR * 48).headroom(&known), Some(0));
        let [(level, says)] = &told(kept(HOUR * 49), &known)[..] else { panic!() };
        assert_eq!(*level, Level::Error);
        assert!(
            says.contains("for 2days 1h") && says.contains("set retention to at least 2days 1h"),
            "{says}"
        );
        assert_eq!(kept(HOUR * 49).headroom(&known), Some(-3600));
        // What lies in the broker's dead letters comes back after all.
        let both = Windows { dead_letters_kept: Some(Kept::For(HOUR * 25)), ..kept(HOUR * 24) };
        assert_eq!(told(both, &known).len(), 1);
        let both = Windows { dead_letters_kept: Some(Kept::For(HOUR * 24)), ..kept(HOUR * 24) };
        assert_eq!(told(both, &known), []);
    }

    #[test]
    fn what_no_time_bounds_is_a_warning_and_what_is_not_known_is_none() {
        let known = policy(HOUR, HOUR);
        for windows in [
            Windows { kept: Some(Kept::WithoutEnd), ..Windows::default() },
            Windows {
                kept: Some(Kept::For(HOUR)),
                dead_letters_kept: Some(Kept::WithoutEnd),
                ..Windows::default()
            },
        ] {
            let [(Level::Warning, says)] = &told(windows, &known)[..] else { panic!("{windows:?}") };
            assert!(says.contains("is remembered for 2h"), "{says}");
            assert_eq!(windows.headroom(&known), None);
        }
        assert_eq!(told(Windows::default(), &known), []);
    }

    #[test]
    fn a_broker_that_lets_go_of_a_message_before_its_attempts_are_over_is_told_of() {
        let known = policy(HOUR, HOUR);
        // Ten attempts: 1 + 2 + 4 … 256 s.
        let kept =
            |seconds| Windows { kept: Some(Kept::For(Duration::from_secs(seconds))), ..Windows::default() };
        assert_eq!(told(kept(512), &known), []);
        assert!(
            matches!(&told(kept(511), &known)[..], [(Level::Error, says)] if says.contains("tried for 8m 31s"))
        );
        let most = |it| Windows { deliveries_max: Some(it), ..Windows::default() };
        assert_eq!(told(most(11), &known), []);
        assert!(matches!(&told(most(10), &known)[..], [(Level::Warning, _)]));
        let held = |it| Windows { held_max: Some(it), ..Windows::default() };
        assert_eq!(told(held(Policy::default().run_max), &known), []);
        let short = Policy::default().run_max - Duration::from_secs(1);
        assert!(matches!(&told(held(short), &known)[..], [(Level::Error, _)]));
    }
}
