//! Certificates: whether they can be used, and for how long.

use std::time::Duration;

use onceward_admin::{Finding, Level};

use super::Facts;
use super::finding::{found, ok};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What renews itself does so by then.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(files) = &facts.files else { return Vec::new() };
    let fault =
        |it: &super::FileFault| found(Level::Error, "tls-files", it.setting, it.says.clone(), it.remedy);
    let mut findings: Vec<_> = files.faults.iter().map(fault).collect();
    findings.extend(validity(facts));
    findings
}

fn validity(facts: &Facts) -> Option<Finding> {
    let (now, it) = (facts.now?, facts.files.as_ref()?.certificate?);
    let (check, setting) = ("tls-validity", "tls.cert");
    if it.not_after <= now {
        let says = "the certificate has expired: callers refuse it";
        return Some(found(Level::Error, check, setting, says, "put a new one in its place and reload"));
    }
    if it.not_before > now {
        let says = "the certificate is not valid yet: callers refuse it";
        return Some(found(Level::Error, check, setting, says, "check the clock of this machine, or wait"));
    }
    let left = now.until(it.not_after);
    let says = format!("the certificate is valid for {} more days", left.as_secs() / DAY.as_secs());
    Some(if left < SOON {
        let remedy = "renew it, put the new one in its place and reload (SIGHUP); see why it was not renewed by itself";
        found(Level::Warning, check, setting, says, remedy)
    } else {
        ok(check, says)
    })
}

#[cfg(test)]
mod tests {
    use onceward_core::Timestamp;

    use super::check;
    use crate::doctor::tests::{expect, facts};
    use crate::doctor::{FileFault, Files, TlsFacts};

    #[test]
    fn a_certificate_is_said_to_end_before_it_ends() {
        const DAY: u64 = 24 * 3600 * 1000;
        let mut facts = facts("");
        expect(check, &facts, &[]);
        let day = |it: u64| Timestamp::from_millis(it * DAY);
        let certificate = Some(TlsFacts { not_before: day(100), not_after: day(190) });
        facts.files = Some(Files { faults: Vec::new(), certificate });
        for (now, expected) in [
            (99, "error tls-validity tls.cert"),
            (100, "ok tls-validity"),
            (176, "ok tls-validity"),
            (177, "warning tls-validity tls.cert"),
            (189, "warning tls-validity tls.cert"),
            (190, "error tls-validity tls.cert"),
        ] {
            facts.now = Some(day(now));
            expect(check, &facts, &[expected]);
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_an_error() {
        let mut facts = facts("");
        let fault = FileFault { setting: "tls.key", says: "cannot read a".into(), remedy: "look" };
        facts.files = Some(Files { faults: vec![fault], certificate: None });
        expect(check, &facts, &["error tls-files tls.key"]);
    }
}
