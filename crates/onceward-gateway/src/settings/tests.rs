//! The settings as an operator meets them: where a value comes from, and what a wrong one says.

use std::time::Duration;

use http::{Method, Uri};

use super::{
    Flags, InFlight, KeyRule, Oversize, PathPattern, Policy, Principal, Protocol, Read, Route, Settings,
    SettingsError, Unresolved, read,
};

/// What every accepted text needs.
const UPSTREAM: &str = "[upstream]\nurls = [\"http://127.0.0.1:9000\"]\n";

/// The reference of all keys that the guide shows, with their defaults.
const REFERENCE: &str = r#"
listen = "127.0.0.1:8080"
store = "embedded:./onceward-data"
[admin]
listen = "127.0.0.1:8081"
token_file = "admin.token"        # made on first start, mode 0600, inside the store directory when absent
[upstream]
urls = ["http://127.0.0.1:9000"]
[policy]                          # defaults; every field may be set per route
key = "optional"                  # required | optional | ignored
in_flight = "reject"              # or "wait 10s"
unresolved = "hold"               # hold | rerun   (probe: later)
retention = "24h"
tombstone = "7d"
lease = "30s"
max_request = "1MiB"
max_answer = "1MiB"
principal = "auto"                # auto | header:NAME | cookie:NAME | none
release_on = [401, 403, 407, 425, 429]      # and 503 with Retry-After
unknown_on = [408, 502, 503, 504]           # 503 without Retry-After
oversize = "pass"                 # or "refuse"
fail_open = false
[[route]]
methods = ["POST"]
path = "/payments"                # exact, `/orders/{id}`, or a prefix `/v1/**`
key = "required"
retention = "7d"
"#;

fn merge(text: &str, env: &[(&str, &str)], flags: &Flags) -> Result<Read, SettingsError> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    read::merge(Some(text), Some("gateway.toml"), env, flags)
}

fn accepted(text: &str) -> Settings {
    merge(text, &[], &Flags::default()).unwrap().settings
}

/// The whole error for a file.
fn refused(text: &str, expected: &str) {
    let error = merge(text, &[], &Flags::default()).expect_err(text);
    assert_eq!(error.to_string(), expected, "{text}");
}

/// The whole error for one line under `[policy]`, which is line 4.
fn policy_refused(line: &str, expected: &str) {
    refused(&format!("{UPSTREAM}[policy]\n{line}\n"), &format!("gateway.toml:4: {expected}"));
}

fn with_upstream() -> Settings {
    let mut settings = Settings::default();
    settings.upstream.urls = vec![Uri::from_static("http://127.0.0.1:9000")];
    settings
}

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
        ("ONCEWARD_LOG", "human"),
        ("ONCEWARD_DRAIN_DELAY", "0"),
        ("ONCEWARD_DRAIN", "1s"),
        ("ONCEWARD_HEADER_TIMEOUT", "2s"),
        ("ONCEWARD_IDLE_TIMEOUT", "3s"),
        ("ONCEWARD_ADMIN__LISTEN", "0.0.0.0:81"),
        ("ONCEWARD_ADMIN__TOKEN_FILE", "/run/token"),
        ("ONCEWARD_ADMIN__READY_REQUIRES_STORE", "true"),
        ("ONCEWARD_UPSTREAM__URLS", "http://api"),
        ("ONCEWARD_UPSTREAM__PROTOCOL", "h2c"),
        ("ONCEWARD_UPSTREAM__HOST", "upstream"),
        ("ONCEWARD_UPSTREAM__CONNECT_TIMEOUT", "4s"),
        ("ONCEWARD_UPSTREAM__RESPONSE_TIMEOUT", "5s"),
        ("ONCEWARD_UPSTREAM__IDLE", "0"),
        ("ONCEWARD_POLICY__KEY", "required"),
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
    ];
    let read = merge("", &env, &Flags::default()).unwrap();
    assert_eq!(read.warnings, [""; 0]);
    assert_eq!(env.len(), super::keys::paths().len(), "every key is in the list above");
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
    let kubernetes =
        "; Kubernetes sets it for a service named onceward (enableServiceLinks: false stops that)";
    assert_eq!(
        read.warnings,
        [
            "ONCEWARD_POLICY_LEASE is not a setting and is ignored; nearest valid name: ONCEWARD_POLICY__LEASE"
                .to_owned(),
            format!(
                "ONCEWARD_PORT is not a setting and is ignored; nearest valid name: ONCEWARD_STORE{kubernetes}"
            ),
            format!(
                "ONCEWARD_PORT_80_TCP is not a setting and is ignored; nearest valid name: ONCEWARD_STORE{kubernetes}"
            ),
            "ONCEWARD_ROUTE__0__PATH is ignored: routes can only be given in the file".to_owned(),
            format!(
                "ONCEWARD_SERVICE_HOST is not a setting and is ignored; nearest valid name: ONCEWARD_UPSTREAM__HOST{kubernetes}"
            ),
        ]
    );
}

#[test]
fn no_key_of_ours_is_one_that_kubernetes_injects() {
    for path in super::keys::paths() {
        let name = path.replace('.', "__").to_ascii_uppercase();
        assert!(name != "PORT" && !name.starts_with("PORT_") && !name.starts_with("SERVICE_"), "{name}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_valid_one() {
    refused(
        "lisen = \"127.0.0.1:1\"\nlease = \"3s\"\n[polcy]\nkey = \"required\"\n[upstream]\nurl = []\n\
         [[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\nretension = \"1s\"\n[upstream.tls]\n[admin]\n\"a.b\" = 1\n",
        "gateway.toml:1: lisen: unknown key; nearest valid key: listen\n\
         gateway.toml:2: lease: unknown key; nearest valid key: policy.lease\n\
         gateway.toml:3: polcy: unknown key; nearest valid key: policy\n\
         gateway.toml:6: upstream.url: unknown key; nearest valid key: upstream.urls\n\
         gateway.toml:11: route[1].retension: unknown key; nearest valid key: route[1].retention\n\
         gateway.toml:12: upstream.tls: unknown key; nearest valid key: upstream.urls\n\
         gateway.toml:14: admin.a.b: unknown key; nearest valid key: policy.key",
    );
    refused(
        "\"admin.listen\" = \"127.0.0.1:1\"\n",
        "gateway.toml:1: admin.listen: unknown key; nearest valid key: admin.listen",
    );
}

#[test]
fn a_file_that_is_no_toml_names_the_line() {
    refused(
        "listen = \"127.0.0.1:1\"\nstore = memory:\n",
        "gateway.toml:2: not valid TOML: string values must be quoted, expected literal string",
    );
    refused(
        "[policy]\nkey = \"required\"\nkey = \"optional\"\n",
        "gateway.toml:3: not valid TOML: duplicate key",
    );
    let error = Settings::parse_toml("a =").unwrap_err().to_string();
    assert!(error.starts_with("line 1: not valid TOML: "), "{error}");
}

#[test]
fn a_wrong_value_names_what_was_found_what_is_accepted_and_an_example() {
    for (line, expected) in [
        (
            "key = \"always\"",
            "policy.key: found \"always\"; accepted: required, optional or ignored; example: key = \"required\"",
        ),
        (
            "in_flight = \"wait\"",
            "policy.in_flight: found \"wait\"; accepted: reject, or wait and a duration of more than 0; \
             example: in_flight = \"wait 10s\"",
        ),
        (
            "in_flight = \"wait 0s\"",
            "policy.in_flight: found \"wait 0s\"; accepted: reject, or wait and a duration of more than 0; \
             example: in_flight = \"wait 10s\"",
        ),
        (
            "unresolved = \"probe\"",
            "policy.unresolved: found \"probe\"; accepted: hold or rerun; example: unresolved = \"hold\"",
        ),
        (
            "retention = \"999ms\"",
            "policy.retention: found \"999ms\"; accepted: a duration with a unit, at least 1s; \
             example: retention = \"24h\"",
        ),
        (
            "tombstone = 7",
            "policy.tombstone: found 7; accepted: a duration with a unit, or 0 for none; \
             example: tombstone = \"7d\"",
        ),
        (
            "lease = \"999ms\"",
            "policy.lease: found \"999ms\"; accepted: a duration with a unit, from 1s to 1h; \
             example: lease = \"30s\"",
        ),
        (
            "lease = \"61m\"",
            "policy.lease: found \"61m\"; accepted: a duration with a unit, from 1s to 1h; \
             example: lease = \"30s\"",
        ),
        (
            "run_max = true",
            "policy.run_max: found true; accepted: a duration with a unit, at least 1s; \
             example: run_max = \"10m\"",
        ),
        (
            "max_request = \"1M\"",
            "policy.max_request: found \"1M\"; accepted: a size in B, KiB, MiB or GiB, at most 1GiB; \
             example: max_request = \"1MiB\"",
        ),
        (
            "max_answer = 1073741825",
            "policy.max_answer: found 1073741825; accepted: a size in B, KiB, MiB or GiB, at most 1GiB; \
             example: max_answer = \"1MiB\"",
        ),
        (
            "principal = \"header:\"",
            "policy.principal: found \"header:\"; accepted: auto, none, header:NAME or cookie:NAME; \
             example: principal = \"header:X-Account\"",
        ),
        (
            "release_on = [401, 399]",
            "policy.release_on: found [401, 399]; accepted: a list of statuses from 400 to 599; \
             example: release_on = [401, 403]",
        ),
        (
            "unknown_on = [\"502\", 600]",
            "policy.unknown_on: found [\"502\", 600]; accepted: a list of statuses from 400 to 599; \
             example: unknown_on = [502, 504]",
        ),
        (
            "oversize = 1.5",
            "policy.oversize: found 1.5; accepted: pass or refuse; example: oversize = \"pass\"",
        ),
        (
            "fail_open = \"true\"",
            "policy.fail_open: found \"true\"; accepted: true or false; example: fail_open = false",
        ),
    ] {
        policy_refused(line, expected);
    }
}

#[test]
fn a_wrong_value_outside_the_policy_is_as_clear() {
    for (text, expected) in [
        (
            "listen = \"localhost:8080\"",
            "listen: found \"localhost:8080\"; accepted: an IP address and a port; \
             example: listen = \"127.0.0.1:8080\"",
        ),
        ("log = \"xml\"", "log: found \"xml\"; accepted: json or human; example: log = \"json\""),
        (
            "idle_timeout = \"0\"",
            "idle_timeout: found \"0\"; accepted: a duration with a unit, more than 0; \
             example: idle_timeout = \"75s\"",
        ),
        (
            "store = \"postgres://me:pw@db/x\"",
            "store: found \"postgres://me:***@db/x\"; `postgres:` stores are not available in this build yet; \
             accepted: `memory:` or `embedded:PATH`; example: store = \"embedded:./onceward-data\"",
        ),
        ("policy = \"strict\"", "policy: found \"strict\"; accepted: a table; example: [policy]"),
        ("route = \"/a\"", "route: found \"/a\"; accepted: tables; example: [[route]]"),
        ("[route]\npath = \"/a\"", "route: found a table; accepted: tables; example: [[route]]"),
        ("route = [1]", "route: found [1]; accepted: tables; example: [[route]]"),
        ("route = [{ key = \"required\" }]", "route[0]: no path; example: path = \"/payments\""),
        ("[[route]]\nkey = \"required\"", "route[0]: no path; example: path = \"/payments\""),
        (
            "route = [{ path = \"payments\" }]",
            "route[0].path: found \"payments\"; a path pattern begins with `/`; example: path = \"/orders/{id}\"",
        ),
        (
            "route = [{ path = \"/a\", methods = [] }]",
            "route[0].methods: found []; accepted: a list of methods that change something; \
             example: methods = [\"POST\", \"PATCH\"]",
        ),
        (
            "route = [{ path = \"/a\", methods = [\"GET\"] }]",
            "route[0].methods: found [\"GET\"]; GET always passes through and is never an operation; \
             example: methods = [\"POST\", \"PATCH\"]",
        ),
        (
            "route = [{ path = \"/a\", methods = [\"post\"] }]",
            "route[0].methods: found [\"post\"]; methods are in upper case, so write POST; \
             example: methods = [\"POST\", \"PATCH\"]",
        ),
        (
            "route = [{ path = \"/a\", name = \"\" }]",
            "route[0].name: found \"\"; accepted: a label of 1 to 100 printable characters; \
             example: name = \"payments\"",
        ),
    ] {
        refused(text, &format!("gateway.toml:1: {expected}"));
    }
}

#[test]
fn an_upstream_is_one_plain_http_url() {
    let shape = "accepted: a list of one URL http://HOST[:PORT] without a path";
    for (url, found, says) in [
        ("127.0.0.1:9000", "127.0.0.1:9000", shape),
        ("/api", "/api", shape),
        ("http://", "http://", shape),
        ("ftp://api", "ftp://api", shape),
        ("http://api/base", "http://api/base", shape),
        ("http://api?x=1", "http://api?x=1", shape),
        ("http://api:99999", "http://api:99999", shape),
        ("https://api", "https://api", "TLS to the upstream is not available in this build yet"),
        (
            "http://me:pw@api",
            "http://me:***@api",
            "credentials in the URL would not be sent; callers' own headers are passed on",
        ),
        ("me:pw@api:9000", "me:***@api:9000", shape),
    ] {
        let example = "example: urls = [\"http://127.0.0.1:9000\"]";
        let expected = format!("gateway.toml:2: upstream.urls: found [\"{found}\"]; {says}; {example}");
        refused(&format!("[upstream]\nurls = [\"{url}\"]"), &expected);
    }
    for url in ["http://api", "http://api/", "http://api:9000", "http://[::1]:9000", "http://[::1]"] {
        accepted(&format!("[upstream]\nurls = [\"{url}\"]"));
    }
}

#[test]
fn a_wrong_variable_or_flag_is_refused_by_its_own_name() {
    let env = [
        ("ONCEWARD_POLICY__LEASE", "soon"),
        ("ONCEWARD_POLICY__FAIL_OPEN", "yes"),
        ("ONCEWARD_POLICY__RELEASE_ON", "401,many"),
        ("ONCEWARD_POLICY__UNKNOWN_ON", "[502"),
        ("ONCEWARD_LISTEN", ""),
    ];
    let flags =
        Flags { store: Some("redis://:pw@cache".into()), listen: Some("80".into()), ..Flags::default() };
    let error = merge("listen = 80", &env, &flags).unwrap_err();
    assert_eq!(
        error.to_string(),
        "gateway.toml:1: listen: found 80; accepted: an IP address and a port; \
         example: listen = \"127.0.0.1:8080\"\n\
         ONCEWARD_LISTEN: found \"\"; accepted: an IP address and a port; \
         example: ONCEWARD_LISTEN=127.0.0.1:8080\n\
         ONCEWARD_POLICY__FAIL_OPEN: found \"yes\"; accepted: true or false; \
         example: ONCEWARD_POLICY__FAIL_OPEN=false\n\
         ONCEWARD_POLICY__LEASE: found \"soon\"; accepted: a duration with a unit, from 1s to 1h; \
         example: ONCEWARD_POLICY__LEASE=30s\n\
         ONCEWARD_POLICY__RELEASE_ON: found \"401,many\"; accepted: a list of statuses from 400 to 599; \
         example: ONCEWARD_POLICY__RELEASE_ON=401,403\n\
         ONCEWARD_POLICY__UNKNOWN_ON: found \"[502\"; accepted: a list of statuses from 400 to 599; \
         example: ONCEWARD_POLICY__UNKNOWN_ON=502,504\n\
         --listen: found \"80\"; accepted: an IP address and a port; example: --listen 127.0.0.1:8080\n\
         --store: found \"redis://:***@cache\"; `redis:` stores are not available in this build yet; \
         accepted: `memory:` or `embedded:PATH`; example: --store embedded:./onceward-data"
    );
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    refused("", "upstream.urls: none given; add `--upstream http://HOST:PORT` or `[upstream] urls = […]`");
    refused(
        "[upstream]\nurls = []",
        "gateway.toml:2: upstream.urls: none given; add `--upstream http://HOST:PORT` or `[upstream] urls = […]`",
    );
    refused(
        "[upstream]\nurls = [\"http://a\", \"http://b\"]",
        "gateway.toml:2: upstream.urls: several upstreams are not available yet; found 2, give one",
    );
    refused(
        &format!("listen = \"127.0.0.1:80\"\n{UPSTREAM}[admin]\nlisten = \"127.0.0.1:80\"\n"),
        "gateway.toml:5: admin.listen: 127.0.0.1:80 is taken by listen; give admin.listen a port of its own",
    );
    refused(
        &format!("{UPSTREAM}response_timeout = \"10m\"\n[[route]]\npath = \"/a\"\n"),
        "policy.run_max: 10m is too short; it must exceed upstream.response_timeout, which is 60s"
            .replace("60s", "10m")
            .as_str(),
    );
    refused(
        &format!("{UPSTREAM}[[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\nrun_max = \"30s\"\n"),
        "gateway.toml:7: route[1].run_max: 30s is too short; it must exceed lease, which is 30s\n\
         gateway.toml:7: route[1].run_max: 30s is too short; it must exceed upstream.response_timeout, which is 60s",
    );
    refused(
        &format!("{UPSTREAM}[[route]]\npath = \"/a\"\nlease = \"10m\"\n"),
        "gateway.toml:3: route[0].run_max: 10m is too short; it must exceed lease, which is 10m",
    );
    refused(
        &format!("{UPSTREAM}[policy]\nrelease_on = [401, 503]\n"),
        "gateway.toml:4: policy.release_on: 503 is in unknown_on too; a status means one thing, so keep it in one list",
    );
    refused(
        &format!("{UPSTREAM}[[route]]\npath = \"/a\"\nunknown_on = [429]\n"),
        "gateway.toml:5: route[0].unknown_on: 429 is in release_on too; \
         a status means one thing, so keep it in one list",
    );
}

#[test]
fn a_value_from_a_variable_is_blamed_on_the_variable() {
    let env = [("ONCEWARD_POLICY__RUN_MAX", "31s")];
    let error = merge(UPSTREAM, &env, &Flags::default()).unwrap_err();
    let expected = "ONCEWARD_POLICY__RUN_MAX: 31s is too short; \
                    it must exceed upstream.response_timeout, which is 60s";
    assert_eq!(error.to_string(), expected);
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

#[test]
fn what_is_shown_reads_back_to_the_same_settings() {
    let mut rich = accepted(REFERENCE);
    rich.store = super::StoreUrl::parse("embedded:/srv/a@b \"c\"?durability=relaxed").unwrap();
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
    ] {
        assert_eq!(super::value::hidden(text), expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = std::path::Path::new("/nonexistent/gateway.toml");
    let error = Settings::read(Some(missing), std::iter::empty(), Flags::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the settings file /nonexistent/gateway.toml");
    assert!(std::error::Error::source(&error).is_some());
}
