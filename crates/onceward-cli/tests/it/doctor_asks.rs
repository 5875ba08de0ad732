//! `onceward doctor` beside the gateway that has the store: what is inside is told by the gateway.

use serde_json::Value;

use crate::client::pay;
use crate::process::{Place, onceward, run};
use crate::upstream::Upstream;

fn finding<'a>(all: &'a [Value], check: &str) -> &'a Value {
    all.iter().find(|it| it["check"] == check).unwrap_or_else(|| panic!("no {check}: {all:#?}"))
}

#[test]
fn a_running_gateway_tells_what_its_store_holds() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let mut gateway = place.start();
    let admin = gateway.admin.to_string();
    let doctor = |more: &[&str]| {
        let mut command = onceward(place.folder());
        command.args(["doctor", "--store", "embedded:records", "--upstream", &upstream.url()]);
        run(command.args(["--admin", &admin]).args(more))
    };
    let told = || {
        let ended = doctor(&["--json"]);
        let told: Value = serde_json::from_str(&ended.stdout).unwrap();
        let all = told["findings"].as_array().unwrap().clone();
        // 1 for an error and for nothing else.
        let is_bad = all.iter().any(|it| it["level"] == "error");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(i32::from(is_bad)), ""), "{all:#?}");
        for check in ["gateway-asked", "store-open", "store-durability", "store-damage", "upstream-reachable"]
        {
            assert_eq!(finding(&all, check)["level"], "ok", "{all:#?}");
        }
        assert!(finding(&all, "store-open")["says"].as_str().unwrap().ends_with(" answers"), "{all:#?}");
        // What only matters where nobody has the store.
        assert!(!all.iter().any(|it| it["check"] == "store-closed"), "{all:#?}");
        all
    };
    assert_eq!(finding(&told(), "store-damage")["says"], "0 answers and 0 tombstones are readable");
    for key in ["a", "b", "c"] {
        gateway.ask(&pay(key)).assert_first();
    }
    gateway.ask(&pay("cut").with("Test-Cut", "yes")).assert_problem(504, "outcome-unresolved");
    for _ in 0..2 {
        let all = told();
        assert_eq!(finding(&all, "store-damage")["says"], "3 answers and 0 tombstones are readable");
        let unresolved = finding(&all, "store-unresolved");
        assert_eq!(unresolved["level"], "notice");
        assert!(unresolved["says"].as_str().unwrap().starts_with("1 operation waits for"), "{unresolved}");
    }
    // A person gets the same.
    let ended = doctor(&[]);
    assert!(ended.stdout.contains("3 answers and 0 tombstones are readable"), "{}", ended.stdout);
    // Looking changed nothing.
    assert!(gateway.ask(&pay("a")).is_replay());
    gateway.ask(&pay("cut")).assert_problem(409, "unresolved");
    assert_eq!(gateway.stop(), 0);
}

#[test]
fn an_upstream_that_the_gateway_cannot_reach_is_exit_code_1() {
    let upstream = Upstream::start();
    let place = Place::before("http://127.0.0.1:9");
    let gateway = place.start();
    let mut command = onceward(place.folder());
    command.args(["doctor", "--store", "embedded:records", "--upstream", &upstream.url(), "--json"]);
    let ended = run(command.args(["--admin", &gateway.admin.to_string()])).with_code(1);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let reachable = finding(told["findings"].as_array().unwrap(), "upstream-reachable");
    assert_eq!(reachable["level"], "error");
    assert!(reachable["says"].as_str().unwrap().contains("127.0.0.1:9"), "{reachable}");
}
