//! What the settings need against what the process may use.

use onceward_admin::{Finding, Level};

use super::Facts;
use super::finding::{found, ok};
use crate::settings::Settings;

/// The store's files, the listeners, pipes and the log.
const OWN_FILES: u64 = 256;

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(max) = facts.process.files_max else { return Vec::new() };
    let needed = needed(&facts.settings);
    let whose = if facts.process.is_gateway { "this gateway" } else { "a process of this shell" };
    if max >= needed {
        return vec![ok(
            "limits-files",
            format!("{whose} may open {}; the settings need {needed}", number(max)),
        )];
    }
    let says = format!(
        "{whose} may open {} files and sockets, and the settings allow for {needed}: beyond that, callers are not \
         accepted and upstreams not reached",
        number(max)
    );
    let raise = match facts.process.files_hard {
        Some(hard) if hard >= needed => format!("start it with `ulimit -n {needed}`"),
        Some(_) | None => format!("raise the hard limit to {needed}"),
    };
    let remedy = format!("{raise} (systemd: LimitNOFILE={needed}), or lower limits.connections");
    let level = if max < OWN_FILES { Level::Error } else { Level::Warning };
    vec![found(level, "limits-files", "limits.connections", says, remedy)]
}

/// Two sockets for each caller (one may be upgraded), those to upstreams that HTTP/2 callers can ask for besides,
/// and our own files.
fn needed(settings: &Settings) -> u64 {
    let connections = u64::from(settings.limits.connections);
    let at_once = match (settings.upstream.in_flight, settings.limits.requests) {
        (0, 0) => connections,
        (0, requests) => u64::from(requests),
        (each, _) => u64::from(each) * settings.upstream.urls.len() as u64,
    };
    connections * 2 + at_once + OWN_FILES
}

fn number(max: u64) -> String {
    if max == u64::MAX { "any number of".into() } else { max.to_string() }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::doctor::tests::{expect, facts};

    #[test]
    fn the_limit_of_files_is_held_against_what_the_settings_need() {
        let mut facts = facts("[limits]\nconnections = 100");
        for (max, in_flight, expected) in [
            (100 * 2 + 50 + 256, 50, "ok limits-files"),
            (100 * 2 + 50 + 255, 50, "warning limits-files limits.connections"),
            (u64::MAX, 50, "ok limits-files"),
            (100, 50, "error limits-files limits.connections"),
            (100 * 2 + 10_000 + 256, 0, "ok limits-files"),
            (100 * 2 + 10_000 + 255, 0, "warning limits-files limits.connections"),
        ] {
            facts.process.files_max = Some(max);
            facts.settings.upstream.in_flight = in_flight;
            expect(check, &facts, &[expected]);
        }
        facts.process.files_hard = Some(1 << 20);
        let remedy = check(&facts)[0].remedy.clone().unwrap();
        assert!(remedy.contains("ulimit -n 10456") && remedy.contains("LimitNOFILE=10456"), "{remedy}");
        facts.process.files_max = None;
        expect(check, &facts, &[]);
    }
}
