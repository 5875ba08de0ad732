//! Policies that give up a promise: meant, perhaps, but worth saying.

use http::Method;
use onceward_admin::{Finding, Level};
use onceward_core::Unresolved;
use onceward_http::KeyRule;

use super::Facts;
use super::finding::{found, ok, tables};
use crate::settings::Principal;

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let mut findings = Vec::new();
    let mut each = |level, check: &str, name: &str, tables: Vec<String>, says: &str, remedy: &str| {
        findings.extend(tables.iter().map(|it| found(level, check, &format!("{it}.{name}"), says, remedy)));
    };
    each(
        Level::Warning,
        "policy-fail-open",
        "fail_open",
        tables(settings, |it| it.fail_open),
        "while the store is down, operations run unprotected: a retry in that time happens twice",
        "set it to false unless a refused operation is worse than a doubled one",
    );
    each(
        Level::Warning,
        "policy-rerun",
        "unresolved",
        tables(settings, |it| it.unresolved == Unresolved::Rerun),
        "an operation with an unknown outcome runs again; the effect happens once only where the upstream returns \
         its first outcome for a key that it has seen, and refuses a fence below the highest it saw for that key",
        "make sure of both in the upstream, or set it to \"hold\"",
    );
    each(
        Level::Warning,
        "policy-principal",
        "principal",
        tables(settings, |it| it.principal == Principal::None),
        "all callers share one space of keys: who sends the key and the request of another caller gets that \
         caller's answer",
        "set it to \"auto\" or to \"header:NAME\", unless there is a single caller",
    );
    each(
        Level::Notice,
        "policy-key-ignored",
        "key",
        tables(settings, |it| it.key == KeyRule::Ignored),
        "keys are ignored: every request passes through unprotected",
        "set it to \"required\" or \"optional\"",
    );
    let optional = match settings.policy.key {
        KeyRule::Optional => vec!["policy".to_owned()],
        KeyRule::Required | KeyRule::Ignored => {
            let routes = settings.routes.iter().enumerate();
            let posts = routes
                .filter(|(_, it)| it.policy.key == KeyRule::Optional && it.methods.contains(&Method::POST));
            posts.map(|(at, _)| format!("route[{at}]")).collect()
        }
    };
    each(
        Level::Notice,
        "policy-key-optional",
        "key",
        optional,
        "a POST without a key passes through unprotected: its retry happens twice",
        "set it to \"required\" where an effect must not happen twice",
    );
    if findings.is_empty() {
        findings.push(ok("policy-promises", "no policy gives up a promise"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::doctor::tests::{expect, facts};

    #[test]
    fn what_gives_up_a_promise_is_said_with_its_table() {
        let required = "[policy]\nkey = \"required\"\n";
        for (more, expected) in [
            ("", vec!["ok policy-promises"]),
            ("fail_open = true", vec!["warning policy-fail-open policy.fail_open"]),
            ("unresolved = \"rerun\"", vec!["warning policy-rerun policy.unresolved"]),
            ("principal = \"none\"", vec!["warning policy-principal policy.principal"]),
            ("[[route]]\npath = \"/a\"\nkey = \"ignored\"", vec!["notice policy-key-ignored route[0].key"]),
            ("[[route]]\npath = \"/a\"\nkey = \"optional\"", vec!["notice policy-key-optional route[0].key"]),
            ("[[route]]\npath = \"/a\"\nkey = \"optional\"\nmethods = [\"PUT\"]", vec!["ok policy-promises"]),
            (
                "[[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\nfail_open = true",
                vec!["warning policy-fail-open route[1].fail_open"],
            ),
            // What all inherit is said once.
            ("fail_open = true\n[[route]]\npath = \"/a\"", vec!["warning policy-fail-open policy.fail_open"]),
        ] {
            expect(check, &facts(&format!("{required}{more}")), &expected);
        }
        expect(check, &facts(""), &["notice policy-key-optional policy.key"]);
    }
}
