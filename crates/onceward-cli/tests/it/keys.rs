//! `onceward keys` against a running gateway.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::client::pay;
use crate::process::{Ended, Gateway, Place, onceward, run, run_as_it_is};
use crate::snapshot::{assert_snapshot, without_number_after};
use crate::upstream::Upstream;

fn command(gateway: &Gateway, arguments: &[&str]) -> Command {
    let mut command = onceward(gateway.token_file.parent().unwrap());
    command.arg("keys").args(arguments).args(["--admin", &format!("http://{}", gateway.admin)]);
    command
}

fn keys(gateway: &Gateway, arguments: &[&str]) -> Ended {
    let token_file = gateway.token_file.to_str().unwrap();
    run(command(gateway, arguments).args(["--token-file", token_file]))
}

fn json(gateway: &Gateway, arguments: &[&str]) -> Value {
    let ended = keys(gateway, &[arguments, &["--json"]].concat()).with_code(0);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// The keys on a page, sorted.
fn keys_of(page: &Value) -> Vec<&str> {
    let mut keys: Vec<_> =
        page["records"].as_array().unwrap().iter().map(|it| it["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    keys
}

/// The id and the revision of the only record with this key.
fn id_and_revision(gateway: &Gateway, key: &str) -> (String, String) {
    let record = gateway.record(key);
    let text = |name: &str| record[name].as_str().unwrap().to_owned();
    (text("id"), text("revision"))
}

/// A gateway whose upstream cut the connection after the effect of this key.
fn unresolved(upstream: &Upstream, place: &Place, key: &str) -> Gateway {
    let gateway = place.start();
    gateway.ask(&pay(key).with("Test-Cut", "yes")).assert_problem(504, "outcome-unresolved");
    gateway.ask(&pay(key)).assert_problem(409, "unresolved");
    assert_eq!(upstream.effects(key).len(), 1);
    gateway
}

/// Leaves of a table only what is the same each time.
fn masked(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| {
            let is_hex = |min| word.len() >= min && word.bytes().all(|it| it.is_ascii_hexdigit());
            let is_time = word.len() == 24 && word.ends_with('Z');
            let is_seconds = word.contains('.') && word.parse::<f64>().is_ok_and(|it| it > 100.0);
            // Columns stay where they are.
            let mark = if is_time {
                'T'
            } else if is_seconds {
                'S'
            } else if is_hex(16) {
                '#'
            } else {
                return word.into();
            };
            if is_seconds { mark.to_string() } else { mark.to_string().repeat(word.len()) }
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.map(|it| it + "\n").collect()
}

#[test]
fn a_listing_can_be_narrowed_and_paged() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = unresolved(&upstream, &place, "k-unresolved");
    gateway.ask(&pay("k-done")).assert_first();
    let mut elsewhere = crate::client::Ask::new("PATCH", "/orders/7").with("Idempotency-Key", "k-elsewhere");
    elsewhere = elsewhere.with("Authorization", "Bearer of-somebody").body("{}");
    gateway.ask(&elsewhere).assert_first();
    assert_eq!(gateway.ask(&pay("k-released").with("Test-Status", "429")).status, 429);
    let caller = pay("k-running").with("Test-Hold", "after").send_meanwhile(gateway.address);
    upstream.until_effects("k-running", 1);

    let all = ["k-done", "k-elsewhere", "k-released", "k-running", "k-unresolved"];
    let principal = gateway.record("k-elsewhere")["principal"].as_str().unwrap().to_owned();
    assert_ne!(principal, "anonymous");
    let cases: [(&[&str], &[&str]); 10] = [
        (&[], &all),
        (&["--state", "done"], &["k-done", "k-elsewhere"]),
        (&["--state", "running"], &["k-running"]),
        (&["--state", "unresolved"], &["k-unresolved"]),
        (&["--state", "released"], &["k-released"]),
        (&["--method", "PATCH"], &["k-elsewhere"]),
        (&["--path", "/orders/7"], &["k-elsewhere"]),
        (&["--key", "k-done"], &["k-done"]),
        (&["--principal", &principal], &["k-elsewhere"]),
        (&["--older-than", "1h"], &[]),
    ];
    for (narrowed, expected) in cases {
        let page = json(&gateway, &[&["list"], narrowed].concat());
        assert_eq!(keys_of(&page), expected, "{narrowed:?}");
    }

    let mut seen = Vec::new();
    let mut page = json(&gateway, &["list", "--limit", "2"]);
    while let Some(cursor) = page["next"].as_str().map(str::to_owned) {
        seen.extend(keys_of(&page).into_iter().map(str::to_owned));
        page = json(&gateway, &["list", "--limit", "2", "--cursor", &cursor]);
    }
    seen.extend(keys_of(&page).into_iter().map(str::to_owned));
    seen.sort_unstable();
    assert_eq!(seen, all);

    let ended = keys(&gateway, &["list", "--state", "nonsense"]).with_code(2);
    assert!(ended.stderr.contains("running, unresolved"), "{}", ended.stderr);
    upstream.open();
    caller.join().unwrap().unwrap().assert_first();
}

#[test]
fn tables_are_for_people() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = unresolved(&upstream, &place, "order-1");
    gateway.ask(&pay("order-2")).assert_first();
    let listed = keys(&gateway, &["list", "--state", "unresolved"]).with_code(0).stdout;
    let mut told = masked(&listed);
    told.push_str(&masked(&keys(&gateway, &["list", "--key", "nobody's"]).with_code(0).stdout));
    for key in ["order-1", "order-2"] {
        told.push('\n');
        let (id, _) = id_and_revision(&gateway, key);
        told.push_str(&masked(&keys(&gateway, &["show", &id]).with_code(0).stdout));
        let shown = json(&gateway, &["show", &id]);
        assert_eq!((&shown["id"], &shown["key"]), (&id.into(), &key.into()));
    }
    assert_snapshot("keys-tables.txt", &told);
}

#[test]
fn a_resolved_operation_replays_the_answer_it_was_given() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = unresolved(&upstream, &place, "k");
    let (id, revision) = id_and_revision(&gateway, "k");
    let body = "{ \"id\": \"pay_1\",\n  \"note\": \"süß\" }\n";
    fs::write(gateway.token_file.with_file_name("answer.json"), body).unwrap();
    let resolve = ["resolve", &id, "--revision", &revision, "--status", "201", "--body", "@answer.json"];
    let headers = ["--header", "content-type: application/json", "--header", "Location: /payments/pay_1"];
    let shown = json(&gateway, &[&resolve[..], &headers].concat());
    assert_eq!(shown["state"], "done");
    for _ in 0..2 {
        let replay = gateway.ask(&pay("k"));
        assert_eq!((replay.status, replay.is_replay(), replay.text().as_str()), (201, true, body));
        assert_eq!(replay.header("location"), Some("/payments/pay_1"));
        assert_eq!(replay.header("content-type"), Some("application/json"));
    }
    // A final answer stands.
    let (id, revision) = id_and_revision(&gateway, "k");
    keys(&gateway, &["resolve", &id, "--revision", &revision, "--rerun"]).with_code(1);
    assert_eq!(upstream.effects("k").len(), 1);
    // And it outlives the process.
    gateway.kill();
    assert_eq!(place.start().ask(&pay("k")).text(), body);
}

#[test]
fn an_operation_resolved_as_not_done_runs_again() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = unresolved(&upstream, &place, "k");
    let (id, revision) = id_and_revision(&gateway, "k");
    keys(&gateway, &["resolve", &id, "--revision", &revision, "--rerun"]).with_code(0);
    let first = gateway.ask(&pay("k"));
    first.assert_first();
    gateway.ask(&pay("k")).assert_replay_of(&first);
    let effects = upstream.effects("k");
    assert_eq!(effects.len(), 2);
    assert!(effects[0].fence < effects[1].fence, "{effects:?}");
}

#[test]
fn a_removed_record_lets_the_operation_run_again() {
    let upstream = Upstream::start();
    let gateway = Place::before(&upstream.url());
    let gateway = gateway.start();
    gateway.ask(&pay("k")).assert_first();
    let (id, revision) = id_and_revision(&gateway, "k");
    keys(&gateway, &["remove", &id, "--revision", &revision]).with_code(0);
    let first = gateway.ask(&pay("k"));
    first.assert_first();
    gateway.ask(&pay("k")).assert_replay_of(&first);
    let effects = upstream.effects("k");
    assert_eq!(effects.len(), 2);
    assert!(effects[0].fence < effects[1].fence, "{effects:?}");
}

#[test]
fn a_running_operation_is_only_overruled_with_a_reason() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("policy.lease", "2s");
    let gateway = place.start();
    for (key, change) in [("k-1", &["resolve", "--rerun"][..]), ("k-2", &["remove"])] {
        let caller = pay(key).with("Test-Hold", "before").send_meanwhile(gateway.address);
        upstream.until_arrived(key, 1);
        // A renewal may change the revision between the look and the change.
        let ended = crate::wait::until("the change meets the revision that was shown", || {
            let (id, revision) = id_and_revision(&gateway, key);
            let arguments = [change, &[&id, "--revision", &revision]].concat();
            let ended = keys(&gateway, &arguments).with_code(1);
            (!ended.stderr.contains("It is not at the revision")).then_some(ended)
        });
        assert!(ended.stderr.contains("Wait until the lease has ended"), "{}", ended.stderr);
        gateway.ask(&pay(key)).assert_problem(409, "in-progress");
        crate::wait::until_true("the change is forced", || {
            let (id, revision) = id_and_revision(&gateway, key);
            let forced = ["--revision", &revision, "--force", "the bank says no"];
            keys(&gateway, &[change, &[&id], &forced].concat()).code == Some(0)
        });
        let first = gateway.ask(&pay(key));
        first.assert_first();
        // The one that lost its permit hears of it when it renews.
        caller.join().unwrap().unwrap().assert_problem(504, "outcome-unresolved");
        gateway.ask(&pay(key)).assert_replay_of(&first);
        assert_eq!(upstream.effects(key).len(), 1);
        let audit = gateway.process.lines();
        let forced = |it: &&Value| it["forced"] == "the bank says no" && it["outcome"] == "done";
        let action = change[0];
        assert!(audit.iter().filter(forced).any(|it| it["action"] == action), "{action} is not audited");
    }
}

#[test]
fn the_exit_code_says_why_nothing_was_changed() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = unresolved(&upstream, &place, "k");
    let (id, revision) = id_and_revision(&gateway, "k");
    let nobody = "0".repeat(64);
    fs::write(gateway.token_file.with_file_name("wrong.token"), "not-the-token-of-this-one").unwrap();
    let mut told = String::new();
    let mut check = |code: i32, mut command: Command| {
        let ended = run(&mut command).with_code(code);
        assert_eq!(ended.stdout, "");
        told.push_str(&format!("{code} {}", ended.stderr));
    };
    let with_token = |arguments: &[&str]| {
        let mut command = command(&gateway, arguments);
        command.args(["--token-file", "admin.token"]);
        command
    };
    check(1, with_token(&["show", &nobody]));
    check(1, with_token(&["remove", &nobody, "--revision", "1"]));
    check(1, with_token(&["resolve", &id, "--revision", "1", "--rerun"]));
    check(1, with_token(&["remove", &id, "--revision", "1", "--force", "because"]));
    check(2, with_token(&["show", "not-an-id"]));
    check(2, with_token(&["resolve", &id, "--revision", "x", "--rerun"]));
    check(2, with_token(&["resolve", &id, "--revision", &revision, "--status", "201", "--header", "bad"]));
    check(2, with_token(&["resolve", &id, "--revision", &revision, "--status", "201", "--body", "@missing"]));
    check(2, with_token(&["resolve", &id, "--revision", &revision, "--status", "99"]));
    check(2, with_token(&["resolve", &id, "--revision", &revision]));
    check(2, with_token(&["resolve", &id, "--revision", &revision, "--rerun", "--status", "201"]));
    check(2, command(&gateway, &["list"]));
    check(2, command(&gateway, &["list", "--token-file", "missing.token"]));
    fs::write(gateway.token_file.with_file_name("two.token"), "two words\n").unwrap();
    check(2, command(&gateway, &["list", "--token-file", "two.token"]));
    for url in ["127.0.0.1:8081", "https://127.0.0.1:8081"] {
        let mut wrong = onceward(gateway.token_file.parent().unwrap());
        wrong.args(["keys", "list", "--admin", url, "--token-file", "admin.token"]);
        check(2, wrong);
    }
    check(5, command(&gateway, &["list", "--token-file", "wrong.token"]));
    // Nobody listens on the port: it was taken and given back.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let mut down = onceward(gateway.token_file.parent().unwrap());
    down.args(["keys", "list", "--admin", &url, "--token-file", "admin.token"]);
    check(5, down);
    let told = without_number_after("at revision ", &told);
    assert_snapshot("keys-refusals.txt", &without_number_after("127.0.0.1:", &told));
    assert_eq!(id_and_revision(&gateway, "k"), (id, revision), "something was changed");
}

#[test]
fn the_token_is_taken_from_the_named_file_else_from_the_variable_else_from_the_default_file() {
    let upstream = Upstream::start();
    let gateway = Place::before(&upstream.url());
    let gateway = gateway.start();
    let mode = fs::metadata(&gateway.token_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = gateway.token();
    run(command(&gateway, &["list"]).env("ONCEWARD_ADMIN_TOKEN", &token)).with_code(0);
    run(command(&gateway, &["list"]).env("ONCEWARD_ADMIN_TOKEN", format!(" {token}\n"))).with_code(0);
    run(command(&gateway, &["list"]).env("ONCEWARD_ADMIN_TOKEN", "wrong-wrong-wrong")).with_code(5);
    let named = ["list", "--token-file", "admin.token"];
    run(command(&gateway, &named).env("ONCEWARD_ADMIN_TOKEN", "wrong-wrong-wrong")).with_code(0);
    let folder = gateway.token_file.parent().unwrap();
    fs::create_dir(folder.join("onceward-data")).unwrap();
    fs::copy(&gateway.token_file, folder.join("onceward-data/admin.token")).unwrap();
    run(&mut command(&gateway, &["list"])).with_code(0);
}

#[test]
fn a_reader_that_has_left_is_no_failure() {
    let place = Place::before("http://127.0.0.1:9");
    let gateway = place.start();
    for output in [&["list"][..], &["list", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(&gateway, output);
        let child = command.args(["--token-file", "admin.token"]).stdout(writer);
        let ended = run_as_it_is(child.stderr(std::process::Stdio::piped()));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_token_stays_the_same_over_restarts() {
    let place = Place::before("http://127.0.0.1:9");
    let mut gateway = place.start();
    let token = gateway.token();
    assert_eq!(gateway.stop(), 0);
    assert_eq!(place.start().token(), token);
}
