//! The clock of this machine, which the embedded store begins with.

use std::time::Duration;

use onceward_admin::{Finding, Level};
use onceward_core::Timestamp;

use super::Facts;
use super::finding::{found, ok};
use crate::settings::show_duration as shown;

/// Before this there was no Onceward: 2026-01-01.
const EARLIEST: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// What two looks at a clock may differ by.
const SLACK: Duration = Duration::from_secs(2);

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(now) = facts.now else { return Vec::new() };
    if now < EARLIEST {
        let says = "the clock of this machine is before 2026: leases and retention count from there";
        return vec![found(
            Level::Error,
            "clock-time",
            "store",
            says,
            "set the clock (chrony, systemd-timesyncd), then start",
        )];
    }
    if facts.settings.store.is_shared() {
        // The clock of another machine counts.
        return Vec::new();
    }
    match facts.store.ahead.filter(|it| *it > SLACK) {
        Some(ahead) => {
            let says = format!(
                "the store's time is {} ahead of this machine's clock, which was wrong once or is wrong now; \
                 the times it shows are ahead by as much",
                shown(Duration::from_secs(ahead.as_secs()))
            );
            let remedy =
                "check the clock; if it is right, nothing: the store's time goes on from where it is";
            vec![found(Level::Warning, "clock-behind-store", "store", says, remedy)]
        }
        None => vec![ok("clock-time", "the clock is not behind the store's time")],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::check;
    use crate::doctor::tests::{expect, facts};
    use onceward_core::Timestamp;

    #[test]
    fn of_a_shared_store_no_clock_of_this_machine_is_judged() {
        let mut facts = facts("store = \"redis://cache\"");
        facts.now = Some(Timestamp::from_millis(1_767_225_600_000));
        expect(check, &facts, &[]);
    }

    #[test]
    fn a_clock_that_is_wrong_or_behind_the_store_is_said() {
        let mut facts = facts("");
        expect(check, &facts, &[]);
        facts.now = Some(Timestamp::from_millis(1_767_225_599_999));
        expect(check, &facts, &["error clock-time store"]);
        facts.now = Some(Timestamp::from_millis(1_767_225_600_000));
        expect(check, &facts, &["ok clock-time"]);
        facts.store.ahead = Some(Duration::from_secs(2));
        expect(check, &facts, &["ok clock-time"]);
        facts.store.ahead = Some(Duration::from_secs(3));
        expect(check, &facts, &["warning clock-behind-store store"]);
    }
}
