//! What stops a gateway from starting, and what it says when it starts.

use std::fs;
use std::net::TcpListener;

use crate::client::pay;
use crate::process::{Place, run};
use crate::snapshot::{assert_snapshot, without_number_after};
use crate::upstream::Upstream;

const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn a_store_that_cannot_be_opened_is_said_with_the_remedy() {
    let place = Place::before(NOBODY).with_store("embedded:a-file/records");
    fs::write(place.folder().join("a-file"), "").unwrap();
    let ended = run(&mut place.command()).with_code(4);
    assert_snapshot("store-cannot-be-made.txt", &ended.stderr);

    let place = Place::before(NOBODY);
    fs::create_dir(place.records()).unwrap();
    fs::write(place.records().join("FORMAT"), "onceward embedded store, layout 9\n").unwrap();
    let ended = run(&mut place.command()).with_code(4);
    assert_snapshot("store-of-another-format.txt", &ended.stderr);
    let format = fs::read_to_string(place.records().join("FORMAT")).unwrap();
    assert_eq!(format, "onceward embedded store, layout 9\n", "nothing is changed");
}

#[test]
fn a_token_that_cannot_be_used_is_said_with_the_remedy() {
    let place = Place::before(NOBODY);
    fs::create_dir(place.records()).unwrap();
    fs::write(place.records().join("admin.token"), "short").unwrap();
    let ended = run(&mut place.command()).with_code(4);
    assert_snapshot("token-too-short.txt", &ended.stderr);
}

#[test]
fn an_address_in_use_is_said_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, snapshot) in [("--listen", "listen-in-use.txt"), ("--admin", "admin-in-use.txt")] {
        let place = Place::before(NOBODY);
        let mut command = crate::process::onceward(place.folder());
        let other = if flag == "--listen" { "--admin" } else { "--listen" };
        command.args(["gateway", "--upstream", NOBODY, "--store", "memory:"]);
        let ended = run(command.args([flag, &address, other, "127.0.0.1:0"])).with_code(4);
        assert_snapshot(snapshot, &without_number_after("127.0.0.1:", &ended.stderr));
    }
}

#[test]
fn it_says_what_its_store_does_not_promise() {
    const ONE_ONLY: &str =
        "this store serves one gateway only: a second gateway with a store of its own protects nothing";
    const NOT_DURABLE: &str =
        "this store is not durable: a crash or a power cut can make an operation run twice";
    for (store, is_durable) in
        [("embedded:records", true), ("embedded:records?durability=relaxed", false), ("memory:", false)]
    {
        let place = Place::before(NOBODY).with_store(store);
        let gateway = place.start_with(&["--log", "json"]);
        gateway.process.until_says(ONE_ONLY);
        if !is_durable {
            assert_eq!(gateway.process.until_says(NOT_DURABLE)["level"], "WARN");
        }
        // Both are said before the first request is.
        gateway.ask(&pay("k"));
        let access = gateway.process.until_lines("onceward::access", 1);
        assert_eq!(access.len(), 1);
        let says = gateway.process.lines().iter().any(|it| it["message"] == NOT_DURABLE);
        assert_eq!(says, !is_durable, "{store}");
    }
}

#[test]
fn an_upstream_that_is_not_there_frees_the_key() {
    // Nobody listens on the port: it was taken and given back.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = Place::before(&format!("http://{address}"));
    let gateway = place.start();
    gateway.ask(&pay("k")).assert_problem(502, "upstream-unreachable");
    assert_eq!(gateway.record("k")["state"], "released");
}

#[test]
fn an_upstream_that_cuts_the_connection_leaves_the_key_unresolved() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    let gateway = Place::before(&url).start();
    let caller = pay("k").send_meanwhile(gateway.address);
    let (mut stream, _) = upstream.accept().unwrap();
    std::io::Read::read_exact(&mut stream, &mut [0; 4]).unwrap();
    drop(stream);
    caller.join().unwrap().unwrap().assert_problem(504, "outcome-unresolved");
    gateway.ask(&pay("k")).assert_problem(409, "unresolved");
    upstream.set_nonblocking(true).unwrap();
    assert!(upstream.accept().is_err(), "it was sent again");
}

#[test]
fn the_log_for_a_terminal_is_not_json() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    let process = place.begin_command(place.command().args(["--log", "human"]));
    let line = crate::wait::until("it says something", || {
        process.log().lines().find(|it| it.contains("the gateway is ready")).map(str::to_owned)
    });
    assert!(!line.starts_with('{') && line.contains("INFO"), "{line}");
    assert!(!line.contains('\u{1b}'), "colours in a file: {line}");
}
