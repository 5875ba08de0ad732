//! How long answers are kept against how long callers retry.

use onceward_admin::{Finding, Level};

use super::Facts;
use super::finding::{found, ok, policies};
use crate::settings::{Policy, Principal, show_duration as shown};

const CHECK: &str = "retention-vs-retries";

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let times = |it: &Policy| (it.retention, it.tombstone, it.retry_window);
    let policies = policies(&facts.settings, |one, other| times(one) == times(other));
    let judged = policies.iter().map(|(table, place, policy)| against_retries(table, place, policy));
    judged.chain(against_tokens(facts)).collect()
}

fn against_retries(table: &str, place: &str, policy: &Policy) -> Finding {
    let setting = format!("{table}.retention");
    let (window, kept) = (policy.retry_window, policy.retention);
    let refused = kept + policy.tombstone;
    if window.is_zero() && policy.tombstone.is_zero() {
        let says = format!(
            "after {} a late retry runs again {place}: there are no tombstones, and for how long callers retry \
             is not declared",
            shown(kept)
        );
        let remedy = "set tombstone to at least 24h, or retry_window to how long your callers retry";
        return found(Level::Warning, CHECK, &format!("{table}.tombstone"), says, remedy);
    }
    if window.is_zero() {
        let says = format!(
            "answers are kept for {} and late retries refused for {} more {place}; for how long callers retry is \
             not declared",
            shown(kept),
            shown(policy.tombstone)
        );
        let remedy = "set retry_window to the longest time after which a caller still repeats a key";
        return found(Level::Notice, CHECK, &format!("{table}.retry_window"), says, remedy);
    }
    if window > refused {
        let says = format!(
            "callers retry for {}, and after {} a retry runs again {place}: the effect happens twice",
            shown(window),
            shown(refused)
        );
        let remedy = format!("set retention to at least {}", shown(window));
        return found(Level::Error, CHECK, &setting, says, remedy);
    }
    if window > kept {
        let says = format!(
            "callers retry for {}, and their answer is kept for {} {place}: a later retry is refused (410) and \
             does not learn what came of it",
            shown(window),
            shown(kept)
        );
        let remedy = format!("set retention to at least {}", shown(window));
        return found(Level::Warning, CHECK, &setting, says, remedy);
    }
    ok(CHECK, format!("answers are kept for {} {place}, callers retry for {}", shown(kept), shown(window)))
}

/// A caller with a new token is another principal, and its repeat another operation.
fn against_tokens(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let mut findings = Vec::new();
    for it in &facts.tokens {
        let at = settings.routes.iter().position(|route| route.name == it.route);
        let policy = at.map_or(&settings.policy, |at| &settings.routes[at].policy);
        let is_credential = match &policy.principal {
            Principal::Auto => true,
            Principal::Header(name) => name == "authorization",
            Principal::Cookie(_) | Principal::None => false,
        };
        let wanted = if policy.retry_window.is_zero() { policy.retention } else { policy.retry_window };
        if !is_credential || it.shortest >= wanted {
            continue;
        }
        let table = at.map_or("policy".to_owned(), |at| format!("route[{at}]"));
        let says = format!(
            "callers of {} send tokens that end after {} already, and who repeats with a new one within {} is \
             another caller: the operation runs again",
            it.route,
            shown(it.shortest),
            shown(wanted)
        );
        let remedy = "set principal to what stays the same for a caller, such as \"header:X-Account\" written \
                      by a proxy in front";
        findings.push(found(
            Level::Warning,
            "retention-vs-tokens",
            &format!("{table}.principal"),
            says,
            remedy,
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::check;
    use crate::doctor::TokenLife;
    use crate::doctor::tests::{expect, facts};

    #[test]
    fn retention_is_held_against_the_time_for_which_callers_retry() {
        for (policy, expected) in [
            ("", "notice retention-vs-retries policy.retry_window"),
            ("tombstone = \"0\"", "warning retention-vs-retries policy.tombstone"),
            ("retry_window = \"24h\"", "ok retention-vs-retries"),
            ("retry_window = \"24h\"\ntombstone = \"0\"", "ok retention-vs-retries"),
            ("retry_window = \"25h\"", "warning retention-vs-retries policy.retention"),
            ("retry_window = \"8d\"", "warning retention-vs-retries policy.retention"),
            ("retry_window = \"193h\"", "error retention-vs-retries policy.retention"),
            ("retry_window = \"25h\"\ntombstone = \"0\"", "error retention-vs-retries policy.retention"),
        ] {
            expect(check, &facts(&format!("[policy]\n{policy}")), &[expected]);
        }
    }

    #[test]
    fn a_route_is_judged_where_it_differs() {
        let routes = "[policy]\nretry_window = \"1h\"\n[[route]]\npath = \"/same\"\nlease = \"20s\"\n\
                      [[route]]\npath = \"/short\"\nretention = \"10m\"";
        let expected = ["ok retention-vs-retries", "warning retention-vs-retries route[1].retention"];
        expect(check, &facts(routes), &expected);
    }

    #[test]
    fn tokens_that_end_before_the_answer_are_said_where_they_name_the_caller() {
        let seen = |route: &str, hours: u64| TokenLife {
            route: route.into(),
            shortest: Duration::from_secs(hours * 3600),
        };
        let mut facts = facts(
            "[policy]\nretry_window = \"24h\"\n[[route]]\nname = \"a\"\npath = \"/a\"\n\
             principal = \"header:X-Account\"\n[[route]]\nname = \"b\"\npath = \"/b\"",
        );
        facts.tokens = vec![seen("a", 1), seen("b", 23)];
        expect(check, &facts, &["ok retention-vs-retries", "warning retention-vs-tokens route[1].principal"]);
        facts.tokens = vec![seen("b", 24), seen("default", 1)];
        expect(check, &facts, &["ok retention-vs-retries", "warning retention-vs-tokens policy.principal"]);
    }
}
