//! The nearest valid name for one that does not exist.

use super::keys;

/// The name in `valid` that takes the fewest typing errors to reach; the first of several.
pub(super) fn nearest<'a>(word: &str, valid: impl IntoIterator<Item = &'a str>) -> &'a str {
    valid.into_iter().min_by_key(|it| distance(word, it)).unwrap_or_default()
}

/// The nearest valid key for `name` in `table`, the dotted path of the table or empty for the top. The same
/// name in another table beats a similar one in this table: a key in the wrong place is the likelier error.
pub(super) fn nearest_key(table: &str, name: &str) -> String {
    let here = if table.is_empty() { String::new() } else { format!("{table}.") };
    let mut valid = keys::paths();
    valid.extend(keys::TABLES.iter().map(|it| (*it).to_owned()));
    valid.push("route".into());
    valid.extend(keys::route_names().filter(|_| table.starts_with("route[")).map(|it| format!("{here}{it}")));
    let typing = |path: &String| {
        let (prefix, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        let as_leaf = distance(name, leaf) * 2 + usize::from(prefix != table);
        // A dotted name was meant as the whole path.
        if name.contains('.') && !prefix.is_empty() { as_leaf.min(distance(name, path) * 2) } else { as_leaf }
    };
    valid.into_iter().min_by_key(typing).unwrap_or_default()
}

/// The nearest valid variable for one that begins with `ONCEWARD_`. A name that lacks its table is near.
pub(super) fn nearest_variable(name: &str) -> String {
    let bare = |it: &str| it.strip_prefix(keys::VARIABLE_PREFIX).unwrap_or(it).to_owned();
    let typing = |variable: &String| {
        let leaf = variable.rsplit("__").next().unwrap_or(variable);
        distance(name, variable).min(distance(&bare(name), &bare(leaf)) * 2 + 1)
    };
    let variables = keys::paths().into_iter().map(|path| keys::variable(&path));
    variables.min_by_key(typing).unwrap_or_default()
}

fn distance(typed: &str, valid: &str) -> usize {
    strsim::damerau_levenshtein(&typed.to_ascii_lowercase().replace('-', "_"), &valid.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_what_was_meant() {
        for (table, name, expected) in [
            ("policy", "leese", "policy.lease"),
            ("policy", "max-request", "policy.max_request"),
            ("policy", "respones_timeout", "upstream.response_timeout"),
            ("", "lease", "policy.lease"),
            ("", "lisen", "listen"),
            ("", "polcy", "policy"),
            ("", "routes", "route"),
            ("admin", "listn", "admin.listen"),
            ("upstream", "url", "upstream.urls"),
            ("upstream", "header_timeout", "header_timeout"),
            ("route[3]", "retension", "route[3].retention"),
            ("route[3]", "method", "route[3].methods"),
        ] {
            assert_eq!(nearest_key(table, name), expected, "{table} {name}");
        }
    }

    #[test]
    fn the_nearest_variable_is_what_was_meant() {
        for (name, expected) in [
            ("ONCEWARD_LISTN", "ONCEWARD_LISTEN"),
            ("ONCEWARD_POLICY_LEASE", "ONCEWARD_POLICY__LEASE"),
            ("ONCEWARD_LEASE", "ONCEWARD_POLICY__LEASE"),
            ("ONCEWARD_URLS", "ONCEWARD_UPSTREAM__URLS"),
            ("ONCEWARD_ADMIN_LISTEN", "ONCEWARD_ADMIN__LISTEN"),
        ] {
            assert_eq!(nearest_variable(name), expected, "{name}");
        }
    }
}
