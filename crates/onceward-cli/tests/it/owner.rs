//! Two gateways and one store directory.

use crate::client::pay;
use crate::process::{Place, onceward, run};
use crate::snapshot::{assert_snapshot, without_number_after};
use crate::upstream::Upstream;
use rustix::process::Signal;

#[test]
fn a_second_gateway_on_the_same_directory_gives_up_with_a_clear_message() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with_store("embedded:records?lock_wait=300ms");
    let gateway = place.start();
    let ended = run(&mut place.command()).with_code(4);
    assert_eq!(ended.stdout, "");
    assert_snapshot("directory-in-use.txt", &without_number_after("process ", &ended.stderr));
    gateway.ask(&pay("k")).assert_first();
}

#[test]
fn a_second_gateway_takes_over_when_the_first_leaves_in_time() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut first = place.start();
    // At the same addresses, too, as in a rolling restart.
    let mut command = onceward(place.folder());
    command.args(["gateway", "--upstream", &upstream.url(), "--store", "embedded:records"]);
    command.args(["--listen", &first.address.to_string(), "--admin", &first.admin.to_string()]);
    let mut second = place.begin_command(&mut command);
    second.until_says("waiting for the store");
    let answer = first.ask(&pay("k"));
    answer.assert_first();
    assert!(second.is_running());
    assert!(!second.log().contains("the gateway is ready"));
    assert_eq!(first.stop(), 0);
    let second = second.ready();
    assert_eq!(second.address, first.address);
    second.ask(&pay("k")).assert_replay_of(&answer);
    assert_eq!(upstream.effects("k").len(), 1);
}

#[test]
fn a_gateway_that_waits_for_its_directory_can_be_stopped() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with_store("embedded:records?lock_wait=10m");
    let first = place.start();
    let mut second = place.begin();
    second.until_says("waiting for the store");
    second.signal(Signal::TERM);
    assert_eq!(second.exit_code(), 0);
    first.ask(&pay("k")).assert_first();
}
