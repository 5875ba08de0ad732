//! How findings are written, and those about the settings themselves.

use onceward_admin::{Finding, Level};

use super::Facts;
use crate::settings::{Place, Policy, Problem, Settings};

/// Checked and fine.
pub(super) fn ok(check: &str, says: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, check: check.into(), setting: None, says: says.into(), remedy: None }
}

/// Something to know or to do.
pub(super) fn found(
    level: Level,
    check: &str,
    setting: &str,
    says: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding {
        level,
        check: check.into(),
        setting: Some(setting.into()),
        says: says.into(),
        remedy: Some(remedy.into()),
    }
}

/// The tables that say so: `policy`, and each route for which it holds while it does not for `[policy]`.
/// With the route's name in brackets, where it has one.
pub(super) fn tables(settings: &Settings, so: impl Fn(&Policy) -> bool) -> Vec<String> {
    if so(&settings.policy) {
        return vec!["policy".into()];
    }
    let routes = settings.routes.iter().enumerate().filter(|(_, route)| so(&route.policy));
    routes.map(|(at, _)| format!("route[{at}]")).collect()
}

/// The settings of all tables and the policies behind them; a route only where it differs in what `same` compares.
pub(super) fn policies(
    settings: &Settings,
    same: impl Fn(&Policy, &Policy) -> bool,
) -> Vec<(String, String, &Policy)> {
    let base = &settings.policy;
    let routes = settings.routes.iter().enumerate().filter(|(_, route)| !same(&route.policy, base));
    let routes = routes.map(|(at, it)| (format!("route[{at}]"), format!("on route {}", it.name), &it.policy));
    [("policy".to_owned(), "in [policy]".to_owned(), base)].into_iter().chain(routes).collect()
}

/// What reading the settings had to say.
pub(super) fn settings(facts: &Facts) -> Vec<Finding> {
    let warning = |says: &String| Finding {
        level: Level::Warning,
        check: "settings-warning".into(),
        setting: None,
        says: says.clone(),
        remedy: Some("change or remove it".into()),
    };
    let routes = match facts.settings.routes.len() {
        0 => "no routes".to_owned(),
        1 => "1 route".to_owned(),
        more => format!("{more} routes"),
    };
    let fine = ok("settings-valid", format!("the settings can be used: {routes}"));
    [fine].into_iter().chain(facts.warnings.iter().map(warning)).collect()
}

/// The findings for settings that cannot be used.
#[must_use]
pub fn settings_refused(problems: &[Problem]) -> Vec<Finding> {
    let finding = |it: &Problem| Finding {
        level: Level::Error,
        check: "settings-valid".into(),
        setting: Some(it.key.clone()).filter(|it| !it.is_empty()),
        says: match &it.place {
            Place::Default => it.says.clone(),
            place @ (Place::Line { .. } | Place::Variable(_) | Place::Flag(_)) => {
                format!("{place}: {}", it.says)
            }
        },
        remedy: Some("change it there; the gateway does not start like this".into()),
    };
    problems.iter().map(finding).collect()
}
