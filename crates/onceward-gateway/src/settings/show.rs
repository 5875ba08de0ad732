//! The settings in force as a file.

use std::fmt::Write as _;

use super::Settings;
use super::keys::{ADMIN, CORS, Key, LIMITS, POLICY, ROUTE, TLS, TOP, UPSTREAM};

/// See [`Settings::to_toml`].
pub(super) fn to_toml(settings: &Settings) -> String {
    let mut out = String::new();
    lines(&mut out, TOP, settings, None);
    out.push_str("\n[tls]\n");
    lines(&mut out, TLS, &settings.tls, None);
    out.push_str("\n[admin]\n");
    lines(&mut out, ADMIN, &settings.admin, None);
    out.push_str("\n[upstream]\n");
    lines(&mut out, UPSTREAM, &settings.upstream, None);
    out.push_str("\n[limits]\n");
    lines(&mut out, LIMITS, &settings.limits, None);
    out.push_str("\n[cors]\n");
    lines(&mut out, CORS, &settings.cors, None);
    out.push_str("\n[policy]\n");
    lines(&mut out, POLICY, &settings.policy, None);
    for route in &settings.routes {
        out.push_str("\n[[route]]\n");
        lines(&mut out, ROUTE, route, None);
        lines(&mut out, POLICY, &route.policy, Some(&settings.policy));
    }
    out
}

/// One line per key, leaving out what `base` has the same.
fn lines<T>(out: &mut String, keys: &[Key<T>], owner: &T, base: Option<&T>) {
    for key in keys {
        let shown = (key.show)(owner);
        if base.is_none_or(|base| (key.show)(base) != shown) {
            writeln!(out, "{} = {shown}", key.name).expect("writing to a string cannot fail");
        }
    }
}
