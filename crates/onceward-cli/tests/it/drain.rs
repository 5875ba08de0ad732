//! SIGTERM and SIGINT: what is finished, what is left, and what the exit code says.

use std::net::TcpStream;

use rustix::process::Signal;

use crate::client::{get, pay};
use crate::process::Place;
use crate::upstream::Upstream;
use crate::wait::until_true;

#[test]
fn an_idle_gateway_ends_at_once_and_leaves_its_store_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let upstream = Upstream::start();
        let place = Place::before(&upstream.url()).with("drain_delay", "10m").with("drain", "10m");
        let mut gateway = place.start();
        gateway.ask(&pay("k")).assert_first();
        assert!(place.records().join("IN-USE").exists());
        gateway.process.signal(signal);
        assert_eq!(gateway.process.exit_code(), 0, "{}", gateway.process.log());
        assert!(!place.records().join("IN-USE").exists(), "the store was not closed");
        gateway.process.until_says("stopped: everything finished and is stored");
    }
}

#[test]
fn connections_without_a_request_hold_nothing_up() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("drain", "10m");
    let mut gateway = place.start();
    let unused = TcpStream::connect(gateway.address).unwrap();
    // The gateway has taken it by the time that it answers a later one.
    gateway.ask(&pay("k")).assert_first();
    assert_eq!(gateway.stop(), 0);
    drop(unused);
}

#[test]
fn during_drain_delay_it_is_not_ready_and_serves_who_comes() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("drain_delay", "10m").with("drain", "10m");
    let mut gateway = place.start();
    assert_eq!(gateway.page("/readyz").status, 200);
    let caller = pay("k").with("Test-Hold", "after").send_meanwhile(gateway.address);
    upstream.until_effects("k", 1);
    gateway.process.signal(Signal::TERM);
    until_true("it is not ready", || gateway.page("/readyz").status == 503);
    assert_eq!(gateway.page("/readyz").json()["draining"], true);
    assert_eq!(gateway.page("/healthz").status, 200);
    gateway.ask(&pay("later")).assert_first();
    gateway.ask(&pay("k")).assert_problem(409, "in-progress");
    assert!(gateway.process.is_running());
    // The delay ends early once nobody is connected.
    upstream.open();
    let first = caller.join().unwrap().unwrap();
    assert_eq!(gateway.process.exit_code(), 0);
    first.assert_first();
    place.start().ask(&pay("k")).assert_replay_of(&first);
    assert_eq!(upstream.effects("k").len(), 1);
}

#[test]
fn an_operation_that_ends_in_time_is_answered_and_stored() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("drain", "10m");
    let mut gateway = place.start();
    let caller = pay("k").with("Test-Hold", "before").send_meanwhile(gateway.address);
    upstream.until_arrived("k", 1);
    gateway.process.signal(Signal::TERM);
    until_true("nobody else is let in", || TcpStream::connect(gateway.address).is_err());
    assert_eq!(gateway.page("/readyz").status, 503);
    assert_eq!(gateway.page("/healthz").status, 200);
    assert!(gateway.process.is_running());
    upstream.open();
    let first = caller.join().unwrap().unwrap();
    assert_eq!(gateway.process.exit_code(), 0);
    first.assert_first();
    place.start().ask(&pay("k")).assert_replay_of(&first);
    assert_eq!(upstream.effects("k").len(), 1);
}

#[test]
fn an_operation_whose_client_has_left_is_waited_for() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("drain", "10m");
    let mut gateway = place.start();
    let ask = pay("k").with("Test-Hold", "before");
    let stream = ask.open(gateway.address).unwrap();
    upstream.until_arrived("k", 1);
    drop(stream);
    gateway.process.signal(Signal::TERM);
    until_true("nobody is let in", || TcpStream::connect(gateway.address).is_err());
    assert!(gateway.process.is_running());
    upstream.open();
    assert_eq!(gateway.process.exit_code(), 0);
    let replay = place.start().ask(&pay("k"));
    assert_eq!((replay.status, replay.is_replay()), (201, true));
    assert_eq!(upstream.effects("k").len(), 1);
}

#[test]
fn an_operation_that_does_not_end_in_time_is_unresolved_at_once() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("drain", "1s");
    let place = place.with("policy.lease", "1h").with("policy.run_max", "2h");
    let mut gateway = place.start();
    let caller = pay("k").with("Test-Hold", "before").send_meanwhile(gateway.address);
    upstream.until_arrived("k", 1);
    assert_eq!(gateway.stop(), 3);
    caller.join().unwrap().unwrap().assert_problem(504, "outcome-unresolved");
    let said = gateway.process.until_says("stopped with operations under way");
    assert_eq!(said["operations"], 1);
    // The lease would last for an hour.
    let gateway = place.start();
    gateway.ask(&pay("k")).assert_problem(409, "unresolved");
    assert_eq!(gateway.record("k")["reason"], "the server was stopped while it ran");
    assert_eq!(upstream.effects("k").len(), 0);
}

#[test]
fn a_stream_that_does_not_end_in_time_is_no_operation() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("drain", "1s");
    let mut gateway = place.start();
    let reading = get("/events").with("Test-Hold", "before").send_meanwhile(gateway.address);
    upstream.until_arrived("", 1);
    assert_eq!(gateway.stop(), 0);
    assert!(reading.join().unwrap().is_err());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("drain", "10m");
    let place = place.with("policy.lease", "1h").with("policy.run_max", "2h");
    let mut gateway = place.start();
    let caller = pay("k").with("Test-Hold", "before").send_meanwhile(gateway.address);
    upstream.until_arrived("k", 1);
    gateway.process.signal(Signal::TERM);
    gateway.process.until_says("stopping; a second signal stops at once");
    assert!(gateway.process.is_running());
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.exit_code(), 3);
    assert_eq!(gateway.process.errors(), "onceward: stopped at once by a second signal\n");
    assert!(caller.join().unwrap().is_err());
    // As after a kill: the claim stands until its lease is over.
    place.start().ask(&pay("k")).assert_problem(409, "in-progress");
}
