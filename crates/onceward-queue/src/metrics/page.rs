//! The page that Prometheus reads, and whether the reference says what is on it.

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// The metrics in the OpenMetrics text format.
pub(crate) fn of(registry: &Registry) -> String {
    let mut page = String::new();
    text::encode(&mut page, registry).expect("writing to a string cannot fail");
    page
}

/// The names of the metrics on a page, which are those that the tables of the reference have.
#[cfg(test)]
pub(crate) fn as_in(reference: &str, page: &str) -> Vec<String> {
    let mut named: Vec<_> =
        reference.lines().filter_map(|it| Some(it.strip_prefix("| `")?.split_once('`')?.0)).collect();
    named.sort_unstable();
    let types = page.lines().filter_map(|it| it.strip_prefix("# TYPE ")?.split_once(' '));
    let mut shown: Vec<_> = types
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    shown.sort_unstable();
    assert_eq!(named, shown);
    shown
}
