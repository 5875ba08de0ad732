//! `onceward doctor`: what it finds, what it asks, and how it ends.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::pay;
use crate::process::{Ended, Place, onceward, run};
use crate::snapshot::{assert_snapshot, without_number_after};
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

    fn findings(&self, arguments: &[&str]) -> Vec<Value> {
        findings(&self.doctor(&[arguments, &["--json"]].concat()))
    }

    /// What is said, without what differs from machine to machine: the folder, its disk, the limits, the counts.
    fn masked(&self, text: &str) -> String {
        let folder = self.0.path().canonicalize().unwrap();
        let text = text.replace(folder.to_str().unwrap(), "FOLDER");
        let (before, rest) = text.split_once("\ndisk\n").unwrap();
        let (_, rest) = rest.split_once("\nretention\n").unwrap();
        let (rest, limits) = rest.split_once("\nlimits\n").unwrap();
        assert!(limits.contains("1300"), "{limits}");
        format!("{before}\nretention\n{rest}\n")
    }
}

/// Whether something is worse than a notice, on this machine whatever is asked: a disk that does not last.
fn worst(findings: &[Value]) -> usize {
    let order = ["ok", "notice", "warning", "error"];
    let level = |it: &Value| order.iter().position(|level| it["level"] == *level).unwrap();
    findings.iter().map(level).max().unwrap()
}

/// The findings of a run with `--json`. The exit code is 1 when there is an error.
fn findings(ended: &Ended) -> Vec<Value> {
    assert_eq!(ended.stderr, "");
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap().clone();
    assert_eq!(ended.code, Some(i32::from(worst(&findings) == 3)), "{findings:#?}");
    findings
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
    let ended = bench.doctor(&["--offline", "--rate", "1/h"]);
    assert_snapshot("doctor.txt", &bench.masked(&ended.stdout));
    assert!(!bench.0.path().join("records").exists(), "looking made a store");
}

#[test]
fn only_an_error_is_exit_code_1_unless_it_is_strict() {
    for (more, least) in [("", 1), ("fail_open = true\n", 2), ("retention = \"1h\"\ntombstone = \"1h\"\n", 3)]
    {
        let bench = Bench::with(&format!("{FILE}{more}"));
        // The disk of this machine may be worse.
        let worst = worst(&bench.findings(&["--offline"]));
        assert!(worst >= least, "{more}");
        bench.doctor(&["--offline"]).with_code(i32::from(worst > 2));
        bench.doctor(&["--offline", "--strict"]).with_code(i32::from(worst > 1));
    }
}

#[test]
fn settings_that_cannot_be_used_are_findings_and_wrong_flags_are_not() {
    let bench = Bench::with("listen = 1\n[policy]\nleese = \"1s\"\n");
    let found = bench.findings(&[]);
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
    let ended = run(onceward(bench.0.path()).args(["doctor", "--json", "--offline"]));
    let found = findings(&ended);
    assert_eq!(found[0]["setting"], "upstream.urls");
    assert_eq!(level(&found, "exposure-admin"), "ok");
}

#[test]
fn upstreams_are_reached_unless_it_is_offline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bench = Bench::with(FILE);
    assert_eq!(level(&bench.findings(&["--upstream", &url]), "upstream-reachable"), "ok");
    drop(listener);
    assert_eq!(level(&bench.findings(&["--upstream", &url]), "upstream-reachable"), "error");
    assert_eq!(level(&bench.findings(&["--upstream", &url, "--offline"]), "upstream-reachable"), "notice");
}

#[test]
fn a_closed_store_is_counted_and_left_as_it_was() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut gateway = place.start();
    let first = gateway.ask(&pay("k-done"));
    first.assert_first();
    gateway.ask(&pay("k-cut").with("Test-Cut", "yes")).assert_problem(504, "outcome-unresolved");
    let doctor = || {
        let mut command = onceward(place.folder());
        command.args(["doctor", "--upstream", &upstream.url(), "--store", "embedded:records", "--json"]);
        findings(&run(&mut command))
    };
    assert_eq!(gateway.stop(), 0);
    for _ in 0..2 {
        let found = doctor();
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
    let found = doctor();
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
    let found = findings(&run(&mut command));
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
    let found = findings(&doctor(&[]));
    let says = found[0]["says"].as_str().unwrap();
    assert_eq!(level(&found, "gateway-asked"), "ok");
    assert!(says.contains("in use by process ") && says.contains("(onceward)"), "{says}");
    assert!(says.contains(&admin), "{says}");
    // Its own settings count, not those of the command.
    assert_eq!(level(&found, "upstream-reachable"), "ok");
    assert_eq!(level(&found, "store-open"), "ok");
    let limits = found.iter().find(|it| it["check"] == "limits-files").unwrap();
    assert!(limits["says"].as_str().unwrap().contains("this gateway"), "{limits}");
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

/// Turns a bit of the only file of the store that holds `text`.
fn damage(place: &Place, text: &str) {
    let mut folders = vec![place.records().join("db")];
    let mut hit = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let mut bytes = fs::read(&entry).unwrap();
            while let Some(at) = bytes.windows(text.len()).position(|it| it == text.as_bytes()) {
                bytes[at] ^= 1;
                fs::write(&entry, &bytes).unwrap();
                hit += 1;
            }
        }
    }
    assert!(hit > 0, "{text} is in no file");
}

#[test]
fn a_repair_says_what_it_loses_and_does_it_only_when_told_so() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut gateway = place.start();
    let first = gateway.ask(&pay("k-kept"));
    // What goes into the tables together is one write there, and is lost together.
    assert_eq!(gateway.stop(), 0);
    gateway = place.start();
    gateway.ask(&pay("k-damaged")).assert_first();
    let doctor = |more: &[&str]| {
        let mut command = onceward(place.folder());
        let store = if more.contains(&"--store") { vec![] } else { vec!["--store", "embedded:records"] };
        run(command.args(["doctor", "--upstream", &upstream.url()]).args(store).args(more))
    };
    let ended = doctor(&["--repair", "--yes"]).with_code(4);
    assert!(ended.stderr.contains("in use by process "), "{}", ended.stderr);
    assert_eq!(gateway.stop(), 0);
    let ended = doctor(&["--repair", "--yes"]).with_code(0);
    assert!(ended.stdout.contains("nothing is damaged"), "{}", ended.stdout);

    damage(&place, "k-damaged");
    let ended = doctor(&[]).with_code(1);
    assert!(ended.stdout.contains("onceward doctor --repair"), "{}", ended.stdout);
    let ended = doctor(&["--repair"]).with_code(1);
    assert!(
        ended.stdout.contains("this would be done:") && ended.stdout.contains("loses "),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("nothing was done"), "{}", ended.stderr);
    let again = doctor(&["--repair"]).with_code(1);
    let steps = |it: &Ended| without_number_after("damaged-", &it.stdout);
    assert_eq!(steps(&ended), steps(&again), "it was done without being told so");
    let ended = doctor(&["--repair", "--yes"]).with_code(0);
    assert!(ended.stdout.contains("this was done:"), "{}", ended.stdout);
    assert!(ended.stdout.contains("RUNS AGAIN"), "{}", ended.stdout);
    let ended = doctor(&[]);
    assert!(!ended.stdout.contains("--repair"), "{}", ended.stdout);
    let gateway = place.start();
    gateway.ask(&pay("k-kept")).assert_replay_of(&first);
    // As it said: the write that claimed it was lost with the one that finished it.
    gateway.ask(&pay("k-damaged")).assert_first();

    doctor(&["--yes"]).with_code(2);
    doctor(&["--repair", "--store", "memory:"]).with_code(2);
    doctor(&["--repair", "--store", "embedded:nothing"]).with_code(2);
}
