//! What is written down of requests, and what never is.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};

use rustix::process::Signal;
use serde_json::Value;

use crate::client::{Ask, Reply, get, pay};
use crate::process::{Gateway, Place, Process, onceward, run};
use crate::snapshot::assert_snapshot;
use crate::upstream::Upstream;

const SECRETS: [&str; 7] =
    ["key-Zx81", "body-Qw72", "query-Er63", "token-Ty54", "answer-Ui45", "api-Op36", "cookie-As27"];

fn secret_pay(name: &str) -> Ask {
    Ask::new("POST", "/payments?token=query-Er63")
        .with("Idempotency-Key", &format!("key-Zx81-{name}"))
        .with("Authorization", "Bearer token-Ty54")
        .with("X-Api-Key", "api-Op36")
        .with("Cookie", "session=cookie-As27")
        .body(r#"{"secret":"body-Qw72"}"#)
}

/// One request for each thing that a request can turn out to be; gives back what that is called.
fn busy_session(gateway: &Gateway, upstream: &Upstream) -> Vec<&'static str> {
    let mut outcomes = Vec::new();
    let mut check = |reply: Reply, status: u16, outcome: &'static str| {
        assert_eq!(reply.status, status, "{outcome}: {reply:?}");
        outcomes.push(outcome);
    };
    check(gateway.ask(&secret_pay("a")), 201, "first_run");
    check(gateway.ask(&secret_pay("a")), 201, "replay");
    check(gateway.ask(&secret_pay("a")), 201, "replay");
    check(gateway.ask(&secret_pay("a").body("body-Qw72 again")), 422, "mismatch");
    check(gateway.ask(&secret_pay("b").with("Test-Status", "429")), 429, "released");
    check(gateway.ask(&secret_pay("c").with("Test-Cut", "yes")), 504, "unknown");
    check(gateway.ask(&secret_pay("c")), 409, "unresolved");
    check(gateway.ask(&secret_pay("d").with("Test-Bytes", "2000000")), 201, "oversize");
    check(gateway.ask(&secret_pay("d")), 409, "not_kept");
    check(gateway.ask(&secret_pay("e").with("Idempotency-Key", "key-Zx81-two")), 400, "refused");
    check(gateway.ask(&pay("\"key-Zx81")), 400, "refused");
    check(gateway.ask(&pay("key-Zx81-f").with("Authorization", "Digest token-Ty54")), 400, "refused");
    check(gateway.ask(&secret_pay("g").body(&"body-Qw72".repeat(200_000))), 413, "refused");
    check(gateway.ask(&get("/accounts/alice?token=query-Er63")), 201, "pass_through");
    check(gateway.ask(&Ask::new("DELETE", "/x").with("Idempotency-Key", "key-Zx81-h")), 201, "pass_through");
    let slow = secret_pay("i").with("Test-Hold", "after").send_meanwhile(gateway.address);
    upstream.until_effects("key-Zx81-i", 1);
    check(gateway.ask(&secret_pay("i")), 409, "busy");
    upstream.open();
    check(slow.join().unwrap().unwrap(), 201, "first_run");
    outcomes
}

/// The names of all fields that lines of one kind have, sorted.
fn fields<'a>(lines: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let names: BTreeSet<_> = lines.flat_map(|it| it.as_object().unwrap().keys().cloned()).collect();
    names.into_iter().collect()
}

#[test]
fn the_fields_of_the_stable_targets_are_those_that_are_documented() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = place.start();
    let outcomes = busy_session(&gateway, &upstream);
    let (admin, token) = (format!("http://{}", gateway.admin), gateway.token());
    let record = gateway.record("key-Zx81-c");
    let (id, revision) = (record["id"].as_str().unwrap(), record["revision"].as_str().unwrap());
    let resolve = ["keys", "resolve", id, "--revision", revision, "--status", "200", "--body", "answer-Ui45"];
    let mut command = onceward(place.folder());
    command.args(resolve).args(["--admin", &admin, "--operator", "ada", "--force", "by hand"]);
    run(command.env("ONCEWARD_ADMIN_TOKEN", &token)).with_code(0);
    let access = gateway.process.until_lines("onceward::access", outcomes.len());
    let audit = gateway.process.until_lines("onceward::audit", 7);
    let is_operator = |it: &&Value| !it["action"].is_null();
    let kinds = [
        ("access", fields(access.iter())),
        ("duplicate", fields(audit.iter().filter(|it| !is_operator(it)))),
        ("operator", fields(audit.iter().filter(is_operator))),
    ];
    let told = kinds.iter().map(|(kind, names)| format!("{kind}: {}\n", names.join(" "))).collect::<String>();
    assert_snapshot("log-fields.txt", &told);
    let page = include_str!("../../../../docs/reference/logs.md");
    for name in kinds.iter().flat_map(|it| &it.1) {
        assert!(page.contains(&format!("`{name}`")), "{name} is not documented");
    }
}

#[test]
fn a_change_names_its_operator() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = place.start();
    gateway.ask(&pay("k")).assert_first();
    let (admin, token) = (format!("http://{}", gateway.admin), gateway.token());
    let user_id = format!("uid {}", rustix::process::getuid().as_raw());
    for (at, (flag, user, sudo, expected)) in [
        (Some("ada l."), Some("root"), Some("eve"), "ada l."),
        (None, Some("root"), Some("eve"), "eve"),
        (None, Some("root"), None, "root"),
        (None, Some("süß"), None, &user_id),
        (None, None, None, &user_id),
    ]
    .into_iter()
    .enumerate()
    {
        let record = gateway.record("k");
        let (id, revision) = (record["id"].as_str().unwrap(), record["revision"].as_str().unwrap());
        let mut command = onceward(place.folder());
        command.args(["keys", "remove", id, "--revision", revision, "--admin", &admin]);
        command.args(flag.iter().flat_map(|it| ["--operator", it]));
        command.envs(user.map(|it| ("USER", it))).envs(sudo.map(|it| ("SUDO_USER", it)));
        run(command.env("ONCEWARD_ADMIN_TOKEN", &token));
        let lines = gateway.process.until_lines("onceward::audit", at + 1);
        assert_eq!(lines[at]["operator"], expected);
    }
    let mut command = onceward(place.folder());
    command.args(["keys", "remove", "x", "--revision", "1", "--operator", "a\nb", "--admin", &admin]);
    run(command.env("ONCEWARD_ADMIN_TOKEN", &token)).with_code(2);
}

fn texts(lines: &[Value], field: &str) -> Vec<String> {
    lines.iter().map(|it| it[field].as_str().unwrap_or("?").to_owned()).collect()
}

#[test]
fn each_request_is_one_line_and_each_duplicate_is_audited() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = place.start();
    let outcomes = busy_session(&gateway, &upstream);
    let access = gateway.process.until_lines("onceward::access", outcomes.len());
    assert_eq!(texts(&access, "outcome"), outcomes);
    for line in &access {
        for field in ["timestamp", "method", "path", "version", "peer", "status", "duration_us"] {
            assert!(!line[field].is_null(), "{field} is missing: {line}");
        }
        assert_eq!(
            line["record"].is_null(),
            matches!(line["outcome"].as_str(), Some("refused" | "pass_through"))
        );
    }
    assert_eq!(access[0]["attempt"], 1);
    assert_eq!(access[0]["path"], "/payments");
    assert_eq!(access[0]["record"], access[1]["record"], "a repeat has the record of its first run");
    let duplicate = ["replay", "mismatch", "unresolved", "not_kept", "busy"];
    let expected: Vec<_> = outcomes.into_iter().filter(|it| duplicate.contains(it)).collect();
    let audit = gateway.process.until_lines("onceward::audit", expected.len());
    assert_eq!(texts(&audit, "outcome"), expected);
    assert!(audit.iter().all(|it| it["record"].is_string() && it["peer"].is_string()), "{audit:?}");
}

#[test]
fn a_request_whose_client_has_left_is_a_line_too() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = place.start();
    let stream = pay("k").with("Test-Hold", "after").open(gateway.address).unwrap();
    upstream.until_effects("k", 1);
    drop(stream);
    let access = gateway.process.until_lines("onceward::access", 1);
    assert_eq!(access[0]["outcome"], "unanswered");
    assert_eq!((&access[0]["method"], &access[0]["path"]), (&"POST".into(), &"/payments".into()));
    assert!(access[0]["status"].is_null());
    upstream.open();
    gateway.until_state("k", "done");
    assert!(gateway.ask(&pay("k")).is_replay());
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = place.command();
    let child = command.stderr(writer.try_clone().unwrap()).stdout(writer).spawn().unwrap();
    let mut child = Process::of(child, place.folder());
    drop(command);
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    let ready = lines.find(|it| it.contains("the gateway is ready")).unwrap();
    drop(lines);
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let address = ready["listen"].as_str().unwrap().parse().unwrap();
    let first = pay("k").send(address).unwrap();
    first.assert_first();
    pay("k").send(address).unwrap().assert_replay_of(&first);
    child.signal(Signal::TERM);
    assert_eq!(child.exit_code(), 0);
}

#[test]
fn no_key_body_query_or_credential_is_in_the_log_or_in_the_metrics() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut gateway = place.start();
    let outcomes = busy_session(&gateway, &upstream);
    // Operators look and change, too, some with a wrong token.
    let admin_token = gateway.token();
    let admin = format!("http://{}", gateway.admin);
    let record = gateway.record("key-Zx81-c");
    let (id, revision) = (record["id"].as_str().unwrap(), record["revision"].as_str().unwrap());
    for (token, code) in [("token-Ty54-wrong-one", 5), (admin_token.as_str(), 0)] {
        let list = ["keys", "list", "--key", "key-Zx81-c", "--admin", &admin];
        run(onceward(place.folder()).args(list).env("ONCEWARD_ADMIN_TOKEN", token)).with_code(code);
        let resolve =
            ["keys", "resolve", id, "--revision", revision, "--status", "200", "--body", "answer-Ui45"];
        let mut resolve: Vec<_> = resolve.into();
        resolve.extend(["--admin", &admin]);
        run(onceward(place.folder()).args(resolve).env("ONCEWARD_ADMIN_TOKEN", token)).with_code(code);
    }
    assert_eq!(gateway.ask(&secret_pay("c")).text(), "answer-Ui45");
    let metrics = gateway.page("/metrics").text();
    gateway.process.until_lines("onceward::access", outcomes.len() + 1);
    assert_eq!(gateway.stop(), 0);
    let log = gateway.process.log() + &gateway.process.errors();
    for secret in SECRETS.into_iter().chain([admin_token.as_str()]) {
        assert!(!metrics.contains(secret), "{secret} is in the metrics");
        let line = log.lines().find(|it| it.contains(secret));
        assert!(line.is_none(), "{secret} is in the log: {line:?}");
    }
}
