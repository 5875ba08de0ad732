//! SIGHUP to a running gateway.

use std::fs;

use rustix::process::Signal;

use crate::client::{Ask, pay};
use crate::process::{Gateway, Place};
use crate::upstream::Upstream;
use crate::wait::until_true;

const TAKEN_UP: &str = "the settings were read again";
const REFUSED: &str = "the settings were not taken up; the old ones stay";

fn write(place: &Place, text: &str) {
    fs::write(place.folder().join("gateway.toml"), text).unwrap();
}

fn says(gateway: &Gateway, message: &str) -> usize {
    gateway.process.lines().iter().filter(|it| it["message"] == message).count()
}

/// Sends SIGHUP and waits until `message` is logged once more.
fn hang_up(gateway: &mut Gateway, message: &str) -> serde_json::Value {
    let before = says(gateway, message);
    gateway.process.signal(Signal::HUP);
    until_true("the message is logged", || {
        assert!(gateway.process.is_running(), "SIGHUP ended it: {}", gateway.process.errors());
        says(gateway, message) > before
    });
    let mut lines = gateway.process.lines();
    lines.retain(|it| it["message"] == message);
    lines.pop().unwrap()
}

fn without_key() -> Ask {
    Ask::new("POST", "/payments").body("{}")
}

#[test]
fn sighup_takes_up_a_changed_file() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    write(&place, "");
    let mut gateway = place.start_with(&["--config", "gateway.toml"]);
    let first = gateway.ask(&pay("k"));
    first.assert_first();
    gateway.ask(&without_key()).assert_first();
    write(&place, "[policy]\nkey = \"required\"\nlease = \"11s\"\n");
    let line = hang_up(&mut gateway, TAKEN_UP);
    assert_eq!((&line["changed"], &line["level"]), (&"policy.key policy.lease".into(), &"INFO".into()));
    gateway.ask(&without_key()).assert_problem(400, "key-missing");
    gateway.ask(&pay("k")).assert_replay_of(&first);
    assert!(gateway.page("/metrics").text().contains("\nonceward_reloads_total{result=\"done\"} 1\n"));
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn sighup_with_a_wrong_file_changes_nothing_and_says_every_mistake() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    write(&place, "[policy]\nkey = \"required\"\n");
    let mut gateway = place.start_with(&["--config", "gateway.toml"]);
    let refused = |gateway: &mut Gateway, text: &str, named: &[&str]| {
        write(&place, text);
        let before = says(gateway, REFUSED);
        hang_up(gateway, REFUSED);
        until_true("all of them are logged", || says(gateway, REFUSED) == before + named.len());
        let lines = gateway.process.lines();
        let told: Vec<_> = lines.iter().filter(|it| it["message"] == REFUSED).skip(before).collect();
        for (line, named) in told.iter().zip(named) {
            assert_eq!(
                (line["level"].as_str(), line["setting"].as_str()),
                (Some("ERROR"), Some(*named)),
                "{told:#?}"
            );
        }
        gateway.ask(&without_key()).assert_problem(400, "key-missing");
    };
    refused(&mut gateway, "[policy]\nlease = \"soon\"\nkeyy = 1\n", &["policy.lease", "policy.keyy"]);
    // Right as such, but not for a gateway that runs.
    refused(&mut gateway, "[limits]\nstreams = 7\n", &["limits.streams"]);
    fs::remove_file(place.folder().join("gateway.toml")).unwrap();
    hang_up(&mut gateway, REFUSED);
    gateway.ask(&without_key()).assert_problem(400, "key-missing");
    assert!(gateway.page("/metrics").text().contains("\nonceward_settings_stale 1\n"));
    write(&place, "");
    hang_up(&mut gateway, TAKEN_UP);
    gateway.ask(&without_key()).assert_first();
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn sighup_without_a_file_ends_nothing() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut gateway = place.start();
    for _ in 0..2 {
        assert_eq!(hang_up(&mut gateway, TAKEN_UP)["changed"], "");
    }
    gateway.ask(&pay("k")).assert_first();
    assert_eq!(gateway.stop(), 0);
}
