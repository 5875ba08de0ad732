//! Which changes of the routes would change who is who.
//!
//! A key is unique within a principal, so a path whose callers are told apart by another rule, or whose keys stand elsewhere,
//! forgets its keys: a retry across the change would run again. Everything else that a route chooses is policy and may change while
//! requests run; nothing that it chooses has a part in the fingerprint.

use std::fmt;

use http::Method;

use crate::route::{OPERATIONS, Route, Routes};

/// A setting whose change would change the identity of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityChange {
    /// The route that told callers apart so far; `default` for the settings outside of all routes.
    pub old_route: String,
    /// The route that would from now on.
    pub new_route: String,
    /// A method for which they differ.
    pub method: Method,
    /// The paths for which they differ.
    pub path: String,
    /// The setting: `principal` or `key_from`.
    pub setting: &'static str,
    /// What it says so far.
    pub old: String,
    /// What it would say from now on.
    pub new: String,
}

impl fmt::Display for IdentityChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old_route, new_route, method, path, setting, old, new } = self;
        write!(f, "`{setting}` of {method} {path}: \"{old}\" (route {old_route:?}) so far, ")?;
        write!(f, "\"{new}\" (route {new_route:?}) from now on")
    }
}

/// The settings whose change from `old` to `new` would change the identity of operations that `old` may have
/// recorded. Empty when `new` may take the place of `old` while the process runs.
///
/// A route whose keys are ignored counts as well: it may have had operations before, and may have them again. Where
/// only several routes together cover a path, a change may be named that no request
/// would meet; none is ever missed.
#[must_use]
pub fn identity_changes(old: &Routes, new: &Routes) -> Vec<IdentityChange> {
    let mut changes: Vec<IdentityChange> = Vec::new();
    for method in OPERATIONS {
        let (before, after) = (old.covering(&method), new.covering(&method));
        for (at, was) in before.iter().enumerate() {
            for (then, becomes) in after.iter().enumerate() {
                let is_named = |it: &IdentityChange| it.old_route == was.name && it.new_route == becomes.name;
                let Some((setting, old, new)) = differs(was, becomes) else { continue };
                if changes.iter().any(is_named) {
                    continue;
                }
                let Some(common) = was.path.intersection(&becomes.path) else { continue };
                let shadowed = |routes: &[&Route]| routes.iter().any(|it| it.path.covers(&common));
                if !shadowed(&before[..at]) && !shadowed(&after[..then]) {
                    changes.push(IdentityChange {
                        old_route: was.name.clone(),
                        new_route: becomes.name.clone(),
                        method: method.clone(),
                        path: common.to_string(),
                        setting,
                        old,
                        new,
                    });
                }
            }
        }
    }
    changes
}

/// What tells operations of two routes apart in another way: its name, and what each says.
fn differs(was: &Route, becomes: &Route) -> Option<(&'static str, String, String)> {
    let (was, becomes) = (&was.policy, &becomes.policy);
    if was.principal != becomes.principal {
        return Some(("principal", was.principal.to_string(), becomes.principal.to_string()));
    }
    let differs = was.key_from != becomes.key_from;
    differs.then(|| ("key_from", was.key_from.to_string(), becomes.key_from.to_string()))
}

#[cfg(test)]
mod tests;
