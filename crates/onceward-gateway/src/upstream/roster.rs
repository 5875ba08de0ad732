//! Which upstreams are well, as a pure state machine: what happened and the time in, what follows out.
//!
//! 1. Failures in a row eject an upstream for a while; each ejection in a row lasts twice as long.
//! 2. When the while is over, one request tries it. Success returns it, failure ejects it again.
//! 3. Where checks are made, bad ones eject it too; it returns by a good check instead of by a trial. One that
//!    requests have ejected stays out for its while even so.
//! 4. The last one is never ejected. When it fails as well, all are tried, the one that failed least recently
//!    first.

use std::time::Duration;

use tokio::time::Instant;

/// When an upstream is ejected, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Failures in a row; zero is never.
    pub(super) after: u32,
    pub(super) pause: Duration,
    pub(super) pause_max: Duration,
    /// Bad checks in a row; None where no checks are made.
    pub(super) check_failures: Option<u32>,
}

/// An upstream in the roster. Never used again for another one.
pub(super) type Id = u64;

/// Whom to try, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: Id,
    pub(super) turn: Turn,
}

/// Why an upstream is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is well.
    Ordinary,
    /// It was ejected and the pause is over.
    Trial,
    /// None is well.
    LastResort,
}

/// What a try showed of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Well,
    Failed,
    /// Nothing: the client was in the way, or the upstream said that it had not begun.
    Neither,
}

/// What changed for an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It gets no requests for this long.
    Ejected(Duration),
    Returned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    In,
    Out {
        until: Instant,
        by_check: bool,
    },
    /// Out, and one request is finding out whether it is well again.
    Trial,
}

#[derive(Debug, Clone)]
struct Health {
    id: Id,
    standing: Standing,
    /// In a row, of requests and of checks.
    failures: u32,
    bad_checks: u32,
    /// In a row, without a success of a request in between.
    ejections: u32,
    failed_at: Option<Instant>,
}

impl Health {
    fn new(id: Id) -> Self {
        Self { id, standing: Standing::In, failures: 0, bad_checks: 0, ejections: 0, failed_at: None }
    }

    fn is_failing(&self, rule: &Rule) -> bool {
        let by_requests = rule.after > 0 && self.failures >= rule.after;
        by_requests || rule.check_failures.is_some_and(|it| self.bad_checks >= it)
    }

    fn eject(&mut self, rule: &Rule, now: Instant, by_check: bool) -> Change {
        let doubled = rule.pause.saturating_mul(1 << self.ejections.min(20));
        let pause = doubled.min(rule.pause_max);
        self.ejections = self.ejections.saturating_add(1);
        self.standing = Standing::Out { until: now + pause, by_check };
        Change::Ejected(pause)
    }

    fn restore(&mut self) -> Option<Change> {
        let was = std::mem::replace(&mut self.standing, Standing::In);
        (self.failures, self.bad_checks) = (0, 0);
        (was != Standing::In).then_some(Change::Returned)
    }
}

/// The health of all upstreams.
#[derive(Debug)]
pub(super) struct Roster {
    rule: Rule,
    all: Vec<Health>,
}

impl Roster {
    /// All of them are well.
    pub(super) fn new(rule: Rule, ids: impl IntoIterator<Item = Id>) -> Self {
        Self { rule, all: ids.into_iter().map(Health::new).collect() }
    }

    /// From now on these upstreams, under this rule. Who was there before keeps its health.
    pub(super) fn replace(&mut self, rule: Rule, ids: impl IntoIterator<Item = Id>) {
        let known = std::mem::take(&mut self.all);
        let health = |id| known.iter().find(|it| it.id == id).cloned().unwrap_or_else(|| Health::new(id));
        self.all = ids.into_iter().map(health).collect();
        self.rule = rule;
    }

    /// Whom to try for a request that would rather have them in the order of `wanted`.
    pub(super) fn candidates(&self, wanted: &[Id], now: Instant) -> Vec<Candidate> {
        // Who is not on the list has just left it or is about to come; nothing is known against it.
        let is_in = |id: &Id| self.get(*id).is_none_or(|it| it.standing == Standing::In);
        let is_well = |id: &Id| self.is_well(*id);
        let offer = |turn| move |id: &Id| Candidate { id: *id, turn };
        if !wanted.iter().any(is_well) {
            let mut last_resort = wanted.to_vec();
            last_resort.sort_by_key(|id| self.get(*id).and_then(|it| it.failed_at));
            return last_resort.iter().map(offer(Turn::LastResort)).collect();
        }
        let is_due = |id: &Id| self.get(*id).is_some_and(|it| self.is_due(it, now));
        let due = wanted.iter().filter(|id| is_due(id)).map(offer(Turn::Trial));
        let well = wanted.iter().filter(|id| is_well(id)).map(offer(Turn::Ordinary));
        let failing = wanted.iter().filter(|id| is_in(id) && !is_well(id));
        due.chain(well).chain(failing.map(offer(Turn::Ordinary))).collect()
    }

    /// Why the only upstream there is gets a request: what [`candidates`](Self::candidates) says of one, without a list.
    pub(super) fn turn_of_only(&self, id: Id) -> Turn {
        if self.is_well(id) { Turn::Ordinary } else { Turn::LastResort }
    }

    /// Takes the trial of `id` for one request; false when another has taken it.
    pub(super) fn begin_trial(&mut self, id: Id, now: Instant) -> bool {
        let due = self.get(id).is_some_and(|it| self.is_due(it, now));
        if let Some(it) = self.get_mut(id).filter(|_| due) {
            it.standing = Standing::Trial;
        }
        due
    }

    /// Notes how a request ended.
    pub(super) fn ended(&mut self, id: Id, turn: Turn, verdict: Verdict, now: Instant) -> Option<Change> {
        let (rule, others) = (self.rule, self.others_in(id));
        let it = self.get_mut(id)?;
        let on_trial = turn == Turn::Trial && it.standing == Standing::Trial;
        match verdict {
            Verdict::Neither => {
                if on_trial {
                    // The next request tries.
                    it.standing = Standing::Out { until: now, by_check: false };
                }
                None
            }
            Verdict::Well => {
                // What was under way when it was ejected proves less than what failed later.
                if it.standing != Standing::In && turn == Turn::Ordinary {
                    return None;
                }
                it.ejections = 0;
                it.restore()
            }
            Verdict::Failed => {
                it.failed_at = Some(now);
                it.failures = it.failures.saturating_add(1);
                let over = it.standing == Standing::In && rule.after > 0 && it.failures >= rule.after;
                (on_trial || (over && others)).then(|| it.eject(&rule, now, false))
            }
        }
    }

    /// Notes how a check ended.
    pub(super) fn checked(&mut self, id: Id, well: bool, now: Instant) -> Option<Change> {
        let (rule, others) = (self.rule, self.others_in(id));
        let it = self.get_mut(id)?;
        if well {
            it.bad_checks = 0;
            return match it.standing {
                Standing::Out { until, by_check } if by_check || until <= now => it.restore(),
                Standing::In | Standing::Out { .. } | Standing::Trial => None,
            };
        }
        it.failed_at = Some(now);
        it.bad_checks = it.bad_checks.saturating_add(1);
        let over = rule.check_failures.is_some_and(|limit| it.bad_checks >= limit);
        (over && others && it.standing == Standing::In).then(|| it.eject(&rule, now, true))
    }

    /// Whether `id` is in, and how long it still is out otherwise.
    pub(super) fn out_for(&self, id: Id, now: Instant) -> Option<Duration> {
        match self.get(id)?.standing {
            Standing::In => None,
            Standing::Out { until, .. } => Some(until.saturating_duration_since(now)),
            Standing::Trial => Some(Duration::ZERO),
        }
    }

    /// How many requests in a row have failed.
    pub(super) fn failures(&self, id: Id) -> u32 {
        self.get(id).map_or(0, |it| it.failures)
    }

    fn is_well(&self, id: Id) -> bool {
        self.get(id).is_none_or(|it| it.standing == Standing::In && !it.is_failing(&self.rule))
    }

    fn is_due(&self, it: &Health, now: Instant) -> bool {
        let over = matches!(it.standing, Standing::Out { until, .. } if until <= now);
        over && self.rule.check_failures.is_none()
    }

    fn others_in(&self, id: Id) -> bool {
        self.all.iter().any(|it| it.id != id && it.standing == Standing::In)
    }

    fn get(&self, id: Id) -> Option<&Health> {
        self.all.iter().find(|it| it.id == id)
    }

    fn get_mut(&mut self, id: Id) -> Option<&mut Health> {
        self.all.iter_mut().find(|it| it.id == id)
    }
}

#[cfg(test)]
mod tests;
