//! Operations that take longer than their lease, and gateways that stand still for longer.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::client::pay;
use crate::process::Place;
use crate::upstream::Upstream;
use crate::wait::{until, until_true};

fn time(text: &serde_json::Value) -> SystemTime {
    humantime::parse_rfc3339(text.as_str().unwrap()).unwrap()
}

#[test]
fn work_that_outlives_its_lease_runs_once() {
    let upstream = Upstream::start();
    let gateway = Place::before(&upstream.url()).with("policy.lease", "1s");
    let gateway = gateway.start();
    let caller = pay("k").with("Test-Hold", "after").send_meanwhile(gateway.address);
    upstream.until_effects("k", 1);
    let first_lease_until = time(&gateway.record("k")["lease_until"]);
    // The store's own clock says that the first lease is over.
    let renewed = until("the first lease is over", || {
        gateway.ask(&pay("k")).assert_problem(409, "in-progress");
        Some(gateway.record("k")).filter(|it| time(&it["updated"]) > first_lease_until)
    });
    assert_eq!((&renewed["state"], &renewed["attempt"]), (&"running".into(), &1.into()));
    upstream.open();
    let first = caller.join().unwrap().unwrap();
    first.assert_first();
    gateway.ask(&pay("k")).assert_replay_of(&first);
    assert_eq!(upstream.effects("k").len(), 1);
}

#[test]
fn a_gateway_that_stood_still_past_the_lease_may_complete_what_nobody_touched() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with("policy.lease", "1s");
    let gateway = place.start();
    let caller = pay("k").with("Test-Hold", "before").send_meanwhile(gateway.address);
    upstream.until_arrived("k", 1);
    gateway.process.freeze();
    upstream.open();
    upstream.until_effects("k", 1);
    // A renewal may have landed just before, and no lease lasts longer than one second from here.
    let over = now() + Duration::from_secs(1);
    until_true("the lease is long over", || now() > over + Duration::from_millis(100));
    gateway.process.signal(Signal::CONT);
    let first = caller.join().unwrap().unwrap();
    first.assert_first();
    let record = gateway.record("k");
    assert_eq!(record["state"], "done");
    assert!(time(&record["updated"]) > over, "it was completed before the lease was over: {record}");
    gateway.ask(&pay("k")).assert_replay_of(&first);
    assert_eq!(upstream.effects("k").len(), 1);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the store's clock is the system's, and its process stands still"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
