//! Whether the gateway came through an attack.

use std::collections::BTreeSet;

use crate::caller::Tally;
use crate::usage::Usage;

/// How many more descriptors than before are no leak: the upstream's pool may be larger than it was.
pub const DESCRIPTORS: usize = 16;

/// What was seen, before, during and after the attack.
#[derive(Debug)]
pub struct Observed<'a> {
    /// What the gateway held before.
    pub before: Usage,
    /// What it held after a rest.
    pub end: Usage,
    /// The most it was seen to hold during the attack.
    pub most: Usage,
    /// How many MiB more it may hold after the rest.
    pub growth_mib: u64,
    /// How many MiB more it may hold during the attack.
    pub peak_mib: u64,
    /// Honest callers, by when they called.
    pub honest: [(&'static str, &'a Tally); 3],
    /// Requests that reached the upstream and should not have.
    pub strange: BTreeSet<String>,
    /// Lines of the log that tell of a panic.
    pub panics: Vec<String>,
    /// Whether it still answers and calls itself ready.
    pub answers: bool,
}

/// By how many MiB memory grew.
pub fn grown_mib(before: Usage, now: Usage) -> u64 {
    now.rss.saturating_sub(before.rss) >> 20
}

/// Whether memory and descriptors are back.
pub fn is_back(before: Usage, now: Usage, growth_mib: u64) -> bool {
    now.descriptors <= before.descriptors + DESCRIPTORS && grown_mib(before, now) <= growth_mib
}

/// Everything that did not hold; empty when all did.
pub fn failures(seen: &Observed<'_>) -> Vec<String> {
    let mut failures = Vec::new();
    for (when, tally) in seen.honest {
        if tally.wrong > 0 || tally.right == 0 {
            let (wrong, right, reasons) = (tally.wrong, tally.right, &tally.reasons);
            failures.push(format!("honest callers {when}: {wrong} wrong, {right} right: {reasons:#?}"));
        }
    }
    if seen.end.descriptors > seen.before.descriptors + DESCRIPTORS {
        failures.push(format!(
            "{} descriptors are left of {} before",
            seen.end.descriptors, seen.before.descriptors
        ));
    }
    if grown_mib(seen.before, seen.end) > seen.growth_mib {
        failures.push(format!("memory grew by {} MiB", grown_mib(seen.before, seen.end)));
    }
    if grown_mib(seen.before, seen.most) > seen.peak_mib {
        failures.push(format!("memory rose by {} MiB during the attack", grown_mib(seen.before, seen.most)));
    }
    if !seen.strange.is_empty() {
        failures.push(format!("reached the upstream and should not have: {:?}", seen.strange));
    }
    if !seen.panics.is_empty() {
        failures.push(format!(
            "{} panics: {:#?}",
            seen.panics.len(),
            &seen.panics[..seen.panics.len().min(5)]
        ));
    }
    if !seen.answers {
        failures.push("the gateway no longer answers".into());
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Usage = Usage { rss: 50 << 20, descriptors: 40, threads: 8, ticks: 0 };

    /// What was seen of a gateway that held, with one change.
    fn check(change: impl FnOnce(&mut Observed<'static>), expected: &str) {
        let fine = leak(10, 0);
        let mut seen = Observed {
            before: BEFORE,
            end: BEFORE,
            most: BEFORE,
            growth_mib: 32,
            peak_mib: 256,
            honest: [("before", fine), ("during", fine), ("after", fine)],
            strange: BTreeSet::new(),
            panics: Vec::new(),
            answers: true,
        };
        change(&mut seen);
        let found = failures(&seen);
        assert_eq!(found.is_empty(), expected.is_empty(), "{found:?}");
        assert!(found.iter().all(|it| it.contains(expected)), "{found:?}");
    }

    fn leak(right: u64, wrong: u64) -> &'static Tally {
        Box::leak(Box::new(Tally { right, wrong, ..Tally::default() }))
    }

    #[test]
    fn each_thing_that_did_not_hold_is_a_failure() {
        check(|_| {}, "");
        check(|it| it.end.rss += 32 << 20, "");
        check(|it| it.end.rss += 33 << 20, "memory grew by 33 MiB");
        check(|it| it.most.rss += 256 << 20, "");
        check(|it| it.most.rss += 257 << 20, "memory rose by 257 MiB");
        check(|it| it.end.descriptors += DESCRIPTORS, "");
        check(|it| it.end.descriptors += DESCRIPTORS + 1, "57 descriptors are left");
        check(|it| it.honest[1].1 = leak(9999, 1), "during: 1 wrong");
        check(|it| it.honest[2].1 = leak(0, 0), "after: 0 wrong, 0 right");
        check(|it| it.strange.extend(["GET /smuggled/x".into()]), "reached the upstream");
        check(|it| it.panics.push("panicked".into()), "1 panics");
        check(|it| it.answers = false, "no longer answers");
    }
}
