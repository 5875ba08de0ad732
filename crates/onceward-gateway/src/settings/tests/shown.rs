//! The settings in force, printed.

use std::time::Duration;

use http::Uri;

use super::{REFERENCE, accepted, with_upstream};
use crate::settings::{
    Balance, HostRule, InFlight, Oversize, Policy, Principal, StoreUrl, Unresolved, value,
};

#[test]
fn what_is_shown_reads_back_to_the_same_settings() {
    let mut rich = accepted(REFERENCE);
    rich.store = StoreUrl::parse("embedded:/srv/a@b \"c\"?durability=relaxed").unwrap();
    rich.admin.token_file = r#"C:\token "x" 'y'"#.into();
    rich.upstream.idle = Duration::ZERO;
    rich.upstream.urls.push(Uri::from_static("https://api.example/v1"));
    rich.upstream.balance = Balance::KeyHash;
    rich.upstream.host = HostRule::Upstream;
    rich.upstream.check = "/healthz?deep=1".into();
    rich.upstream.ca_file = "/etc/my ca.pem".into();
    rich.tls.cert = "a.pem".into();
    rich.tls.key = "b.pem".into();
    rich.limits.connections = 7;
    rich.cors.origins = vec!["https://shop.example:8443".into(), "http://localhost:3000".into()];
    rich.cors.credentials = true;
    rich.policy.replay_drop = ["x-request-id".to_owned(), "server".to_owned()].into();
    rich.policy.retry_window = Duration::from_secs(72 * 3600);
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
store_from = ""
log = "json"
access_log = "all"
drain_delay = "5s"
drain = "25s"
header_timeout = "10s"
idle_timeout = "75s"

[tls]
cert = ""
key = ""

[admin]
listen = "127.0.0.1:8081"
token_file = "admin.token"
ready_requires_store = false
hide_keys = false

[upstream]
urls = ["http://127.0.0.1:9000"]
balance = "round-robin"
protocol = "auto"
host = "auto"
ca_file = ""
trust_forwarded = false
connect_timeout = "5s"
response_timeout = "60s"
idle = "4s"
trust_refused_stream = false
in_flight = 1024
eject_after = 5
eject = "10s"
eject_max = "5m"
check = ""
check_every = "5s"

[limits]
connections = 10000
requests = 10000
keys_in_flight = 1000
header_count = 100
header_bytes = "64KiB"
streams = 100
body_timeout = "30s"
write_timeout = "30s"

[cors]
origins = []
credentials = false

[policy]
key = "optional"
key_from = "header:idempotency-key"
compare = "request"
verify = ""
verify_secret_file = ""
verify_tolerance = "5m"
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
replay_drop = []
retry_window = "0"

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
