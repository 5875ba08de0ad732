//! What differs between two settings, and what of it a running gateway cannot take up.

use super::Settings;
use super::keys::{ADMIN, CORS, Key, LIMITS, POLICY, TLS, TOP, UPSTREAM};

/// What differs from the settings in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The keys that differ, as dotted paths in the order of the print-out; all routes are one, `route`.
    pub changed: Vec<String>,
    /// Those of `changed` that are only read at the start.
    pub needs_restart: Vec<String>,
}

/// Keys at the top that a running gateway takes up.
const TOP_TAKEN_UP: &[&str] = &["drain_delay", "drain"];

impl Settings {
    /// Compares with settings that are meant to take the place of these.
    ///
    /// Listeners, stores, limits and the form of the log are read at the start only; so is whether the listener
    /// speaks TLS at all, but not from which files. Identity is judged elsewhere: it is the layer's.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        changes.table("", TOP, self, new, |key| TOP_TAKEN_UP.contains(&key));
        let tls_stays = self.tls.is_on() == new.tls.is_on();
        changes.table("tls.", TLS, &self.tls, &new.tls, |_| tls_stays);
        changes.table("admin.", ADMIN, &self.admin, &new.admin, |_| false);
        changes.table("upstream.", UPSTREAM, &self.upstream, &new.upstream, |_| true);
        changes.table("limits.", LIMITS, &self.limits, &new.limits, |_| false);
        changes.table("cors.", CORS, &self.cors, &new.cors, |_| true);
        changes.table("policy.", POLICY, &self.policy, &new.policy, |_| true);
        if self.routes != new.routes {
            changes.changed.push("route".into());
        }
        changes
    }
}

impl Changes {
    fn table<T>(&mut self, table: &str, keys: &[Key<T>], old: &T, new: &T, taken_up: impl Fn(&str) -> bool) {
        for key in keys.iter().filter(|key| (key.show)(old) != (key.show)(new)) {
            let path = format!("{table}{}", key.name);
            if !taken_up(key.name) {
                self.needs_restart.push(path.clone());
            }
            self.changed.push(path);
        }
    }
}
