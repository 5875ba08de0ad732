//! Leases and the other times against each other.

use std::time::Duration;

use onceward_admin::{Finding, Level};
use onceward_core::InFlight;

use super::Facts;
use super::finding::{found, ok, policies};
use crate::settings::{Policy, show_duration as shown};

/// A slow sync of the disk or a pause of the machine can take so long.
const LEASE_SHORT: Duration = Duration::from_secs(5);
/// For so long a caller is told "in progress" after a crash.
const LEASE_LONG: Duration = Duration::from_secs(300);
/// Callers and proxies seldom wait longer for an answer.
const WAIT_LONG: Duration = Duration::from_secs(60);
/// What Kubernetes gives a container to end, unless it is told otherwise.
const GRACE: Duration = Duration::from_secs(30);
/// How long the usual load balancers keep an idle connection.
const BALANCER_IDLE: Duration = Duration::from_secs(60);
/// The shortest keep-alive that is usual among upstreams (Node.js), less a little.
const UPSTREAM_IDLE: Duration = Duration::from_secs(4);
/// A head that takes longer than this is an attack more often than a slow caller.
const HEADER_LONG: Duration = Duration::from_secs(60);

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let times = |it: &Policy| (it.lease, it.run_max, it.in_flight);
    let mut findings: Vec<_> = policies(&facts.settings, |one, other| times(one) == times(other))
        .iter()
        .flat_map(|(table, place, policy)| of_policy(facts, table, place, policy))
        .collect();
    findings.extend(of_process(facts));
    findings
}

fn of_policy(facts: &Facts, table: &str, place: &str, policy: &Policy) -> Vec<Finding> {
    let (lease, setting) = (policy.lease, format!("{table}.lease"));
    let answer = facts.settings.upstream.response_timeout;
    let mut findings = vec![if lease < LEASE_SHORT {
        let says = format!(
            "a lease of {} {place} is over when the disk or the machine pauses for that long, and the operation \
             looks unresolved while it runs",
            shown(lease)
        );
        found(Level::Warning, "lease-length", &setting, says, "set it to 10s or more; 30s suits most")
    } else if lease > LEASE_LONG {
        let says = format!(
            "after a crash, repeats are told \"in progress\" for up to {} {place} before the operation shows as \
             unresolved",
            shown(lease)
        );
        found(
            Level::Notice,
            "lease-length",
            &setting,
            says,
            "a shorter lease is enough: a permit renews itself",
        )
    } else {
        ok(
            "lease-length",
            format!(
                "the lease is {} {place}; a permit renews it while an answer takes up to {}, for at most {}",
                shown(lease),
                shown(answer),
                shown(policy.run_max)
            ),
        )
    }];
    if let InFlight::Wait(wait) = policy.in_flight
        && wait > WAIT_LONG
    {
        let says = format!(
            "a duplicate waits for up to {} {place}; proxies and callers mostly give up after {}",
            shown(wait),
            shown(WAIT_LONG)
        );
        let remedy = "set it below the shortest time-out of your callers and of what is in between";
        findings.push(found(Level::Notice, "lease-wait", &format!("{table}.in_flight"), says, remedy));
    }
    findings
}

fn of_process(facts: &Facts) -> Vec<Finding> {
    let it = &facts.settings;
    let mut findings = Vec::new();
    if it.drain < it.upstream.response_timeout {
        let says = format!(
            "an answer may take {}, and a stop waits {} for it: what still runs then becomes unresolved",
            shown(it.upstream.response_timeout),
            shown(it.drain)
        );
        let remedy = "set it above what your slowest operation usually takes";
        findings.push(found(Level::Notice, "lease-drain", "drain", says, remedy));
    }
    let stop = it.drain_delay + it.drain;
    if stop > GRACE {
        let says = format!(
            "a stop takes up to {}; Kubernetes kills after {} unless told otherwise",
            shown(stop),
            shown(GRACE)
        );
        let remedy = format!(
            "set terminationGracePeriodSeconds (systemd: TimeoutStopSec) above {} s",
            stop.as_secs() + 5
        );
        findings.push(found(Level::Notice, "lease-stop", "drain", says, remedy));
    }
    if it.header_timeout > HEADER_LONG {
        let says = format!(
            "a caller may take {} for the head of a request, and holds a connection meanwhile",
            shown(it.header_timeout)
        );
        findings.push(found(
            Level::Warning,
            "lease-header",
            "header_timeout",
            says,
            "10s is enough for honest callers",
        ));
    }
    if it.idle_timeout <= BALANCER_IDLE {
        let says = format!(
            "idle connections are closed after {}; a load balancer that keeps them for {} sends into one that \
             just closes, and its callers see 502",
            shown(it.idle_timeout),
            shown(BALANCER_IDLE)
        );
        let remedy = "set it above the idle time-out of what stands in front";
        findings.push(found(Level::Notice, "lease-idle", "idle_timeout", says, remedy));
    }
    if it.upstream.idle > UPSTREAM_IDLE {
        let says = format!(
            "connections to the upstream are used again after up to {} idle; one that the upstream closes at \
             that moment makes an operation unresolved",
            shown(it.upstream.idle)
        );
        let remedy =
            "keep it below the upstream's own keep-alive (Node.js 5s, nginx 75s), or set fresh_connection";
        findings.push(found(Level::Notice, "lease-upstream-idle", "upstream.idle", says, remedy));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::doctor::tests::{expect, facts};

    #[test]
    fn times_are_held_against_each_other() {
        let drain = "notice lease-drain drain";
        for (settings, expected) in [
            ("", vec!["ok lease-length", drain]),
            ("drain = \"60s\"\ndrain_delay = \"0\"", vec!["ok lease-length", "notice lease-stop drain"]),
            ("drain_delay = \"6s\"", vec!["ok lease-length", drain, "notice lease-stop drain"]),
            ("idle_timeout = \"60s\"", vec!["ok lease-length", drain, "notice lease-idle idle_timeout"]),
            (
                "header_timeout = \"61s\"",
                vec!["ok lease-length", drain, "warning lease-header header_timeout"],
            ),
            ("[policy]\nlease = \"4s\"", vec!["warning lease-length policy.lease", drain]),
            ("[policy]\nlease = \"301s\"", vec!["notice lease-length policy.lease", drain]),
            ("[policy]\nin_flight = \"wait 60s\"", vec!["ok lease-length", drain]),
            (
                "[policy]\nin_flight = \"wait 61s\"",
                vec!["ok lease-length", "notice lease-wait policy.in_flight", drain],
            ),
            (
                "[[route]]\npath = \"/a\"\nlease = \"1s\"",
                vec!["ok lease-length", "warning lease-length route[0].lease", drain],
            ),
        ] {
            expect(check, &facts(settings), &expected);
        }
        let mut facts = facts("");
        facts.settings.upstream.idle = std::time::Duration::from_secs(5);
        expect(check, &facts, &["ok lease-length", drain, "notice lease-upstream-idle upstream.idle"]);
    }
}
