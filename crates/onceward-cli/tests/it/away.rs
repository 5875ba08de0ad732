//! A store that cannot be opened when the gateway starts, and can be later.

use std::fs::{self, File};

use onceward_testkit::{remount, small_disk};

use crate::client::{Reply, get, pay};
use crate::process::{Gateway, Place};
use crate::upstream::Upstream;
use crate::wait::{until, until_true};

/// A store that has the answer to one operation, and is closed.
fn with_one_answer(place: &Place) -> Reply {
    let mut gateway = place.start();
    let first = gateway.ask(&pay("early"));
    first.assert_first();
    assert_eq!(gateway.stop(), 0);
    first
}

fn serves_without_store(gateway: &Gateway) {
    for key in ["early", "new"] {
        gateway.ask(&pay(key)).assert_problem(503, "store-unavailable");
    }
    let read = gateway.ask(&get("/payments/1"));
    assert_eq!(read.status, 201, "what is no operation passes: {read:?}");
    assert_eq!(gateway.page("/healthz").status, 200);
    until_true("it is not ready", || gateway.page("/readyz").status == 503);
}

/// What was refused is run now, once, and what was done before is replayed.
fn takes_the_store(gateway: &Gateway, upstream: &Upstream, early: &Reply) {
    let answer = until("the store is taken", || {
        let reply = gateway.ask(&pay("new"));
        if reply.status == 503 {
            reply.assert_problem(503, "store-unavailable");
            return None;
        }
        Some(reply)
    });
    answer.assert_first();
    gateway.ask(&pay("new")).assert_replay_of(&answer);
    gateway.ask(&pay("early")).assert_replay_of(early);
    for key in ["early", "new"] {
        assert_eq!(upstream.effects(key).len(), 1, "{key}");
    }
    until_true("it is ready", || gateway.page("/readyz").status == 200);
    gateway.process.until_says("the store is open");
}

#[test]
fn a_store_on_a_read_only_disk_is_taken_once_it_can_be_written() {
    let name = "away::a_store_on_a_read_only_disk_is_taken_once_it_can_be_written";
    let Some(disk) = small_disk(name) else { return };
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url())
        .with_store(&format!("embedded:{}", disk.join("records").display()))
        .with("admin.ready_requires_store", "true");
    let early = with_one_answer(&place);
    assert!(remount(&disk, "ro"));
    let gateway = place.start();
    gateway.process.until_says("the store is not there yet: operations are refused with 503 until it is");
    serves_without_store(&gateway);
    assert!(remount(&disk, "rw"));
    takes_the_store(&gateway, &upstream, &early);
}

#[test]
fn a_store_whose_files_come_back_is_taken_once_nobody_else_has_it() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("admin.ready_requires_store", "true");
    let early = with_one_answer(&place);
    let (file, away) = (place.records().join("db/keyspaces/1/current"), place.folder().join("away"));
    fs::rename(&file, &away).unwrap();
    let gateway = place.start();
    serves_without_store(&gateway);
    assert!(!file.exists(), "nothing is made anew in its place");
    // A repair, say, or another gateway.
    let other = File::open(place.records().join("LOCK")).unwrap();
    until_true("the directory is free between two tries", || other.try_lock().is_ok());
    fs::rename(&away, &file).unwrap();
    until("it says who has the directory", || {
        let lines = gateway.process.lines();
        lines.into_iter().find(|it| it["reason"].as_str().is_some_and(|it| it.contains("is in use by")))
    });
    serves_without_store(&gateway);
    drop(other);
    takes_the_store(&gateway, &upstream, &early);
}
