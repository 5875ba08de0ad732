//! What a wrong key or value says.

use super::{UPSTREAM, accepted, merge, refused};
use crate::settings::{Flags, Settings};

/// The whole error for one line under `[policy]`, which is line 4.
fn policy_refused(line: &str, expected: &str) {
    refused(&format!("{UPSTREAM}[policy]\n{line}\n"), &format!("gateway.toml:4: {expected}"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_valid_one() {
    refused(
        "lisen = \"127.0.0.1:1\"\nlease = \"3s\"\n[polcy]\nkey = \"required\"\n[upstream]\nurl = []\n\
         [[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\nretension = \"1s\"\n[upstream.tls]\n[admin]\n\"listen.x\" = 1\n",
        "gateway.toml:1: lisen: unknown key; nearest valid key: listen\n\
         gateway.toml:2: lease: unknown key; nearest valid key: policy.lease\n\
         gateway.toml:3: polcy: unknown key; nearest valid key: policy\n\
         gateway.toml:6: upstream.url: unknown key; nearest valid key: upstream.urls\n\
         gateway.toml:11: route[1].retension: unknown key; nearest valid key: route[1].retention\n\
         gateway.toml:12: upstream.tls: unknown key; nearest valid key: tls\n\
         gateway.toml:14: admin.\"listen.x\": unknown key; nearest valid key: admin.listen",
    );
    refused(
        "\"admin.listen\" = \"127.0.0.1:1\"\n",
        "gateway.toml:1: \"admin.listen\": unknown key; nearest valid key: admin.listen",
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
            "unknown_on = [600]",
            "policy.unknown_on: found [600]; accepted: a list of statuses from 400 to 599; \
             example: unknown_on = [502, 504]",
        ),
        (
            "unknown_on = [\"502\"]",
            "policy.unknown_on: found [\"502\"]; accepted: a list of statuses from 400 to 599; \
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
            "access_log = \"some\"",
            "access_log: found \"some\"; accepted: all, duplicates or none; example: access_log = \"duplicates\"",
        ),
        (
            "idle_timeout = \"0\"",
            "idle_timeout: found \"0\"; accepted: a duration with a unit, more than 0; \
             example: idle_timeout = \"75s\"",
        ),
        (
            "store = \"postgress://me:pw@db/x\"",
            "store: found \"postgress://me:***@db/x\"; unknown store `postgress:`; nearest valid: `postgres:`; \
             accepted: `memory:`, `embedded:PATH`, `postgres://…` or `redis://…`; example: store = \"embedded:./onceward-data\"",
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
fn an_upstream_is_a_plain_url() {
    let shape = "accepted: a list of URLs http[s]://HOST[:PORT][/PATH]";
    for (url, found, says) in [
        ("127.0.0.1:9000", "127.0.0.1:9000", shape),
        ("/api", "/api", shape),
        ("http://", "http://", shape),
        ("ftp://api", "ftp://api", shape),
        ("http://api?x=1", "http://api?x=1", shape),
        ("http://api:99999", "http://api:99999", shape),
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
    for url in [
        "http://api",
        "http://api/",
        "http://api/base/",
        "http://api:9000",
        "http://[::1]:9000",
        "http://[::1]",
        "https://api",
        "https://api:8443/v1",
    ] {
        let settings = accepted(&format!("[upstream]\nurls = [\"{url}\"]"));
        assert_eq!(accepted(&settings.to_toml()), settings, "{url}");
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
        Flags { store: Some("rediz://:pw@cache".into()), listen: Some("80".into()), ..Flags::default() };
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
         --store: found \"rediz://:***@cache\"; unknown store `rediz:`; nearest valid: `redis:`; \
         accepted: `memory:`, `embedded:PATH`, `postgres://…` or `redis://…`; example: --store embedded:./onceward-data"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = std::path::Path::new("/nonexistent/gateway.toml");
    let error = Settings::read(Some(missing), std::iter::empty(), Flags::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the settings file /nonexistent/gateway.toml");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_problem_in_a_real_file_is_blamed_on_that_file() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let error = Settings::read(Some(&file), std::iter::empty(), Flags::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:1: package: unknown key; ", file.display())), "{error}");
}

#[test]
fn every_bound_itself_is_accepted() {
    let policy = "[policy]\nlease = \"1s\"\nretention = \"1s\"\nrun_max = \"60001ms\"\nmax_answer = \"1GiB\"\n\
                  release_on = [400]\nunknown_on = [599]\n";
    accepted(&format!("{UPSTREAM}{policy}"));
    accepted(&format!("{UPSTREAM}[policy]\nlease = \"1h\"\nrun_max = \"2h\"\ntombstone = \"0\"\n"));
    accepted(&format!("listen = \"[::]:0\"\n{UPSTREAM}[admin]\nlisten = \"[::]:0\"\n"));
}

#[test]
fn counts_origins_and_header_names_are_judged_by_themselves() {
    let check = |table: &str, line: &str, says: &str| {
        refused(&format!("{UPSTREAM}[{table}]\n{line}\n"), &format!("gateway.toml:4: {table}.{says}"));
    };
    check(
        "limits",
        "connections = 0",
        "connections: found 0; accepted: a whole number, at least 1; example: connections = 10000",
    );
    check(
        "limits",
        "streams = \"7\"",
        "streams: found \"7\"; accepted: a whole number from 1 to 10000; example: streams = 100",
    );
    check(
        "cors",
        "origins = [\"https://shop.example/\"]",
        "origins: \"https://shop.example/\" is no origin as browsers send it: \
         leave out the path, a slash at the end too",
    );
    check(
        "policy",
        "replay_drop = [\"a b\"]",
        "replay_drop: found [\"a b\"]; accepted: a list of header names; example: replay_drop = [\"x-request-id\"]",
    );
}
