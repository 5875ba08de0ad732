//! Where a value comes from, and who wins.

use std::time::Duration;

use http::Method;

use super::{REFERENCE, UPSTREAM, merge, with_upstream};
use crate::settings::{
    Flags, InFlight, KeyRule, PathPattern, Policy, Principal, Protocol, Read, Route, Settings, keys,
};

#[test]
fn the_reference_is_the_defaults_and_one_route() {
    let mut expected = with_upstream();
    expected.routes.push(Route {
        name: "/payments".into(),
        methods: vec![Method::POST],
        path: PathPattern::parse("/payments").unwrap(),
        fresh_connection: false,
        policy: Policy {
            key: KeyRule::Required,
            retention: Duration::from_secs(7 * 24 * 3600),
            ..Policy::default()
        },
    });
    assert_eq!(Settings::parse_toml(REFERENCE).unwrap(), expected);
}

#[test]
fn an_upstream_flag_alone_suffices() {
    let flags = Flags { upstream: Some("http://127.0.0.1:9000".into()), ..Flags::default() };
    let read = Settings::read(None, std::iter::empty(), flags).unwrap();
    assert_eq!(read, Read { settings: with_upstream(), warnings: Vec::new() });
}

#[test]
fn flags_win_over_variables_over_the_file_over_the_defaults() {
    let file = format!("listen = \"127.0.0.1:1\"\n{UPSTREAM}");
    let env: &[_] = &[("ONCEWARD_LISTEN", "127.0.0.1:2")];
    let flags = Flags { listen: Some("127.0.0.1:3".into()), ..Flags::default() };
    let none = Flags::default();
    for (file, env, flags, expected) in [
        (UPSTREAM, [].as_slice(), &none, 8080),
        (&file, &[], &none, 1),
        (UPSTREAM, env, &none, 2),
        (&file, env, &none, 2),
        (UPSTREAM, &[], &flags, 3),
        (&file, &[], &flags, 3),
        (UPSTREAM, env, &flags, 3),
        (&file, env, &flags, 3),
    ] {
        assert_eq!(merge(file, env, flags).unwrap().settings.listen.port(), expected);
    }
}

#[test]
fn every_flag_sets_its_key() {
    let flags = Flags {
        upstream: Some("http://api:9000".into()),
        listen: Some("0.0.0.0:80".into()),
        admin: Some("[::1]:81".into()),
        store: Some("memory:".into()),
        log: Some("human".into()),
    };
    let shown = merge("", &[], &flags).unwrap().settings.to_toml();
    for line in [
        "listen = \"0.0.0.0:80\"",
        "store = \"memory:\"",
        "log = \"human\"",
        "listen = \"[::1]:81\"",
        "urls = [\"http://api:9000\"]",
    ] {
        assert!(shown.lines().any(|it| it == line), "{line} in {shown}");
    }
}

#[test]
fn a_variable_can_set_every_key_outside_the_routes() {
    let env = [
        ("ONCEWARD_LISTEN", "0.0.0.0:80"),
        ("ONCEWARD_STORE", "memory:"),
        ("ONCEWARD_STORE_FROM", "embedded:./old"),
        ("ONCEWARD_LOG", "human"),
        ("ONCEWARD_ACCESS_LOG", "none"),
        ("ONCEWARD_DRAIN_DELAY", "0"),
        ("ONCEWARD_DRAIN", "1s"),
        ("ONCEWARD_HEADER_TIMEOUT", "2s"),
        ("ONCEWARD_IDLE_TIMEOUT", "3s"),
        ("ONCEWARD_ADMIN__LISTEN", "0.0.0.0:81"),
        ("ONCEWARD_ADMIN__TOKEN_FILE", "/run/token"),
        ("ONCEWARD_ADMIN__READY_REQUIRES_STORE", "true"),
        ("ONCEWARD_ADMIN__HIDE_KEYS", "true"),
        ("ONCEWARD_TLS__CERT", "/run/tls.crt"),
        ("ONCEWARD_TLS__KEY", "/run/tls.key"),
        ("ONCEWARD_UPSTREAM__URLS", "http://api"),
        ("ONCEWARD_UPSTREAM__BALANCE", "least-busy"),
        ("ONCEWARD_UPSTREAM__CA_FILE", "/run/ca.crt"),
        ("ONCEWARD_UPSTREAM__TRUST_FORWARDED", "true"),
        ("ONCEWARD_UPSTREAM__TRUST_REFUSED_STREAM", "true"),
        ("ONCEWARD_UPSTREAM__IN_FLIGHT", "9"),
        ("ONCEWARD_UPSTREAM__EJECT_AFTER", "0"),
        ("ONCEWARD_UPSTREAM__EJECT", "1s"),
        ("ONCEWARD_UPSTREAM__EJECT_MAX", "2s"),
        ("ONCEWARD_UPSTREAM__CHECK", "/healthz"),
        ("ONCEWARD_UPSTREAM__CHECK_EVERY", "3s"),
        ("ONCEWARD_LIMITS__CONNECTIONS", "1"),
        ("ONCEWARD_LIMITS__REQUESTS", "2"),
        ("ONCEWARD_LIMITS__KEYS_IN_FLIGHT", "3"),
        ("ONCEWARD_LIMITS__HEADER_COUNT", "40"),
        ("ONCEWARD_LIMITS__HEADER_BYTES", "8KiB"),
        ("ONCEWARD_LIMITS__STREAMS", "5"),
        ("ONCEWARD_LIMITS__BODY_TIMEOUT", "6s"),
        ("ONCEWARD_LIMITS__WRITE_TIMEOUT", "7s"),
        ("ONCEWARD_CORS__ORIGINS", "https://a,https://b"),
        ("ONCEWARD_CORS__CREDENTIALS", "true"),
        ("ONCEWARD_UPSTREAM__PROTOCOL", "h2c"),
        ("ONCEWARD_UPSTREAM__HOST", "upstream"),
        ("ONCEWARD_UPSTREAM__CONNECT_TIMEOUT", "4s"),
        ("ONCEWARD_UPSTREAM__RESPONSE_TIMEOUT", "5s"),
        ("ONCEWARD_UPSTREAM__IDLE", "0"),
        ("ONCEWARD_POLICY__KEY", "required"),
        ("ONCEWARD_POLICY__KEY_FROM", "json:/id"),
        ("ONCEWARD_POLICY__COMPARE", "nothing"),
        ("ONCEWARD_POLICY__VERIFY", "github:x-acme"),
        ("ONCEWARD_POLICY__VERIFY_SECRET_FILE", "/run/hooks"),
        ("ONCEWARD_POLICY__VERIFY_TOLERANCE", "1m"),
        ("ONCEWARD_POLICY__IN_FLIGHT", "wait 6s"),
        ("ONCEWARD_POLICY__UNRESOLVED", "rerun"),
        ("ONCEWARD_POLICY__RETENTION", "2d"),
        ("ONCEWARD_POLICY__TOMBSTONE", "0"),
        ("ONCEWARD_POLICY__LEASE", "7s"),
        ("ONCEWARD_POLICY__RUN_MAX", "8s"),
        ("ONCEWARD_POLICY__MAX_REQUEST", "2KiB"),
        ("ONCEWARD_POLICY__MAX_ANSWER", "3000"),
        ("ONCEWARD_POLICY__PRINCIPAL", "cookie:Session"),
        ("ONCEWARD_POLICY__RELEASE_ON", "401, 429"),
        ("ONCEWARD_POLICY__UNKNOWN_ON", "[502]"),
        ("ONCEWARD_POLICY__OVERSIZE", "refuse"),
        ("ONCEWARD_POLICY__FAIL_OPEN", "true"),
        ("ONCEWARD_POLICY__REPLAY_DROP", "Server,X-Request-Id"),
        ("ONCEWARD_POLICY__RETRY_WINDOW", "72h"),
    ];
    let read = merge("", &env, &Flags::default()).unwrap();
    assert_eq!(read.warnings, [""; 0]);
    assert_eq!(env.len(), keys::paths().len(), "every key is in the list above");
    let default = with_upstream().to_toml();
    let sections = |text: &str| text.split("\n[").map(str::to_owned).collect::<Vec<_>>();
    for (section, default) in sections(&read.settings.to_toml()).iter().zip(sections(&default)) {
        for line in section.lines().skip(usize::from(section.contains(']'))).filter(|it| it.contains('=')) {
            assert!(default.lines().all(|it| it != line), "{line} is still the default");
        }
    }
    assert_eq!(read.settings.policy.principal, Principal::Cookie("Session".into()));
    assert_eq!(read.settings.policy.in_flight, InFlight::Wait(Duration::from_secs(6)));
    assert_eq!(read.settings.policy.max_answer, 3000);
    assert_eq!(read.settings.upstream.protocol, Protocol::H2c);
}

#[test]
fn a_route_stands_on_the_policy_of_all_sources() {
    let file =
        format!("[[route]]\npath = \"/a\"\nretention = \"1h\"\n[policy]\ntombstone = \"2d\"\n{UPSTREAM}");
    let env = [("ONCEWARD_POLICY__LEASE", "5s"), ("ONCEWARD_POLICY__RETENTION", "2h")];
    let route = merge(&file, &env, &Flags::default()).unwrap().settings.routes.remove(0);
    assert_eq!(route.policy.lease, Duration::from_secs(5));
    assert_eq!(route.policy.retention, Duration::from_secs(3600));
    assert_eq!(route.policy.tombstone, Duration::from_secs(2 * 24 * 3600));
    assert_eq!(route.methods, [Method::POST, Method::PATCH]);
    assert_eq!(route.name, "/a");
}

#[test]
fn what_kubernetes_injects_is_one_warning_each_and_the_token_none() {
    let env = [
        ("PATH", "/bin"),
        ("ONCEWARD_ADMIN_TOKEN", "secret"),
        ("ONCEWARD_SERVICE_HOST", "10.0.0.1"),
        ("ONCEWARD_PORT", "tcp://10.0.0.1:80"),
        ("ONCEWARD_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("ONCEWARD_POLICY_LEASE", "secret"),
        ("ONCEWARD_ROUTE__0__PATH", "/a"),
        ("ONCEWARD_POLICY__LEASE", "5s"),
    ];
    let read = merge(UPSTREAM, &env, &Flags::default()).unwrap();
    let mut expected = with_upstream();
    expected.policy.lease = Duration::from_secs(5);
    assert_eq!(read.settings, expected);
    let kubernetes = "Kubernetes sets it for a service named onceward (enableServiceLinks: false stops that)";
    assert_eq!(
        read.warnings,
        [
            "ONCEWARD_POLICY_LEASE is not a setting and is ignored; nearest valid name: ONCEWARD_POLICY__LEASE"
                .to_owned(),
            format!(
                "ONCEWARD_PORT is not a setting and is ignored; {kubernetes}"
            ),
            format!(
                "ONCEWARD_PORT_80_TCP is not a setting and is ignored; {kubernetes}"
            ),
            "ONCEWARD_ROUTE__0__PATH is ignored: routes can only be given in the file".to_owned(),
            format!(
                "ONCEWARD_SERVICE_HOST is not a setting and is ignored; {kubernetes}"
            ),
        ]
    );
}

#[test]
fn no_key_of_ours_is_one_that_kubernetes_injects() {
    for path in keys::paths() {
        let name = path.replace('.', "__").to_ascii_uppercase();
        assert!(name != "PORT" && !name.starts_with("PORT_") && !name.starts_with("SERVICE_"), "{name}");
    }
}

#[test]
fn a_route_that_is_never_reached_is_a_warning() {
    let text = "[[route]]\npath = \"/v1/**\"\n[[route]]\npath = \"/v1/{id}\"\nkey = \"required\"\n\
                [[route]]\npath = \"/v1/a\"\nmethods = [\"PUT\"]\n";
    let read = merge(&format!("{text}{UPSTREAM}"), &[], &Flags::default()).unwrap();
    assert_eq!(
        read.warnings,
        ["gateway.toml:3: route[1] (/v1/{id}) is never reached: route[0] (/v1/**) comes first"]
    );
}
