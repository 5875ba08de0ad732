//! `onceward doctor`: what it finds, what it asks, and how it ends.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::pay;
use crate::process::{Ended, Place, onceward, run};
use crate::snapshot::{assert_snapshot, masked_after, without_number_after};
use crate::upstream::Upstream;

/// A file whose findings are the same on every machine, as far as that can be.
const FILE: &str = "store = \"embedded:./records\"\ndrain = \"60s\"\ndrain_delay = \"0\"\n\
    [upstream]\nurls = [\"http://127.0.0.1:9\"]\n[limits]\nconnections = 10\n\
    [policy]\nkey = \"required\"\nretry_window = \"24h\"\n";

struct Bench(TempDir);

impl Bench {
    /// A folder that holds `gateway.toml`.
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        Self(folder)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = onceward(self.0.path());
        command.args(["doctor", "--config", "gateway.toml"]).args(arguments);
        command
    }

    fn doctor(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    fn findings(&self, arguments: &[&str], code: i32) -> Vec<Value> {
        let ended = self.doctor(&[arguments, &["--json"]].concat()).with_code(code);
        findings(&ended)
    }

    /// What is said, without what differs from machine to machine.
    fn masked(&self, text: &str) -> String {
        let folder = self.0.path().canonicalize().unwrap();
        let text = text.replace(folder.to_str().unwrap(), "FOLDER");
        let is_word = |it: char| it.is_ascii_alphanumeric();
        let text = masked_after("the store is on ", &text, is_word);
        let text = masked_after("twice for upkeep); ", &text, is_word);
        masked_after("may open ", &text, is_word)
    }
}

fn findings(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.stderr, "");
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    told["findings"].as_array().unwrap().clone()
}

/// The level of the only finding of this check.
fn level<'a>(findings: &'a [Value], check: &str) -> &'a str {
    let mut of: Vec<_> = findings.iter().filter(|it| it["check"] == check).collect();
    assert_eq!(of.len(), 1, "{check}: {findings:#?}");
    of.pop().unwrap()["level"].as_str().unwrap()
}

#[test]
fn findings_are_grouped_with_remedies_and_counted() {
    let bench = Bench::with(&format!("{FILE}retention = \"1h\"\nunresolved = \"rerun\"\n"));
    let ended = bench.doctor(&["--offline", "--rate", "1/h"]).with_code(0);
    assert_snapshot("doctor.txt", &bench.masked(&ended.stdout));
    assert!(!bench.0.path().join("records").exists(), "looking made a store");
}

#[test]
fn only_an_error_is_exit_code_1_unless_it_is_strict() {
    let bench = Bench::with(FILE);
    bench.doctor(&["--offline"]).with_code(0);
    bench.doctor(&["--offline", "--strict"]).with_code(0);
    let bench = Bench::with(&format!("{FILE}fail_open = true\n"));
    bench.doctor(&["--offline"]).with_code(0);
    bench.doctor(&["--offline", "--strict"]).with_code(1);
    let bench = Bench::with(&format!("{FILE}retention = \"1h\"\ntombstone = \"1h\"\n"));
    let ended = bench.doctor(&["--offline"]).with_code(1);
    assert!(ended.stdout.ends_with(" fine\n") && ended.stdout.contains("\n1 error, "), "{}", ended.stdout);
}

#[test]
fn settings_that_cannot_be_used_are_findings_and_wrong_flags_are_not() {
    let bench = Bench::with("listen = 1\n[policy]\nleese = \"1s\"\n");
    let found = bench.findings(&[], 1);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|it| it["check"] == "settings-valid" && it["level"] == "error"), "{found:#?}");
    assert_eq!(found[1]["setting"], "policy.leese");
    let bench = Bench::with(FILE);
    for wrong in
        [["--listen", "nowhere"], ["--rate", "5"], ["--store", "embedded:x?cache=1"], ["--nonsense", "x"]]
    {
        let ended = bench.doctor(&wrong).with_code(2);
        assert_eq!(ended.stdout, "", "{wrong:?}");
    }
    run(onceward(bench.0.path()).args(["doctor", "--config", "missing.toml"])).with_code(2);
    // Without an upstream the rest is looked at all the same.
    let ended = run(onceward(bench.0.path()).args(["doctor", "--json", "--offline"])).with_code(1);
    let found = findings(&ended);
    assert_eq!(found[0]["setting"], "upstream.urls");
    assert_eq!(level(&found, "exposure-admin"), "ok");
}

#[test]
fn upstreams_are_reached_unless_it_is_offline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bench = Bench::with(FILE);
    assert_eq!(level(&bench.findings(&["--upstream", &url], 0), "upstream-reachable"), "ok");
    drop(listener);
    assert_eq!(level(&bench.findings(&["--upstream", &url], 1), "upstream-reachable"), "error");
    assert_eq!(level(&bench.findings(&["--upstream", &url, "--offline"], 0), "upstream-reachable"), "notice");
}

#[test]
fn a_closed_store_is_counted_and_left_as_it_was() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut gateway = place.start();
    let first = gateway.ask(&pay("k-done"));
    first.assert_first();
    gateway.ask(&pay("k-cut").with("Test-Cut", "yes")).assert_problem(504, "outcome-unresolved");
    let doctor = |code| {
        let mut command = onceward(place.folder());
        command.args(["doctor", "--upstream", &upstream.url(), "--store", "embedded:records", "--json"]);
        findings(&run(&mut command).with_code(code))
    };
    assert_eq!(gateway.stop(), 0);
    for _ in 0..2 {
        let found = doctor(0);
        assert_eq!((level(&found, "store-open"), level(&found, "store-damage")), ("ok", "ok"));
        assert_eq!(level(&found, "store-unresolved"), "notice");
        let damage = found.iter().find(|it| it["check"] == "store-damage").unwrap();
        assert_eq!(damage["says"], "1 answer and 0 tombstones are readable");
        assert!(!found.iter().any(|it| it["check"] == "store-closed"), "{found:#?}");
    }
    let gateway = place.start();
    gateway.ask(&pay("k-done")).assert_replay_of(&first);
    gateway.ask(&pay("k-cut")).assert_problem(409, "unresolved");
    gateway.kill();
    let found = doctor(0);
    assert_eq!(level(&found, "store-closed"), "notice");
    place.start().ask(&pay("k-done")).assert_replay_of(&first);
}

#[test]
fn a_damaged_store_is_an_error() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut gateway = place.start();
    gateway.ask(&pay("k")).assert_first();
    assert_eq!(gateway.stop(), 0);
    fs::write(place.records().join("FORMAT"), "onceward embedded store, layout 9\n").unwrap();
    let mut command = onceward(place.folder());
    command.args(["doctor", "--upstream", &upstream.url(), "--store", "embedded:records", "--json"]);
    let found = findings(&run(&mut command).with_code(1));
    assert_eq!(level(&found, "store-open"), "error");
}

#[test]
fn the_gateway_that_has_the_store_is_asked() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let gateway = place.start();
    let admin = gateway.admin.to_string();
    let doctor = |more: &[&str]| {
        let mut command = onceward(place.folder());
        command.args(["doctor", "--store", "embedded:records", "--upstream", "http://127.0.0.1:9", "--json"]);
        run(command.args(["--admin", &admin]).args(more))
    };
    let found = findings(&doctor(&[]).with_code(0));
    let says = found[0]["says"].as_str().unwrap();
    assert_eq!(level(&found, "gateway-asked"), "ok");
    assert!(says.contains("in use by process ") && says.contains("(onceward)"), "{says}");
    assert!(says.contains(&admin), "{says}");
    // With a wrong token, and where nobody listens, that is said.
    fs::write(place.folder().join("wrong.token"), "0123456789abcdef").unwrap();
    let ended = doctor(&["--token-file", "wrong.token"]).with_code(5);
    assert!(ended.stderr.contains("in use by process ") && ended.stderr.contains("401"), "{}", ended.stderr);
    let mut command = onceward(place.folder());
    command.args([
        "doctor",
        "--store",
        "embedded:records",
        "--upstream",
        "http://127.0.0.1:9",
        "--admin",
        "127.0.0.1:9",
    ]);
    let said = without_number_after("process ", &run(&mut command).with_code(5).stderr);
    assert_snapshot("doctor-nobody-to-ask.txt", &said);
}
