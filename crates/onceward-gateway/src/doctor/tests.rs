//! What the tables of the themes use, and what holds for every finding.

use onceward_admin::{Finding, Level};

use super::{Facts, State, check};
use crate::settings::Settings;

/// Facts of a gateway with these settings on top of one upstream.
pub(super) fn facts(settings: &str) -> Facts {
    Facts::of(
        Settings::parse_toml(&format!("upstream.urls = [\"http://127.0.0.1:9000\"]\n{settings}")).unwrap(),
    )
}

/// Fails unless `rule` finds exactly this: `LEVEL CHECK [SETTING]` each.
pub(super) fn expect(rule: impl Fn(&Facts) -> Vec<Finding>, facts: &Facts, expected: &[&str]) {
    let line = |it: &Finding| {
        let setting = it.setting.as_ref().map_or(String::new(), |it| format!(" {it}"));
        format!("{} {}{setting}", it.level, it.check)
    };
    let found = rule(facts);
    assert_eq!(found.iter().map(line).collect::<Vec<_>>(), expected, "{found:#?}");
    found.iter().for_each(assert_complete);
}

/// What is wrong names the setting and the remedy; what is fine has nothing to be done.
fn assert_complete(it: &Finding) {
    assert!(!it.says.is_empty());
    assert!(!it.says.contains('\n') && !it.says.contains("  "), "not one line: {it:?}");
    match it.level {
        Level::Ok => assert!(it.remedy.is_none() && it.setting.is_none(), "{it:?}"),
        Level::Notice | Level::Warning | Level::Error => {
            let remedy = it.remedy.as_deref().unwrap_or_default();
            assert!(!remedy.is_empty() && !remedy.contains("  "), "no remedy: {it:?}");
            assert!(it.setting.is_some() || it.check == "settings-warning", "no setting: {it:?}");
        }
    }
}

#[test]
fn every_finding_is_complete_and_the_defaults_have_no_error() {
    let mut facts = facts("");
    facts.store.state = State::Closed;
    let found = check(&facts);
    found.iter().for_each(assert_complete);
    assert!(found.iter().all(|it| it.level < Level::Warning), "{found:#?}");
}
