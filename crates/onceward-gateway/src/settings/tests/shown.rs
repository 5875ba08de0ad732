//! The settings in force, printed.

use std::time::Duration;

use http::Uri;

use super::{REFERENCE, accepted, with_upstream};
use crate::settings::{InFlight, Oversize, Policy, Principal, StoreUrl, Unresolved, value};

#[test]
fn what_is_shown_reads_back_to_the_same_settings() {
    let mut rich = accepted(REFERENCE);
    rich.store = StoreUrl::parse("embedded:/srv/a@b \"c\"?durability=relaxed").unwrap();
    rich.admin.token_file = r#"C:\token "x" 'y'"#.into();
    rich.upstream.idle = Duration::ZERO;
    rich.policy.lease = Duration::from_millis(1500);
    rich.policy.release_on.clear();
    rich.policy.principal = Principal::Header("x-account".into());
    let policy = Policy {
        in_flight: InFlight::Wait(Duration::from_secs(90)),
        unresolved: Unresolved::Rerun,
        tombstone: Duration::ZERO,
        oversize: Oversize::Refuse,
        max_request: 1025,
        ..rich.policy.clone()
    };
    rich.routes[0].policy = policy;
    rich.routes[0].name = "pay \"me\"".into();
    rich.routes[0].fresh_connection = true;
    for settings in [with_upstream(), accepted(REFERENCE), rich] {
        let shown = settings.to_toml();
        assert_eq!(accepted(&shown), settings, "{shown}");
    }
}

#[test]
fn the_settings_in_force_are_shown_as_a_file() {
    let expected = r#"listen = "127.0.0.1:8080"
store = "embedded:./onceward-data"
log = "json"
drain_delay = "5s"
drain = "25s"
header_timeout = "10s"
idle_timeout = "75s"

[admin]
listen = "127.0.0.1:8081"
token_file = "admin.token"
ready_requires_store = false
hide_keys = false

[upstream]
urls = ["http://127.0.0.1:9000"]
protocol = "http1"
host = "preserve"
connect_timeout = "5s"
response_timeout = "60s"
idle = "4s"

[policy]
key = "optional"
in_flight = "reject"
unresolved = "hold"
retention = "24h"
tombstone = "7d"
lease = "30s"
run_max = "10m"
max_request = "1MiB"
max_answer = "1MiB"
principal = "auto"
release_on = [401, 403, 407, 425, 429]
unknown_on = [408, 502, 503, 504]
oversize = "pass"
fail_open = false

[[route]]
name = "/payments"
methods = ["POST"]
path = "/payments"
fresh_connection = false
key = "required"
retention = "7d"
"#;
    assert_eq!(accepted(REFERENCE).to_toml(), expected);
}

#[test]
fn a_password_in_a_url_is_never_shown() {
    let mut settings = with_upstream();
    settings.upstream.urls = vec![Uri::from_static("http://me:hunter2@api:9000")];
    let shown = settings.to_toml();
    assert!(shown.contains("urls = [\"http://me:***@api:9000\"]"), "{shown}");
    for (text, expected) in [
        ("redis://hunter2@cache", "redis://***@cache"),
        ("postgres://me:hunt/er@2@db/x", "postgres://me:***@db/x"),
        ("http://api/plain", "http://api/plain"),
        ("embedded:/srv/a@b", "embedded:/srv/a@b"),
        ("/users/@me", "/users/@me"),
    ] {
        assert_eq!(value::hidden(text), expected);
    }
}
